"""Standalone proposals held to the room's policy, before others are told to commit them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from linearized.mls import ProposalInfo, PublicGroup
from linearized.protocol.state import StateMap
from linearized.room.credentials import client_of
from linearized.room.departures import listed
from linearized.room.leaves import identify
from linearized.room.policy import forbid, policy_of
from linearized.room.policy_actions import Action, check_action
from linearized.room.policy_commits import check_disruption, with_proposal
from linearized.room.policy_limits import check_limits
from linearized.room.proposals import Offer
from linearized.room.roles import has_policy
from linearized.room.tie import added_identity, resulting_app_data


def check_offered(group: PublicGroup, offer: Offer, state: StateMap) -> None:
    """Hold a checked offer to the policy of the room; without one it is held to nothing here.

    Args:
        group: with what is pending.
        state: the room's state before the offer.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``), or ``INVALID_COMMIT`` for a policy that cannot be.
    """
    app_data = group.app_data()
    if not has_policy(app_data):
        return
    before = policy_of(app_data, group.members())
    client = offer.proposer.client
    if client is None:
        # A provider that takes its users' clients out, or the hub. A policy can forbid the former.
        if before.operational is not None and not before.operational.external_proposal_allowed:
            forbid("The room takes no external proposals")
    else:
        action = Action(user_id=client.user_id, identity=_identity(group, offer))
        participants = listed(group)
        for proposal in offer.proposals:
            action = with_proposal(action, proposal, group, participants)
        check_disruption([action])
        check_action(before, action, app_data=app_data, state=state)
    proposals = (*group.proposals(), *offer.proposals)
    updates = [proposal for proposal in proposals if proposal.kind == "app_data_update"]
    after = policy_of({**app_data, **resulting_app_data(group, updates)}, ())
    check_limits(before, replace(after, clients=_clients_after(group, proposals)))


def _identity(group: PublicGroup, offer: Offer) -> bytes | None:
    leaf = offer.proposals[0].sender_leaf
    member = None if leaf is None else group.member(leaf)
    return None if member is None else member.identity


def _clients_after(group: PublicGroup, proposals: Sequence[ProposalInfo]) -> Counter[str]:
    removed = {proposal.removed_leaf for proposal in proposals}
    kept = (identify(member) for member in group.members() if member.leaf_index not in removed)
    added = (client_of(added_identity(proposal)) for proposal in proposals if proposal.kind == "add")
    return Counter(client.user_id for client in (*kept, *added))
