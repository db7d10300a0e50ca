"""Commits and messages that are wrong, late or of somebody else, and what a message says."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.mimi.handshake import GroupInfoOption
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserRolePair,
)
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.room.admission import ALGORITHM
from linearized.room.commits import verify_commit
from linearized.room.submissions import (
    ApplicationMessage,
    LocalEvent,
    Reason,
    Rejected,
)
from tests.room.support import (
    ALICE,
    BOB,
    CAROL,
    NOW,
    Member,
    grouped_room,
    handshake,
    loaded,
    new_room,
    refusal,
)

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


def test_a_message_that_cannot_be_taken_apart_is_malformed() -> None:
    _, alice, _ = grouped_room()
    submission = handshake(alice, alice.joined().commit())
    bundle = replace(submission.bundle, message=submission.bundle.message[:40])
    accepted = grouped_room()[2]
    assert accepted.group is not None
    with pytest.raises(Rejected) as raised:
        verify_commit(loaded(accepted.group), bundle, now=NOW)
    assert raised.value.code is Reason.MALFORMED
