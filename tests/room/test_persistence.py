"""What becomes of a room when its last participant has left: ``persistent_room`` of its base policy."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    UserRolePair,
    apply_update,
)
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import BASE_ROOM_POLICY
from linearized.mimi.policy.roles import SingleSourceRoleChangeTargets
from linearized.protocol.identifiers import user_uri
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Handshake, Reason
from tests.room.lpdus import lpdu
from tests.room.policy_rooms import OPEN, found_room
from tests.room.policy_support import USER, changed
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    MLS,
    NOW,
    Member,
    grouped_room,
    handshake,
    member,
    refusal,
    state_event,
)

DORA = "@dora:a.example"
PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})
LOBBY = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(USER,))
ENTERED = replace(
    OPEN, roles=changed(0, role_capabilities=(Capability.OPEN_JOIN,), authorized_role_changes=(LOBBY,))
)


def room_of(*, persistent: bool) -> tuple[Room, Member, Member, Accepted]:
    anna = Member(ANNA)
    base = BaseRoomPolicy(persistent_room=persistent).encode()
    room, alice, accepted = found_room(ENTERED, anna, initial=(PUBLIC,), more={BASE_ROOM_POLICY: base})
    return room, alice, anna, accepted


def external(who: Member, accepted: Accepted) -> Handshake:
    """An external commit by somebody who lists themself."""
    assert accepted.group is not None
    group = openmls.PublicGroup.observe(
        group_info=accepted.group.group_info, ratchet_tree=accepted.group.ratchet_tree, now=MLS.now
    )
    update = ParticipantListUpdate(added=(UserRolePair(user=user_uri(who.user_id), role_index=USER),))
    listed = apply_update(ParticipantListData.decode(group.app_data()[PARTICIPANT_LIST]), update)
    who.group, bundle = who.client.join_external(
        group_info=accepted.group.group_info,
        ratchet_tree=accepted.group.ratchet_tree,
        app_data_updates={PARTICIPANT_LIST: update.encode()},
        new_app_data={PARTICIPANT_LIST: listed.encode()},
    )
    return handshake(who, bundle)


def test_a_persistent_room_waits_for_whoever_comes_next() -> None:
    room, _, _, accepted = room_of(persistent=True)
    for user in (ANNA, ALICE):
        room.submit(member(user, "leave"), now=NOW)
    dora = Member(DORA)
    room.submit(member(DORA, "join"), now=NOW)
    room.submit(external(dora, accepted), now=NOW)
    dora.accept()
    assert dora.joined().epoch == room.epoch
    assert dora.joined().app_data()[BASE_ROOM_POLICY] == BaseRoomPolicy(persistent_room=True).encode()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_room_with_a_participant_left_is_open_whatever_its_policy(persistent: bool) -> None:
    room, alice, _, accepted = room_of(persistent=persistent)
    room.submit(member(ANNA, "leave"), now=NOW)
    room.submit(member(DORA, "join"), now=NOW)
    room.submit(external(Member(DORA), accepted), now=NOW)
    assert room.epoch == alice.joined().epoch + 1


def test_a_temporary_room_is_over_when_its_last_participant_has_left() -> None:
    room, alice, anna, accepted = room_of(persistent=False)
    room.submit(member(BOB, "invite", sender=ALICE), now=NOW)
    ciphertext = anna.message()
    for user in (ANNA, ALICE):
        room.submit(member(user, "leave"), now=NOW)
    for submission in (
        member(DORA, "join"),
        member(ANNA, "join"),
        lpdu("m.room.member", {"membership": "join"}, state_key=BOB),
        ciphertext,
        handshake(alice, alice.joined().commit()),
        external(Member(DORA), accepted),
    ):
        assert "temporary" in str(refusal(room, submission, Reason.FORBIDDEN))
    # Whoever was invited may still say that they will not come.
    room.submit(lpdu("m.room.member", {"membership": "leave"}, state_key=BOB), now=NOW)


def test_a_temporary_room_is_over_when_its_group_is_deleted() -> None:
    room, alice, anna, _ = room_of(persistent=False)
    room.submit(replace(alice.remove(anna), deletes_group=True), now=NOW)
    alice.accept()
    topic = state_event(ALICE, "m.room.topic", {"topic": "closed"})
    assert "temporary" in str(refusal(room, topic, Reason.FORBIDDEN))
    room.submit(member(ALICE, "leave"), now=NOW)


def test_a_room_without_a_policy_is_not_temporary() -> None:
    room, _, _ = grouped_room(initial=(PUBLIC,))
    room.submit(member(ALICE, "leave"), now=NOW)
    room.submit(member(ANNA, "join"), now=NOW)
