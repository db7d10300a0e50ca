"""Rooms with a policy from their first commit on: what is judged, and what it becomes in the log."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListUpdate,
    UserRolePair,
)
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.choice import POLICY_CHOICE
from linearized.mimi.policy.components import (
    ROLES_LIST,
)
from linearized.mimi.policy.presets import PRESETS
from linearized.mimi.policy.roles import RoleData
from linearized.protocol.identifiers import user_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import membership
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.policy_actions import Action
from linearized.room.policy_commits import actions_of
from linearized.room.room import Room
from linearized.room.submissions import Reason
from tests.room.policy_rooms import (
    OPEN,
    component,
    content,
    found_room,
    leaf_of,
    move,
    written,
)
from tests.room.policy_support import ADMIN, BANNED, GOVERNOR, USER, with_role
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    A,
    Member,
    handshake,
    member,
    new_room,
    participant_list,
    refusal,
    state_event,
)

# --- founding ---


def test_a_rooms_first_commit_makes_its_power_levels_follow_from_its_roles() -> None:
    room, _, accepted = found_room()
    assert written(accepted) == [("m.room.power_levels", "", None), ("m.mls.commit", None, None)]
    assert content(room)["users"] == {ALICE: 100}
    assert content(room)["kick"] == 0


@pytest.mark.parametrize(
    "users", [((ALICE, GOVERNOR), (BOB, USER)), ((BOB, GOVERNOR),), ((ALICE, BANNED),)], ids=str
)
def test_a_group_starts_with_its_creator_alone(users: tuple[tuple[str, int], ...]) -> None:
    data = {PARTICIPANT_LIST: participant_list(*users), **OPEN.components()}
    refusal(new_room(), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)


@pytest.mark.parametrize("choice", ["moderated", "unheard of"])
def test_a_group_has_the_policy_its_room_was_created_with(choice: str) -> None:
    data = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR)), **OPEN.components()}
    refusal(chosen_room(choice), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)
    refusal(chosen_room(choice), Member(ALICE).create(), Reason.INVALID_COMMIT)
    assert chosen_room("open").submit(Member(ALICE).create(app_data=data), now=NOW)


def chosen_room(choice: str) -> Room:
    room = Room(room_id=ROOM, version=get_version("dev.linearized.1"), identity=A, mls=MLS)
    creation = {
        "room_version": "dev.linearized.1",
        "encryption": {"algorithm": ALGORITHM},
        POLICY_CHOICE: choice,
    }
    room.submit(state_event(ALICE, "m.room.create", creation), now=NOW)
    room.submit(member(ALICE, "join"), now=NOW)
    return room


def test_a_policy_that_does_not_hold_makes_no_room() -> None:
    listed = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR))}
    for roles in (b"\xff", RoleData().encode()):
        data = {**listed, ROLES_LIST: roles}
        refusal(new_room(), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)


def test_a_room_without_a_policy_takes_no_roles_later() -> None:
    room, alice = new_room(), Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    change = component(alice, ROLES_LIST, OPEN.roles.encode())
    assert "0x0025" in str(refusal(room, change, Reason.INVALID_PROPOSAL))


# --- participants ---


def test_who_may_adds_users_and_a_role_becomes_a_power_level() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(alice.add(anna, role=ADMIN), now=NOW)
    assert written(accepted)[:3] == [
        ("m.room.member", ANNA, "invite"),
        ("m.room.member", ANNA, "join"),
        ("m.room.power_levels", "", None),
    ]
    assert user_level(room.state, ANNA) == 50
    assert user_level(room.state, BOB) == 0


def test_who_may_not_is_refused_as_not_allowed() -> None:
    bob = Member(BOB)
    room, _, _ = found_room(OPEN, bob)
    reason = refusal(room, bob.add(Member(CAROL), role=ADMIN), Reason.FORBIDDEN)
    assert "may not move anybody from role 0 to role 3" in str(reason)


def test_an_ordinary_user_of_an_open_room_adds_others_of_their_own() -> None:
    bob = Member(BOB)
    room, _, _ = found_room(OPEN, bob)
    room.submit(bob.add(Member(CAROL), role=USER), now=NOW)
    assert membership(room.state, CAROL) == "join"


def test_a_role_of_another_room_is_no_role() -> None:
    room, alice, _ = found_room()
    refusal(room, alice.add(Member(BOB), role=9), Reason.INVALID_COMMIT)


def test_a_new_role_becomes_a_new_power_level() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    room.submit(move(alice, BOB, ADMIN), now=NOW)
    assert content(room)["users"] == {ALICE: 100, BOB: 50}


def test_moving_a_user_within_a_power_level_writes_no_power_levels() -> None:
    bob = Member(BOB)
    moderated = PRESETS["moderated"]
    room, alice, _ = found_room(moderated, bob)
    accepted = room.submit(move(alice, BOB, 4), now=NOW)
    assert written(accepted) == [("m.mls.commit", None, None)]


def test_a_ban_is_a_role_without_clients_and_stays_in_the_list() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    assert written(accepted) == [("m.room.member", BOB, "ban"), ("m.mls.commit", None, None)]
    alice.accept()
    assert alice.participants().role_of(user_uri(BOB)) == BANNED
    # The next commit finds nothing amiss.
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)


def test_a_banned_user_keeps_no_client() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    reason = refusal(room, move(alice, BOB, BANNED), Reason.FORBIDDEN)
    assert "0 active participants of the role banned" in str(reason)


def test_a_banned_user_does_not_come_back_by_themself() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    refusal(room, bob.rejoin(accepted), Reason.FORBIDDEN)


def test_a_lifted_ban_invites_again_and_a_cleaned_up_one_does_not() -> None:
    for role, ends in ((USER, "invite"), (None, "leave")):
        bob = Member(BOB)
        room, alice, _ = found_room(OPEN, bob)
        room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
        alice.accept()
        change = move(alice, BOB, role) if role is not None else alice.remove(bob)
        accepted = room.submit(change, now=NOW)
        assert written(accepted)[0] == ("m.room.member", BOB, "leave")
        assert membership(room.state, BOB) == ends


def test_who_was_never_there_can_be_banned() -> None:
    room, alice, _ = found_room()
    update = ParticipantListUpdate(added=(UserRolePair(user=user_uri(BOB), role_index=BANNED),))
    accepted = room.submit(alice.change(update), now=NOW)
    assert written(accepted) == [("m.room.member", BOB, "ban"), ("m.mls.commit", None, None)]


def test_a_ban_in_the_log_is_listed_by_the_next_commit() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    room.submit(member(BOB, "ban", sender=ALICE), now=NOW)
    assert "must remove it" in str(refusal(room, handshake(alice, alice.joined().commit()), Reason.FORBIDDEN))
    alice.joined().clear_pending_commit()
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    assert written(accepted) == [("m.mls.commit", None, None)]


def test_a_direct_conversation_has_the_participants_it_was_made_with() -> None:
    room, alice, bob = new_room(), Member(ALICE), Member(BOB)
    direct = PRESETS["direct"]
    first = alice.create(app_data={PARTICIPANT_LIST: participant_list((ALICE, USER)), **direct.components()})
    alice.joined().clear_pending_commit()
    founded = replace(alice.add(bob, role=USER), initial_group=first.initial_group)
    accepted = room.submit(founded, now=NOW)
    alice.accept()
    bob.join(accepted)
    assert content(room)["users"] == {}
    assert "fixed" in str(refusal(room, alice.add(Member(CAROL), role=USER), Reason.FORBIDDEN))
    assert "fixed" in str(refusal(room, member(ALICE, "leave"), Reason.FORBIDDEN))


# --- messages ---


def test_messages_are_sent_by_roles_that_may() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(PRESETS["moderated"], bob)
    assert "canSendMessage" in str(refusal(room, bob.message(), Reason.FORBIDDEN))
    room.submit(alice.message(), now=NOW)
    promotion = move(alice, BOB, 4)
    room.submit(promotion, now=NOW)
    alice.accept()
    listed = {PARTICIPANT_LIST: alice.joined().app_data()[PARTICIPANT_LIST]}
    bob.joined().process(promotion.bundle.message, new_app_data=listed, now=MLS.now)
    room.submit(bob.message(), now=NOW)


# --- who did what ---


def test_a_proposal_by_reference_is_its_senders_and_the_hubs_own_is_nobodys() -> None:
    hub, alice, bob, carol = openmls.SignatureKeyPair.generate(), Member(ALICE), Member(BOB), Member(CAROL)
    alice.group = alice.client.create_group(
        group_id=b"group",
        app_data={PARTICIPANT_LIST: participant_list((ALICE, 2), (BOB, 1), (CAROL, 1))},
        external_senders=[(hub.public_key, b"mimi://a.example")],
    )
    added = alice.group.commit(add=[bob.key_package(), carol.key_package()])
    alice.accept()
    assert added.welcome is not None
    bob.group = bob.client.join_welcome(welcome=added.welcome, ratchet_tree=added.ratchet_tree)
    public = openmls.PublicGroup.observe(
        group_info=added.group_info, ratchet_tree=added.ratchet_tree, now=MLS.now
    )
    for proposal in (
        bob.group.propose_self_remove(),
        public.propose_remove(signer=hub, sender_index=0, leaf_index=leaf_of(alice, carol)),
    ):
        public.add_proposal(proposal, now=MLS.now)
        alice.group.process(proposal, now=MLS.now)
    staged = public.stage_commit(alice.group.commit().commit, now=MLS.now)
    assert {member.identity for member in staged.removed} == {bob.client.identity, carol.client.identity}
    assert list(actions_of(public, staged)) == [
        Action(user_id=ALICE, credential=alice.client.credential),
        Action(
            user_id=BOB,
            credential=bob.client.credential,
            removed=(BOB,),
            references=tuple(
                each.reference for each in staged.proposals if each.kind == "self_remove" and each.reference
            ),
        ),
    ]


def test_candestroyroom_ends_a_group_whatever_the_limits() -> None:
    for capable in (True, False):
        removed = frozenset() if capable else frozenset({Capability.DESTROY_ROOM})
        anna = Member(ANNA)
        room, alice, _ = found_room(
            replace(OPEN, roles=with_role(GOVERNOR, without=removed)), anna, role=ADMIN
        )
        ending = replace(alice.remove(anna), deletes_group=True)
        if capable:
            room.submit(ending, now=NOW)
            refusal(room, alice.message(), Reason.FORBIDDEN)
        else:
            assert "canDestroyRoom" in str(refusal(room, ending, Reason.FORBIDDEN))
