"""Commits and membership: what the tie lets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
)
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import user_uri
from linearized.protocol.state import membership
from linearized.protocol.versions import get_version
from linearized.room.parts import INITIAL_GROUP
from linearized.room.room import Room
from linearized.room.submissions import (
    Handshake,
    Reason,
)
from tests.room.party import PUBLIC
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
    grouped_room,
    handshake,
    loaded,
    member,
    new_room,
    participant_list,
    refusal,
    state_event,
)

# --- the first commit ---


def test_the_first_commit_brings_the_group_it_starts_from() -> None:
    room = new_room()
    alice = Member(ALICE)
    submission = alice.create()
    accepted = room.submit(submission, now=NOW)
    content = accepted.entries[-1].event.content
    assert room.epoch == accepted.entries[-1].epoch == 1
    assert decode_base64(content["message"]) == submission.bundle.message
    assert content[INITIAL_GROUP].keys() == {"group_info", "ratchet_tree"}
    assert "prev_commit_event_id" not in content
    assert accepted.group is not None
    assert openmls.PublicGroup.load(accepted.group.snapshot).epoch == 1


def test_a_room_id_serves_as_group_id_too() -> None:
    assert new_room().submit(Member(ALICE).create(name=ROOM.encode()), now=NOW)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda alice: replace(alice.create(), initial_group=None), Reason.INVALID_COMMIT),
        (lambda alice: replace(alice.create(), initial_group=(b"", b"")), Reason.MALFORMED),
        (lambda alice: alice.create(name=b"another"), Reason.INVALID_COMMIT),
        (lambda alice: alice.create(app_data={}), Reason.INVALID_COMMIT),
        (lambda alice: alice.create(app_data={PARTICIPANT_LIST: b"\xff"}), Reason.INVALID_COMMIT),
        (
            lambda alice: alice.create(app_data={PARTICIPANT_LIST: participant_list((ALICE, 2), (BOB, 1))}),
            Reason.INVALID_COMMIT,
        ),
        (lambda alice: Member(BOB).create(), Reason.FORBIDDEN),
    ],
    ids=["no group", "garbage", "other ID", "no participants", "bad participants", "two", "not joined"],
)
def test_a_first_commit_that_does_not_fit_is_refused(
    change: Callable[[Member], Handshake], code: Reason
) -> None:
    refusal(new_room(), change(Member(ALICE)), code)


def test_a_group_that_is_already_past_its_start_is_refused() -> None:
    alice = Member(ALICE)
    alice.create()
    alice.accept()
    group = alice.joined()
    later = handshake(alice, group.commit(), initial_group=group.group_info())
    refusal(new_room(), later, Reason.INVALID_COMMIT)


# --- adding ---


def test_adding_a_user_invites_and_joins_them_in_the_same_append() -> None:
    room, alice, _ = grouped_room()
    bob = Member(BOB)
    accepted = room.submit(alice.add(bob), now=NOW)
    shown = [
        (entry.event.type, entry.event.sender, entry.event.content.get("membership"))
        for entry in accepted.entries
    ]
    assert shown == [
        ("m.room.member", ALICE, "invite"),
        ("m.room.member", BOB, "join"),
        ("m.mls.commit", ALICE, None),
    ]
    provenance = accepted.entries[1].event.provenance
    assert provenance is not None
    assert provenance["protocol"] == "mimi"
    assert provenance["provider"] == "b.example"
    assert accepted.entries[-1].event.content["prev_commit_event_id"]
    assert membership(room.state, BOB) == "join"


def test_the_welcome_goes_to_the_packages_it_was_made_for() -> None:
    room, alice, _ = grouped_room()
    bob = Member(BOB)
    accepted = room.submit(alice.add(bob), now=NOW)
    (welcome,) = accepted.welcomes
    assert len(welcome.references) == 1
    assert welcome.commit_event_id == accepted.event_id
    bob.join(accepted)
    alice.accept()
    message = alice.joined().encrypt(b"hello Bob")
    assert bob.joined().process(message).plaintext == b"hello Bob"


def test_a_user_who_is_invited_or_joined_already_gets_no_second_entry() -> None:
    room, alice, _ = grouped_room(initial=[PUBLIC, member(ANNA, "join"), member(BOB, "invite", sender=ALICE)])
    accepted = room.submit(alice.add(Member(ANNA), Member(BOB)), now=NOW)
    assert [entry.event.content.get("membership") for entry in accepted.entries] == ["join", None]


def test_a_leaf_in_another_users_name_needs_a_key_package_their_provider_handed_out() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    forged = replace(alice.add(Member(CAROL)), introduced=frozenset())
    refusal(room, forged, Reason.FORBIDDEN)
    alice.joined().clear_pending_commit()
    own_phone = replace(bob.add(Member(BOB, "PHONE")), introduced=frozenset())
    assert room.submit(own_phone, now=NOW)


def test_a_local_user_submits_their_own_commits_only() -> None:
    anna = Member(ANNA)
    room, alice, accepted = grouped_room(anna)
    mallory = replace(Member(ALICE, "EVIL").rejoin(accepted), user_id=ANNA)
    refusal(room, mallory, Reason.FORBIDDEN)
    assert room.submit(replace(handshake(alice, alice.joined().commit()), user_id=ALICE), now=NOW)


def test_a_participant_without_a_leaf_is_invited_and_not_joined() -> None:
    room, alice, _ = grouped_room()
    listed = ParticipantListUpdate(added=(UserRolePair(user=user_uri(BOB), role_index=1),))
    accepted = room.submit(alice.change(listed), now=NOW)
    alice.accept()
    assert [entry.event.content.get("membership") for entry in accepted.entries] == ["invite", None]
    assert membership(room.state, BOB) == "invite"
    later = room.submit(alice.add(Member(BOB)), now=NOW)
    assert [entry.event.content.get("membership") for entry in later.entries] == ["join", None]
    assert membership(room.state, BOB) == "join"


def test_a_second_device_of_a_participant_changes_no_membership() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    accepted = room.submit(alice.add(Member(BOB, "PHONE")), now=NOW)
    assert [entry.event.type for entry in accepted.entries] == ["m.mls.commit"]


def test_a_second_leaf_for_one_client_is_refused() -> None:
    room, alice, _ = grouped_room(Member(BOB))
    refusal(room, alice.add(Member(BOB)), Reason.INVALID_COMMIT)


def test_a_leaf_without_a_place_in_the_participant_list_is_refused() -> None:
    room, alice, _ = grouped_room(initial=[PUBLIC, member(ANNA, "join")])
    refusal(room, alice.add(Member(ANNA), listed=False), Reason.FORBIDDEN)


def test_a_leaf_of_somebody_who_is_not_in_the_room_is_refused() -> None:
    room, alice, _ = grouped_room()
    refusal(room, alice.add(Member(BOB), listed=False), Reason.FORBIDDEN)


def test_a_participant_who_may_not_invite_cannot_add() -> None:
    levels = state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100}, "invite": 50})
    bob = Member(BOB)
    room, _, _ = grouped_room(bob, initial=[levels])
    refusal(room, bob.add(Member(CAROL)), Reason.FORBIDDEN)


def test_an_admin_role_becomes_a_power_level() -> None:
    room, alice, _ = grouped_room()
    accepted = room.submit(alice.add(Member(BOB), role=2), now=NOW)
    levels = accepted.entries[2].event
    assert levels.type == "m.room.power_levels"
    assert levels.content["users"] == {ALICE: 100, BOB: 100}


def test_a_changed_role_moves_the_power_level_and_a_moderator_keeps_theirs() -> None:
    levels = state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, CAROL: 50}})
    carol = Member(CAROL)
    room, alice, _ = grouped_room(carol, initial=[levels])
    assert room.state["m.room.power_levels", ""].content["users"][CAROL] == 50
    index = alice.participants().index_of(user_uri(CAROL))
    assert index is not None
    change = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=2),))
    room.submit(alice.change(change), now=NOW)
    assert room.state["m.room.power_levels", ""].content["users"][CAROL] == 100


def test_a_credential_that_names_nobody_is_refused() -> None:
    room, alice, _ = grouped_room()
    stranger = Member(BOB)
    stranger.client = openmls.Client.create(identity=b"somebody")
    refusal(room, alice.add(stranger, listed=False), Reason.INVALID_COMMIT)


# --- removing ---


def test_removing_a_user_takes_them_out_of_room_and_group_at_once() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    accepted = room.submit(alice.remove(bob), now=NOW)
    assert [(entry.event.type, entry.event.sender) for entry in accepted.entries] == [
        ("m.room.member", ALICE),
        ("m.mls.commit", ALICE),
    ]
    assert membership(room.state, BOB) == "leave"
    assert not accepted.welcomes


def test_a_device_of_a_user_who_stays_is_removed_by_its_own_user_only() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    room, alice, _ = grouped_room(bob, phone)
    refusal(room, alice.remove(phone, unlist=False), Reason.FORBIDDEN)
    assert room.submit(bob.remove(phone, unlist=False), now=NOW)


def test_who_may_not_kick_cannot_remove() -> None:
    bob, carol = Member(BOB), Member(CAROL)
    room, _, _ = grouped_room(bob, carol)
    refusal(room, bob.remove(carol), Reason.FORBIDDEN)


def test_after_a_leave_the_next_commit_has_to_remove_the_leaves() -> None:
    anna = Member(ANNA)
    room, alice, _ = grouped_room(anna)
    room.submit(member(ANNA, "leave"), now=NOW)
    error = refusal(room, alice.add(Member(BOB)), Reason.FORBIDDEN)
    assert ANNA in str(error)
    alice.joined().clear_pending_commit()
    accepted = room.submit(alice.remove(anna), now=NOW)
    assert [entry.event.type for entry in accepted.entries] == ["m.mls.commit"]


def test_a_user_who_left_cannot_send() -> None:
    anna = Member(ANNA)
    room, _, _ = grouped_room(anna)
    room.submit(member(ANNA, "leave"), now=NOW)
    refusal(room, anna.message(), Reason.FORBIDDEN)


# --- external commits ---


def test_a_client_that_lost_its_state_rejoins_by_replacing_its_leaf() -> None:
    bob = Member(BOB)
    room, alice, accepted = grouped_room(bob)
    rejoin = bob.rejoin(accepted)
    back = room.submit(rejoin, now=NOW)
    bob.accept()
    assert [entry.event.type for entry in back.entries] == ["m.mls.commit"]
    alice.joined().process(rejoin.bundle.message)
    assert len(alice.joined().members()) == 2
    assert bob.joined().process(alice.joined().encrypt(b"welcome back")).plaintext == b"welcome back"


def test_a_new_device_of_a_joined_user_joins_by_itself() -> None:
    room, _, accepted = grouped_room(Member(BOB))
    phone = Member(BOB, "PHONE")
    assert room.submit(phone.rejoin(accepted), now=NOW).entries


def test_an_external_commit_of_somebody_outside_is_refused() -> None:
    room, _, accepted = grouped_room()
    refusal(room, Member(BOB).rejoin(accepted), Reason.FORBIDDEN)


def test_a_rejoin_works_while_somebody_elses_removal_is_pending() -> None:
    anna, bob = Member(ANNA), Member(BOB)
    room, _, accepted = grouped_room(anna, bob)
    room.submit(member(ANNA, "leave"), now=NOW)
    assert room.submit(bob.rejoin(accepted), now=NOW)


def test_an_external_commit_cannot_replace_another_clients_leaf() -> None:
    anna, bob = Member(ANNA), Member(BOB)
    room, _, accepted = grouped_room(anna, bob)
    assert accepted.group is not None
    phone = Member(BOB, "PHONE")
    leaf = next(m.leaf_index for m in anna.joined().members() if m.identity == anna.client.identity)
    phone.group, bundle = phone.client.join_external(
        group_info=accepted.group.group_info, ratchet_tree=accepted.group.ratchet_tree, replace_leaf=leaf
    )
    refusal(room, handshake(phone, bundle), Reason.FORBIDDEN)


def test_a_room_restored_from_its_snapshot_goes_on_where_it_was() -> None:
    bob = Member(BOB)
    room, alice, accepted = grouped_room(bob)
    assert accepted.group is not None
    restored = Room(
        room_id=ROOM,
        version=get_version("dev.linearized.1"),
        identity=A,
        mls=MLS,
        vouched_domains=frozenset({"matrix.example"}),
        state=room.state,
        head=(room.head_seq, accepted.event_id),
        group=loaded(accepted.group),
        last_commit_id=accepted.event_id,
    )
    assert restored.submit(bob.message(), now=NOW).entries[0].seq == room.head_seq + 1
    restored.submit(handshake(alice, alice.joined().commit()), now=NOW)
    assert restored.epoch == 3
