"""Who is on the way out of a group: the removals that are pending in an epoch, and those still to propose.

Whoever leaves a room, by their own act or another's, is out of it at once; out of its MLS group only with the
next commit. "The hub thus guarantees the leaving client that they will be removed as soon as possible" (MIMI
protocol, Bob Leaves the Room): it makes the proposals that are missing, and takes no commit without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    UserIndexRolePair,
    changes,
)
from linearized.mimi.policy.roles import BANNED, RoleData
from linearized.mls import ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.identifiers import user_id_from_uri
from linearized.protocol.state import StateMap, membership
from linearized.room.credentials import ClientIdentity
from linearized.room.leaves import identify
from linearized.room.proposers import proposer_of
from linearized.room.roles import is_banned, roles_of
from linearized.room.standing import joined_users
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import participants_of, read_list

# Proposals of one epoch, of whomever. A commit names each in 35 bytes and has to fit into an event of 64 KiB
# together with its path; beyond it, who commits removes by value, which takes less room.
MAX_PENDING: Final = 256
# Users taken off the list by one proposal of the hub: eight bytes each, beside 63 removals in one event.
MAX_DELISTED: Final = 1024
# Who has been taken off the list and who was never on it; an invited user may be on it without a leaf.
_LISTED: Final = frozenset({"join", "invite"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Removals that nobody has proposed yet: leaves, and what becomes of the participant list."""

    leaves: tuple[int, ...]
    update: ParticipantListUpdate


def listed(group: PublicGroup) -> ParticipantListData:
    """The participant list of a group that has one; it was read when it was set."""
    return read_list(group.app_data()[PARTICIPANT_LIST])


def updates_of(proposals: Iterable[ProposalInfo]) -> Iterator[tuple[ProposalInfo, ParticipantListUpdate]]:
    """The participant list updates among verified proposals that the room has taken."""
    for proposal in proposals:
        if proposal.component_id == PARTICIPANT_LIST and proposal.payload is not None:
            yield proposal, ParticipantListUpdate.decode(proposal.payload)


def delisted_by(group: PublicGroup, proposals: Iterable[ProposalInfo]) -> dict[str, ProposalInfo]:
    """The users that proposals would take off the participant list, or into the role of the banned, and which
    proposal does.
    """
    updates = list(updates_of(proposals))
    if not updates:
        return {}  # the list may be long
    before, roles = listed(group), roles_of(group.app_data())
    found: dict[str, ProposalInfo] = {}
    for proposal, update in updates:
        change = changes(before, update)
        banned = (pair.user for pair in change.changed if is_banned(roles, pair.role_index))
        found |= {user_id_from_uri(user): proposal for user in (*change.removed, *banned)}
    return found


def missing_removals(group: PublicGroup, clients: Mapping[int, ClientIdentity], state: StateMap) -> Missing:
    """What has to be proposed so that nobody stays in the group who is not in the room.

    Args:
        clients: by leaf.
    """
    pending = group.proposals()
    leaving, joined = {proposal.removed_leaf for proposal in pending}, joined_users(state)
    leaves = [
        leaf for leaf, client in clients.items() if client.user_id not in joined and leaf not in leaving
    ]
    delisted, roles = delisted_by(group, pending), roles_of(group.app_data())
    removed: list[int] = []
    banned: list[UserIndexRolePair] = []
    for index, pair in enumerate(listed(group).participants):
        user_id = user_id_from_uri(pair.user)
        if user_id in joined or user_id in delisted or _may_be_listed(state, user_id, roles, pair.role_index):
            continue
        if membership(state, user_id) == "ban" and is_banned(roles, BANNED):
            banned.append(UserIndexRolePair(user_index=index, role_index=BANNED))
        else:
            removed.append(index)
    room = max(0, MAX_PENDING - len(pending))
    if not room:
        return Missing(leaves=(), update=ParticipantListUpdate())
    return Missing(
        leaves=tuple(leaves[: room - bool(removed or banned)]),
        update=ParticipantListUpdate(
            changed=tuple(banned[:MAX_DELISTED]), removed=tuple(removed[: max(0, MAX_DELISTED - len(banned))])
        ),
    )


def check_departures(group: PublicGroup, staged: StagedCommit, state: StateMap, *, hub: str) -> None:
    """Refuse a commit that leaves somebody in the group whose removal is pending.

    What counts is that they are gone: a member whose client could not read a proposal, because its sender
    made it so that only the hub can, removes them by value. Of an external commit no more can be asked than
    its joiner may do: "the new joiner MUST … include the SelfRemove Proposals in its external Commit by
    reference" (draft-ietf-mls-extensions, SelfRemove).

    Args:
        state: the state after the membership entries that the commit itself brings about.

    Raises:
        Rejected: ``INVALID_PROPOSAL`` with the references of what was left out.
    """
    removed = {member.leaf_index for member in staged.removed}
    left_out = [
        proposal
        for proposal in staged.unused_proposals
        if _is_leaf_removal(group, proposal, state, hub=hub, external=staged.is_external)
        and proposal.removed_leaf not in removed
    ]
    delisted = {} if staged.is_external else delisted_by(group, staged.unused_proposals)
    remaining = participants_of(staged.app_data) if delisted else {}
    left_out += [
        proposal
        for user_id, proposal in delisted.items()
        if user_id in remaining
        and not _may_be_listed(state, user_id, roles_of(staged.app_data), remaining[user_id])
    ]
    if left_out:
        raise Rejected(
            Reason.INVALID_PROPOSAL,
            "The commit leaves out removals that are pending",
            invalid_proposals=references(left_out),
        )


def _may_be_listed(state: StateMap, user_id: str, roles: RoleData | None, role: int) -> bool:
    current = membership(state, user_id)
    # Who is banned stays in the list, in the role of that name.
    return current in _LISTED or (current == "ban" and is_banned(roles, role))


def _is_leaf_removal(
    group: PublicGroup, proposal: ProposalInfo, state: StateMap, *, hub: str, external: bool
) -> bool:
    """Whether a proposal removes a leaf that still has to go; whoever came back in between may stay."""
    leaf = proposal.removed_leaf
    member = None if leaf is None else group.member(leaf)
    if member is None or (external and proposal.kind != "self_remove"):
        return False
    return proposer_of(group, proposal, hub=hub).may_remove(identify(member).user_id, state)


def references(proposals: Sequence[ProposalInfo]) -> tuple[bytes, ...]:
    """The references of proposals, each once; those by value have none."""
    found = dict.fromkeys(proposal.reference for proposal in proposals)
    return tuple(reference for reference in found if reference is not None)
