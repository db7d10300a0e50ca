"""The draft's MLS Considerations beyond single commits: whose devices, which suite, and no way back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls
import pytest

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import client_uri
from linearized.protocol.versions import ROOM_VERSIONS, get_version
from linearized.room.admission import ALGORITHM, encryption_algorithm
from linearized.room.credentials import ClientIdentity, encode_credential
from linearized.room.room import Room
from linearized.room.submissions import Handshake, LinearizedPdu, LocalEvent, Reason
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
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
OPEN = state_event(ALICE, "m.room.history_visibility", {"history_visibility": "world_readable"})
P256 = "m.mls.v1.dhkemp256-aes128gcm-sha256-p256"


def plain_group(*initial: LocalEvent, version: str = "I.1") -> tuple[Room, Member]:
    """A room with a group that has no participant list, as Linearized Matrix servers make them."""
    room = new_room(version=version, initial=[PUBLIC, *initial])
    alice = Member(ALICE)
    room.submit(alice.create(app_data={}), now=NOW)
    alice.accept()
    return room, alice


def add(alice: Member, other: Member) -> Handshake:
    return handshake(alice, alice.joined().commit(add=[other.key_package()]))


def lpdu(event_type: str, content: JsonObject, *, state_key: str | None = None) -> LinearizedPdu:
    built = build_lpdu(
        identity=B,
        version=get_version("I.1"),
        room_id=ROOM,
        type=event_type,
        sender=BOB,
        content=content,
        origin_server_ts=NOW,
        hub_server=A.name,
        state_key=state_key,
    )
    return linearized_pdu(built, B, get_version("I.1"))


def commit_content(submission: Handshake, **more: Any) -> JsonObject:
    group_info = submission.bundle.group_info
    assert group_info is not None
    return {
        "message": encode_base64(submission.bundle.message),
        "public_group_state": encode_base64(group_info.full or b""),
        **more,
    }


# --- groups without a participant list ---


def test_a_group_of_linearized_matrix_alone_needs_no_participant_list() -> None:
    room, alice = plain_group(member(ANNA, "join"))
    accepted = room.submit(add(alice, Member(ANNA)), now=NOW)
    alice.accept()
    assert [entry.event.type for entry in accepted.entries] == ["m.mls.commit"]
    refusal(room, add(alice, Member("@arthur:a.example")), Reason.FORBIDDEN)


def test_without_a_list_too_the_devices_of_who_left_have_to_go() -> None:
    room, alice = plain_group(member(ANNA, "join"))
    anna = Member(ANNA)
    room.submit(add(alice, anna), now=NOW)
    alice.accept()
    room.submit(member(ANNA, "leave"), now=NOW)
    refusal(room, handshake(alice, alice.joined().commit()), Reason.FORBIDDEN)
    alice.joined().clear_pending_commit()
    room.submit(handshake(alice, alice.joined().commit(remove=[1])), now=NOW)
    assert room.epoch == 3


def test_rooms_that_mimi_providers_may_come_to_need_the_list() -> None:
    room = new_room(version="dev.linearized.1")
    refusal(room, Member(ALICE).create(app_data={}), Reason.INVALID_COMMIT)


def test_a_list_that_was_never_there_cannot_be_updated() -> None:
    room, alice = plain_group()
    update = participant_list((ALICE, 2))
    bundle = alice.joined().commit(
        app_data_updates={PARTICIPANT_LIST: update}, new_app_data={PARTICIPANT_LIST: update}
    )
    refusal(room, handshake(alice, bundle), Reason.INVALID_PROPOSAL)


# --- "or if the room is world readable" ---


def test_a_world_readable_room_takes_devices_of_users_who_did_not_join() -> None:
    room, alice = plain_group(OPEN)
    room.submit(add(alice, Member(ANNA)), now=NOW)
    alice.accept()
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    assert room.epoch == 3


def test_a_room_that_is_world_readable_no_more_has_to_remove_them() -> None:
    room, alice = plain_group(OPEN)
    room.submit(add(alice, Member(ANNA)), now=NOW)
    alice.accept()
    closed = state_event(ALICE, "m.room.history_visibility", {"history_visibility": "joined"})
    room.submit(closed, now=NOW)
    refusal(room, handshake(alice, alice.joined().commit()), Reason.FORBIDDEN)


def test_a_participant_list_has_no_place_for_readers() -> None:
    room, alice, _ = grouped_room(initial=[OPEN])
    refusal(room, add(alice, Member(ANNA)), Reason.FORBIDDEN)


# --- credentials ---


def test_a_leaf_with_the_draft_s_credential_names_its_own_key() -> None:
    room, alice = plain_group(member(ANNA, "join"))
    for key, code in ((b"x" * 32, Reason.INVALID_COMMIT), (None, None)):
        anna = Member(ANNA)
        keys = openmls.SignatureKeyPair.generate()
        named = keys.public_key if key is None else key
        anna.client = openmls.Client.create(
            identity=encode_credential(ANNA, "DEV", named), signature_key=keys
        )
        submission = add(alice, anna)
        if code is not None:
            refusal(room, submission, code)
            alice.joined().clear_pending_commit()
        else:
            room.submit(submission, now=NOW)
    assert room.epoch == 2


# --- no way back to less ---


@pytest.mark.parametrize("version", ROOM_VERSIONS)
@pytest.mark.parametrize("encryption", [{}, {"algorithm": "m.none"}, {"algorithm": 1}, None, "yes"])
def test_a_room_is_encrypted_as_its_hub_can_or_not_created(version: str, encryption: object) -> None:
    room = Room(room_id=ROOM, version=get_version(version), identity=A, mls=MLS)
    content = {"room_version": version, "encryption": encryption}
    create = LocalEvent(sender=ALICE, type="m.room.create", state_key="", content=content)
    refusal(room, create, Reason.FORBIDDEN)


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_neither_the_version_nor_the_encryption_of_a_room_can_change(version: str) -> None:
    room = new_room(version=version)
    again = {"room_version": version}
    refusal(room, state_event(ALICE, "m.room.create", again), Reason.FORBIDDEN)
    room.submit(state_event(ALICE, "m.room.encryption", {"algorithm": "m.none"}), now=NOW)
    assert encryption_algorithm(room.state) == ALGORITHM
    message = LocalEvent(sender=ALICE, type="m.room.message", content={"body": "plain"})
    refusal(room, message, Reason.FORBIDDEN)


def member_of_suite(ciphersuite: int) -> Member:
    alice = Member(ALICE)
    alice.client = openmls.Client.create(identity=client_uri(ALICE, "DEV").encode(), ciphersuite=ciphersuite)
    return alice


@pytest.mark.parametrize(("algorithm", "suite"), [(ALGORITHM, 2), (ALGORITHM, 3), (P256, 1)])
def test_a_group_of_another_cipher_suite_than_the_room_s_is_refused(algorithm: str, suite: int) -> None:
    room = new_room(algorithm=algorithm)
    refusal(room, member_of_suite(suite).create(), Reason.INVALID_COMMIT)


def test_a_room_can_have_another_suite_than_the_usual_one() -> None:
    room = new_room(algorithm=P256)
    alice = member_of_suite(2)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    message = room.submit(alice.message(), now=NOW).entries[0].event
    assert message.content["algorithm"] == P256
    other = {**message.content, "algorithm": ALGORITHM}
    event = LocalEvent(sender=ALICE, type="m.room.encrypted", content=other)
    refusal(room, event, Reason.MALFORMED)


# --- what devices have published ---


class Devices(dict[ClientIdentity, bytes]):
    """Signature keys as devices published them; ``get`` is the room's lookup."""

    def publish(self, device: Member, key: bytes | None = None) -> None:
        client = ClientIdentity(device.user_id, device.device_id)
        self[client] = key if key is not None else device.client.signature_key


