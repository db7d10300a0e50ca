"""Standalone proposals in rooms with a policy: judged when the hub takes them, not by who commits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate, UserIndexRolePair
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import MLS_OPERATIONAL_POLICY, ROLES_LIST
from linearized.mimi.policy.presets import PRESETS
from linearized.mimi.policy.roles import RoleData
from linearized.protocol.identifiers import user_uri
from linearized.protocol.state import membership
from linearized.room.submissions import Reason
from tests.room.party import (
    B_KEY,
    B_SENDER,
    HUB_SENDER,
    Party,
    commit_pending,
    leaf_of,
    leave,
    offer,
    propose_update,
    references,
)
from tests.room.policy_rooms import operational
from tests.room.policy_support import ADMIN, BANNED, GOVERNOR, OPEN, USER, changed, with_role
from tests.room.support import ALICE, ANNA, BOB, CAROL, Member, member, participant_list, refusal


def party(
    *others: Member, roles: RoleData = OPEN, role: int = USER, more: Mapping[int, bytes] | None = None
) -> Party:
    components = replace(PRESETS["open"], roles=roles).components()
    listed = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR))}
    return Party(
        *others,
        senders=(HUB_SENDER, B_SENDER),
        app_data={**listed, **components, **(more or {})},
        role=role,
    )


def test_a_user_leaves_by_proposals_and_whoever_commits_needs_no_capability_for_it() -> None:
    bob, carol = Member(BOB), Member(CAROL)
    room = party(bob, carol, roles=with_role(USER, without=frozenset({Capability.REMOVE_PARTICIPANT})))
    room.submit(leave(bob), by=bob)
    assert membership(room.room.state, BOB) == "leave"
    room.submit(commit_pending(carol), by=carol)
    room.agree()


def test_who_may_not_leave_proposes_it_in_vain() -> None:
    bob = Member(BOB)
    room = party(bob, roles=with_role(USER, without=frozenset({Capability.REMOVE_SELF})))
    assert "canRemoveSelf" in str(refusal(room.room, leave(bob), Reason.FORBIDDEN))


def test_adding_a_user_is_judged_by_who_proposes_it() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    room = party(bob)
    package = anna.key_package()
    proposals = (propose_update(bob, added=[ANNA], role=ADMIN), bob.joined().propose_add(package))
    made = offer(bob, *proposals, introduced=[anna.client.credential])
    assert "from role 0 to role 3" in str(refusal(room.room, made, Reason.FORBIDDEN))
    proposals = (propose_update(bob, added=[ANNA], role=USER), bob.joined().propose_add(package))
    room.submit(offer(bob, *proposals, introduced=[anna.client.credential]), by=bob)
    accepted = room.submit(commit_pending(room.alice), by=room.alice)
    anna.join(accepted)
    assert membership(room.room.state, ANNA) == "join"


def test_proposals_are_held_to_the_limits_together_with_what_is_pending() -> None:
    bob, carol = Member(BOB), Member(CAROL)
    room = party(bob, carol, role=USER, roles=changed(USER, minimum_participants_constraint=1))
    room.submit(leave(bob), by=bob)
    assert "demands 1 participants" in str(refusal(room.room, leave(carol), Reason.FORBIDDEN))


def test_new_roles_and_new_participants_are_not_proposed_together() -> None:
    bob = Member(BOB)
    room = party(bob, roles=with_role(USER, Capability.CHANGE_ROLE_DEFINITIONS))
    roles = bob.joined().propose_app_data_update(ROLES_LIST, OPEN.encode())
    both = offer(bob, roles, propose_update(bob, added=[ANNA], role=USER))
    assert "same commit" in str(refusal(room.room, both, Reason.FORBIDDEN))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_room_may_refuse_proposals_from_outside(allowed: bool) -> None:
    bob = Member(BOB)
    more = {MLS_OPERATIONAL_POLICY: operational(external_commits=True, external_proposals=allowed)}
    room = party(bob, more=more)
    removal = room.group_of_hub().propose_remove(
        signer=B_KEY, sender_index=1, leaf_index=leaf_of(room.alice, bob)
    )
    if allowed:
        room.submit(offer(bob, removal))
        assert len(references(room.room)) == 1
    else:
        assert "external proposals" in str(refusal(room.room, offer(bob, removal), Reason.FORBIDDEN))


def test_a_provider_of_a_room_that_says_nothing_of_it_takes_its_clients_out() -> None:
    bob = Member(BOB)
    room = party(bob)
    removal = room.group_of_hub().propose_remove(
        signer=B_KEY, sender_index=1, leaf_index=leaf_of(room.alice, bob)
    )
    room.submit(offer(bob, removal))
    assert len(references(room.room)) == 1


def test_a_ban_in_the_log_is_committed_as_a_removal_or_as_a_ban() -> None:
    for stays in (False, True):
        bob = Member(BOB)
        room = party(bob)
        room.submit(member(BOB, "ban", sender=ALICE))
        index = room.alice.participants().index_of(user_uri(BOB))
        assert index is not None
        if not stays:
            gone, leaf = ParticipantListUpdate(removed=(index,)), leaf_of(room.alice, bob)
            commit = commit_pending(room.alice, update=gone, remove=[leaf], pending=False)
            room.submit(commit, by=room.alice)
            assert room.alice.participants().role_of(user_uri(BOB)) is None
            continue
        banned = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=BANNED),))
        commit = commit_pending(room.alice, update=banned, remove=[leaf_of(room.alice, bob)], pending=False)
        room.submit(commit, by=room.alice)
        assert room.alice.participants().role_of(user_uri(BOB)) == BANNED
        # Nobody proposes to clean that up.
        room.submit(member(BOB, "ban", sender=ALICE))
        assert references(room.room) == []
