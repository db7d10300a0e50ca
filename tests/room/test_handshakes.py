"""Commits, messages and membership: what the tie lets through, and every way it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import openmls
import pytest

from linearized.mimi.handshake import GroupInfoOption
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
)
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.protocol.state import membership
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.commits import verify_commit
from linearized.room.parts import INITIAL_GROUP
from linearized.room.room import Room
from linearized.room.submissions import (
    ApplicationMessage,
    GroupUpdate,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    Reason,
    Rejected,
)
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    A,
    B,
    Member,
    grouped_room,
    handshake,
    linearized_pdu,
    member,
    new_room,
    participant_list,
    refusal,
    state_event,
)

PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})


def loaded(group: GroupUpdate) -> openmls.PublicGroup:
    return MLS.load(group.snapshot, group_info=group.group_info, ratchet_tree=group.ratchet_tree)


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


# --- commits that are wrong ---


def test_of_two_commits_in_one_epoch_the_second_hears_the_new_epoch() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    late = handshake(bob, bob.joined().commit())
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    error = refusal(room, late, Reason.WRONG_EPOCH)
    assert error.current_epoch == room.epoch == 3


def test_a_late_commit_hears_the_new_epoch_even_if_its_content_has_become_impossible() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    late = bob.add(Member(CAROL))
    room.submit(alice.add(Member(CAROL)), now=NOW)
    assert refusal(room, late, Reason.WRONG_EPOCH).current_epoch == 3


def test_a_commit_with_a_flipped_byte_in_its_signature_is_refused() -> None:
    room, alice, _ = grouped_room()
    good = handshake(alice, alice.joined().commit())
    message = bytearray(good.bundle.message)
    message[-80] ^= 1  # confirmation and membership tag, 33 bytes each, come after the signature
    bad = replace(good, bundle=replace(good.bundle, message=bytes(message)))
    refusal(room, bad, Reason.INVALID_COMMIT)


def test_a_group_info_of_another_epoch_is_refused() -> None:
    room, alice, accepted = grouped_room()
    assert accepted.group is not None
    good = handshake(alice, alice.joined().commit())
    stale = GroupInfoOption(full=accepted.group.group_info)
    refusal(room, replace(good, bundle=replace(good.bundle, group_info=stale)), Reason.INVALID_COMMIT)


def test_a_provider_speaks_for_its_own_users_only() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    forged = replace(handshake(alice, alice.joined().commit()), provider="b.example")
    refusal(room, forged, Reason.FORBIDDEN)
    refusal(room, replace(bob.message(), provider="a.example"), Reason.FORBIDDEN)
    refusal(room, replace(bob.message(), sending_uri="https://b.example/u/bob"), Reason.MALFORMED)


def test_two_updates_of_one_component_or_of_an_unknown_one_are_refused() -> None:
    room, alice, _ = grouped_room()
    unknown = alice.joined().commit(app_data_updates={0x0F00: b"x"}, new_app_data={0x0F00: b"x"})
    refusal(room, handshake(alice, unknown), Reason.INVALID_PROPOSAL)


def test_room_metadata_is_replaced_as_a_whole() -> None:
    room, alice, _ = grouped_room()
    update = alice.joined().commit(
        app_data_updates={ROOM_METADATA: b"name"}, new_app_data={ROOM_METADATA: b"name"}
    )
    accepted = room.submit(handshake(alice, update), now=NOW)
    assert accepted.group is not None
    assert openmls.PublicGroup.load(accepted.group.snapshot).app_data()[ROOM_METADATA] == b"name"


def test_a_malformed_participant_update_is_refused() -> None:
    room, alice, _ = grouped_room()
    current = alice.joined().app_data()[PARTICIPANT_LIST]
    bad = alice.joined().commit(
        app_data_updates={PARTICIPANT_LIST: b"\xff"}, new_app_data={PARTICIPANT_LIST: current}
    )
    refusal(room, handshake(alice, bad), Reason.INVALID_PROPOSAL)


def test_a_role_this_room_does_not_have_is_refused() -> None:
    room, alice, _ = grouped_room()
    refusal(room, alice.add(Member(BOB), role=7), Reason.INVALID_COMMIT)


def test_a_participant_that_is_no_user_is_refused() -> None:
    room, alice, _ = grouped_room()
    added = ParticipantListUpdate(added=(UserRolePair(user="mimi://b.example/x/bob", role_index=1),))
    refusal(room, alice.change(added), Reason.INVALID_COMMIT)


def test_a_welcome_that_is_none_is_refused() -> None:
    room, alice, _ = grouped_room()
    good = alice.add(Member(BOB))
    refusal(room, replace(good, bundle=replace(good.bundle, welcome=b"\0")), Reason.MALFORMED)


# --- messages ---


def test_a_message_names_its_sender_and_the_commit_of_its_epoch() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    accepted = room.submit(bob.message(b"from Bob"), now=NOW)
    event = accepted.entries[0].event
    assert event.type == "m.room.encrypted"
    assert event.sender == BOB
    assert event.content["commit_event_id"] == room.last_commit_id
    ciphertext = decode_base64(event.content["ciphertext"])
    assert alice.joined().process(ciphertext).plaintext == b"from Bob"


def test_a_bridged_users_message_comes_through_our_own_provider() -> None:
    carol = Member(CAROL)
    room, _, _ = grouped_room(carol)
    assert room.submit(carol.message(), now=NOW)


def test_a_message_of_a_past_epoch_is_refused() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    late = bob.message()
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    assert refusal(room, late, Reason.WRONG_EPOCH).current_epoch == 3


def test_what_is_no_message_of_this_group_is_refused() -> None:
    room, alice, _ = grouped_room()
    other = Member(ALICE)
    other.create(name=b"another group")
    other.accept()
    refusal(room, other.message(), Reason.MALFORMED)
    commit = handshake(alice, alice.joined().commit()).bundle.message
    sending_uri = user_uri(ALICE)
    refusal(
        room,
        ApplicationMessage(message=commit, sending_uri=sending_uri, provider="a.example"),
        Reason.MALFORMED,
    )
    refusal(
        room,
        ApplicationMessage(message=b"\0", sending_uri=sending_uri, provider="a.example"),
        Reason.MALFORMED,
    )


def test_a_local_ciphertext_is_held_to_algorithm_and_encoding() -> None:
    room, alice, _ = grouped_room()
    good: JsonObject = {"algorithm": ALGORITHM, "ciphertext": encode_base64(alice.joined().encrypt(b"x"))}
    for bad in (
        good | {"algorithm": "m.megolm.v1.aes-sha2"},
        good | {"ciphertext": "not base64!"},
        good | {"ciphertext": 5},
    ):
        refusal(room, LocalEvent(sender=ALICE, type="m.room.encrypted", content=bad), Reason.MALFORMED)
    assert room.submit(LocalEvent(sender=ALICE, type="m.room.encrypted", content=good), now=NOW)


def test_no_message_before_the_group_exists() -> None:
    alice = Member(ALICE)
    alice.create()
    alice.accept()
    refusal(new_room(), alice.message(), Reason.FORBIDDEN)


# --- Linearized Matrix participants ---


def commit_lpdu(submission: Handshake, extra: JsonObject | None = None) -> LinearizedPdu:
    group_info = submission.bundle.group_info
    assert group_info is not None
    assert group_info.full is not None
    content: JsonObject = {
        "message": encode_base64(submission.bundle.message),
        "public_group_state": encode_base64(group_info.full),
        **(extra or {}),
    }
    return lpdu("m.mls.commit", content)


def lpdu(
    event_type: str, content: JsonObject, *, sender: str = BOB, state_key: str | None = None
) -> LinearizedPdu:
    built = build_lpdu(
        identity=B,
        version=get_version("dev.linearized.1"),
        room_id=ROOM,
        type=event_type,
        sender=sender,
        content=content,
        origin_server_ts=NOW,
        hub_server=A.name,
        state_key=state_key,
    )
    return linearized_pdu(built, B, get_version("dev.linearized.1"))


def linearized_room(*others: Member) -> tuple[Room, Member]:
    """A room that Bob joined by Linearized Matrix before he was added to the group."""
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    alice = Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    accepted = room.submit(alice.add(*others), now=NOW)
    alice.accept()
    for other in others:
        other.join(accepted)
    return room, alice


def test_a_participants_commit_event_moves_the_group() -> None:
    bob = Member(BOB)
    room, alice = linearized_room(bob)
    submission = handshake(bob, bob.joined().commit())
    accepted = room.submit(commit_lpdu(submission), now=NOW)
    assert room.epoch == 3
    assert accepted.entries[0].event.pdu["signatures"].keys() == {"a.example", "b.example"}
    alice.joined().process(submission.bundle.message)


def test_a_participant_can_create_the_group() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    submission = Member(BOB).create(role=1)
    assert submission.initial_group is not None
    refusal(room, commit_lpdu(submission), Reason.INVALID_COMMIT)
    group_info, tree = submission.initial_group
    initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
    room.submit(commit_lpdu(submission, {INITIAL_GROUP: initial}), now=NOW)
    assert room.epoch == 1


def test_a_groups_creator_has_the_role_of_their_power_level() -> None:
    room = new_room(initial=[PUBLIC, member(ANNA, "join")])
    refusal(room, Member(ANNA).create(role=2), Reason.INVALID_COMMIT)
    assert room.submit(Member(ANNA).create(role=1), now=NOW)


def test_a_commit_event_is_refused_when_sender_and_committer_differ() -> None:
    bob, other = Member(BOB), Member("@bill:b.example")
    room, _ = linearized_room(bob, other)
    submission = handshake(other, other.joined().commit())
    refusal(room, commit_lpdu(submission), Reason.FORBIDDEN)


def test_a_commit_event_without_its_parts_is_malformed() -> None:
    room, _ = linearized_room(Member(BOB))
    refusal(room, lpdu("m.mls.commit", {}), Reason.MALFORMED)
    for message in ("!", "AAAA"):
        content: JsonObject = {"message": message, "public_group_state": ""}
        refusal(room, lpdu("m.mls.commit", content), Reason.MALFORMED)


def test_a_participants_external_commit_rejoins() -> None:
    bob = Member(BOB)
    room, alice = linearized_room(bob)
    accepted = room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    alice.accept()
    room.submit(commit_lpdu(bob.rejoin(accepted)), now=NOW)
    assert room.epoch == 4


def test_a_participants_commit_has_to_agree_with_the_room() -> None:
    anna, bob = Member(ANNA), Member(BOB)
    room, _ = linearized_room(anna, bob)
    room.submit(member(ANNA, "leave"), now=NOW)
    refusal(room, commit_lpdu(handshake(bob, bob.joined().commit())), Reason.FORBIDDEN)


def test_a_participants_commit_event_changes_neither_roles_nor_who_participates() -> None:
    bob = Member(BOB)
    room, _ = linearized_room(bob)
    index = bob.participants().index_of(user_uri(BOB))
    assert index is not None
    promotion = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=2),))
    refusal(room, commit_lpdu(bob.change(promotion)), Reason.FORBIDDEN)
    bob.joined().clear_pending_commit()
    room.submit(lpdu("m.room.member", {"membership": "invite"}, sender=BOB, state_key=CAROL), now=NOW)
    listing = ParticipantListUpdate(added=(UserRolePair(user=user_uri(CAROL), role_index=1),))
    room.submit(commit_lpdu(bob.change(listing)), now=NOW)


def test_a_participants_first_commit_lists_its_creator_alone() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    listed = {PARTICIPANT_LIST: participant_list((BOB, 1), (ALICE, 1))}
    submission = Member(BOB).create(app_data=listed)
    assert submission.initial_group is not None
    group_info, tree = submission.initial_group
    initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
    refusal(room, commit_lpdu(submission, {INITIAL_GROUP: initial}), Reason.INVALID_COMMIT)


def test_a_participants_message_and_proposal_events() -> None:
    bob = Member(BOB)
    room, _ = linearized_room(bob)
    content = {"algorithm": ALGORITHM, "ciphertext": encode_base64(bob.joined().encrypt(b"x"))}
    refusal(room, lpdu("m.room.encrypted", content), Reason.MALFORMED)
    content["commit_event_id"] = room.last_commit_id or ""
    assert room.submit(lpdu("m.room.encrypted", content), now=NOW)
    refusal(room, lpdu("m.mls.proposal", {"message": ""}), Reason.FORBIDDEN)


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


def test_a_message_that_cannot_be_taken_apart_is_malformed() -> None:
    _, alice, _ = grouped_room()
    submission = handshake(alice, alice.joined().commit())
    bundle = replace(submission.bundle, message=submission.bundle.message[:40])
    accepted = grouped_room()[2]
    assert accepted.group is not None
    with pytest.raises(Rejected) as raised:
        verify_commit(loaded(accepted.group), bundle, now=NOW)
    assert raised.value.code is Reason.MALFORMED