def test_a_leaf_with_the_key_that_its_device_published_is_added() -> None:
    devices, bob = Devices(), Member(BOB)
    room, alice, _ = grouped_room(initial=[PUBLIC], published=devices.get)
    devices.publish(bob)
    devices.publish(alice)
    assert room.submit(alice.add(bob), now=NOW)


def test_a_leaf_with_another_key_than_its_device_published_is_not_added() -> None:
    devices, bob = Devices(), Member(BOB)
    room, alice, _ = grouped_room(initial=[PUBLIC], published=devices.get)
    devices.publish(bob, b"k" * 32)
    refused = refusal(room, alice.add(bob), Reason.FORBIDDEN)
    assert str(refused) == "The device DEV of @bob:b.example has published another signature key"


def test_a_device_with_another_key_than_it_published_does_not_join_from_outside() -> None:
    devices, bob = Devices(), Member(BOB)
    room, _, accepted = grouped_room(bob, initial=[PUBLIC], published=devices.get)
    devices.publish(bob)
    rejoin = bob.rejoin(accepted)  # with a new key
    refusal(room, rejoin, Reason.FORBIDDEN)
    devices.publish(bob)
    assert room.submit(rejoin, now=NOW)


def test_a_device_that_published_another_key_commits_no_more_and_another_of_its_user_removes_it() -> None:
    devices, phone = Devices(), Member(ALICE, "PHONE")
    room, alice, _ = grouped_room(phone, published=devices.get)
    devices.publish(phone, b"k" * 32)
    refusal(room, handshake(phone, phone.joined().commit()), Reason.FORBIDDEN)
    assert room.submit(alice.remove(phone, unlist=False), now=NOW)


def test_a_published_ed25519_key_says_nothing_of_a_room_whose_keys_are_of_p256() -> None:
    devices = Devices()
    room = new_room(algorithm=P256, published=devices.get)
    alice = member_of_suite(2)
    devices.publish(alice, b"k" * 32)
    assert room.submit(alice.create(), now=NOW)


# --- commit events of participants ---


def joined_group() -> tuple[Room, Member]:
    """Bob's room: he joined by Linearized Matrix, and is the group's creator."""
    room = new_room(version="I.1", initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    bob = Member(BOB)
    first = bob.create(app_data={})
    assert first.initial_group is not None
    group_info, tree = first.initial_group
    initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
    content = commit_content(first, **{"dev.linearized.initial_group_state": initial})
    room.submit(lpdu("m.mls.commit", content), now=NOW)
    bob.accept()
    return room, bob


def test_a_commit_names_the_commit_before_it_or_none() -> None:
    room, bob = joined_group()
    submission = handshake(bob, bob.joined().commit())
    wrongs: list[object] = ["$other", 5, []]
    for wrong in wrongs:
        content = commit_content(submission, prev_commit_event_id=wrong)
        refusal(room, lpdu("m.mls.commit", content), Reason.FORBIDDEN)
    room.submit(
        lpdu("m.mls.commit", commit_content(submission, prev_commit_event_id=room.last_commit_id)), now=NOW
    )
    bob.accept()
    room.submit(lpdu("m.mls.commit", commit_content(handshake(bob, bob.joined().commit()))), now=NOW)
    assert room.epoch == 3


def test_a_commit_is_a_public_message() -> None:
    room, bob = joined_group()
    submission = handshake(bob, bob.joined().commit())
    private = replace(submission.bundle, message=bob.joined().encrypt(b"x"))
    for message in (private.message, submission.bundle.message + b"x", b""):
        content = commit_content(replace(submission, bundle=replace(submission.bundle, message=message)))
        refusal(room, lpdu("m.mls.commit", content), Reason.MALFORMED)
