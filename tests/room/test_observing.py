"""What a participant holds its hub to in an encrypted room, and what it does about it: soft-fail."""

from __future__ import annotations

from typing import Any

import openmls
import pytest

from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.state import StateMap
from linearized.protocol.versions import get_version
from linearized.room.credentials import encode_credential
from linearized.room.observing import check_group_event
from linearized.room.replica import Replica
from linearized.room.room import Room
from linearized.room.submissions import Handshake, Reason, Rejected
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    NOW,
    ROOM,
    A,
    Member,
    grouped_room,
    handshake,
    member,
    new_room,
    state_event,
)

V1 = get_version("I.1")
PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})
OPEN = state_event(ALICE, "m.room.history_visibility", {"history_visibility": "world_readable"})


def forged(room: Room, kind: str, content: JsonObject, *, state_key: str | None = None) -> Event:
    """An event that the hub makes past its own checks."""
    return build_event(
        identity=A,
        version=V1,
        room_id=ROOM,
        type=kind,
        sender=ALICE,
        content=content,
        state_key=state_key,
        origin_server_ts=NOW,
        auth_events=[room.state["m.room.create", ""].event_id, room.state["m.room.member", ALICE].event_id],
        prev_events=[str(room.log.head[1])],
    )


def commit_of(room: Room, submission: Handshake, **changes: Any) -> Event:
    group_info = submission.bundle.group_info
    assert group_info is not None
    content: JsonObject = {
        "message": encode_base64(submission.bundle.message),
        "public_group_state": encode_base64(group_info.full or b""),
    }
    return forged(room, "m.mls.commit", content | changes)


def checked(event: Event, state: StateMap) -> None:
    check_group_event(event, event.content, state)


def plain_group(*, initial: tuple[Any, ...] = ()) -> tuple[Room, Member]:
    room = new_room(version="I.1", initial=initial)
    alice = Member(ALICE)
    room.submit(alice.create(app_data={}), now=NOW)
    alice.accept()
    return room, alice


def replica_of(room: Room) -> Replica:
    return Replica(
        version=room.version,
        hub="a.example",
        state=room.state,
        head=(room.head_seq, room.log.head[1]),
        grouped=True,
    )


def soft_failed(room: Room, event: Event) -> str:
    """Give the event to a replica, which has to soft-fail it and go on."""
    replica = replica_of(room)
    entry = replica.receive(event)
    assert entry.soft_failed is not None
    assert (entry.seq, entry.event) == (room.head_seq + 1, event)
    after = build_event(
        identity=A,
        version=V1,
        room_id=ROOM,
        type="m.room.topic",
        state_key="",
        sender=ALICE,
        content={},
        origin_server_ts=NOW,
        auth_events=list(event.auth_events),
        prev_events=[event.event_id],
    )
    assert replica.receive(after).soft_failed is None
    return entry.soft_failed


def test_what_an_honest_hub_takes_is_shown() -> None:
    bob, dave = Member(BOB), Member("@dave:d.example")
    room = new_room()
    replica = replica_of(room)
    alice = Member(ALICE)
    accepted = [room.submit(alice.create(), now=NOW)]
    alice.accept()
    accepted.append(room.submit(alice.add(bob, dave), now=NOW))
    alice.accept()
    accepted.append(room.submit(alice.remove(dave), now=NOW))
    alice.accept()
    accepted.append(room.submit(alice.message(), now=NOW))
    accepted.append(room.submit(bob.rejoin(accepted[2]), now=NOW))
    received = [replica.receive(entry.event) for one in accepted for entry in one.entries]
    assert [entry.soft_failed for entry in received] == [None] * len(received)
    assert [entry.event.type for entry in received].count("m.mls.commit") == 4


def test_a_device_of_somebody_who_is_not_joined() -> None:
    room, alice = plain_group()
    bundle = alice.joined().commit(add=[Member(ANNA).key_package()])
    assert ANNA in soft_failed(room, commit_of(room, handshake(alice, bundle)))


def test_in_a_world_readable_room_anybodys_device_may_be_added() -> None:
    room, alice = plain_group(initial=(OPEN,))
    bundle = alice.joined().commit(add=[Member(ANNA).key_package()])
    assert replica_of(room).receive(commit_of(room, handshake(alice, bundle))).soft_failed is None


def external(room: Room, joiner: Member, alice: Member) -> Handshake:
    group_info, tree = alice.joined().group_info()
    joiner.group, bundle = joiner.client.join_external(group_info=group_info, ratchet_tree=tree)
    return handshake(joiner, bundle)


def test_an_external_commit_of_another_user_than_its_sender() -> None:
    room, alice = plain_group(initial=(PUBLIC, member(ANNA, "join")))
    assert "another user" in soft_failed(room, commit_of(room, external(room, Member(ANNA), alice)))
    own = commit_of(room, external(room, Member(ALICE, "OTHER"), alice))
    assert replica_of(room).receive(own).soft_failed is None
    # As is one who joins the group and not the room.
    outside = {key: event for key, event in room.state.items() if key != ("m.room.member", ALICE)}
    with pytest.raises(Rejected, match="not joined"):
        checked(own, outside)


def test_what_epoch_a_commit_claims_is_for_members_to_judge() -> None:
    room, alice = plain_group()
    late = commit_of(room, handshake(alice, alice.joined().commit()))
    alice.joined().clear_pending_commit()
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    checked(forged(room, "m.mls.commit", late.content), room.state)


@pytest.mark.parametrize(
    "changes",
    [
        {"message": None},
        {"message": "!"},
        {"message": ""},
        {"message": "AAEAAgAA"},
        {"public_group_state": None},
        {"public_group_state": "!"},
    ],
)
def test_a_commit_without_its_parts(changes: JsonObject) -> None:
    room, alice = plain_group()
    assert soft_failed(room, commit_of(room, handshake(alice, alice.joined().commit()), **changes))


def test_a_commit_that_is_a_private_message_or_has_something_behind_it() -> None:
    room, alice = plain_group()
    private = encode_base64(alice.joined().encrypt(b"x"))
    submission = handshake(alice, alice.joined().commit())
    longer = encode_base64(submission.bundle.message + b"x")
    for message in (private, longer):
        assert soft_failed(room, commit_of(room, submission, message=message))


def test_a_leaf_that_names_nobody() -> None:
    room, alice = plain_group()
    stranger = Member(ANNA)
    stranger.client = openmls.Client.create(identity=b"nobody")
    bundle = alice.joined().commit(add=[stranger.key_package()])
    assert soft_failed(room, commit_of(room, handshake(alice, bundle)))


def test_a_leaf_with_the_drafts_credential_names_its_user() -> None:
    room, alice = plain_group(initial=(PUBLIC, member(ANNA, "join")))
    keys = openmls.SignatureKeyPair.generate()
    anna = Member(ANNA)
    anna.client = openmls.Client.create(
        identity=encode_credential(ANNA, "DEV", keys.public_key), signature_key=keys
    )
    bundle = alice.joined().commit(add=[anna.key_package()])
    assert replica_of(room).receive(commit_of(room, handshake(alice, bundle))).soft_failed is None


def test_plaintext_in_an_encrypted_room() -> None:
    room, _ = plain_group()
    assert "plaintext" in soft_failed(room, forged(room, "m.room.message", {"body": "x"}))
    assert soft_failed(room, forged(room, "m.mls.commit", {}, state_key=""))


def test_a_commit_in_a_room_that_is_not_encrypted() -> None:
    grouped, alice, _ = grouped_room()
    content = commit_of(grouped, handshake(alice, alice.joined().commit())).content
    room = new_room(version="I.1", encrypted=False)
    assert "not encrypted" in soft_failed(room, forged(room, "m.mls.commit", content))


def test_a_proposal_of_the_hub_that_is_none_is_soft_failed() -> None:
    room, alice, _ = grouped_room()
    good = encode_base64(alice.joined().propose_update())
    commit = encode_base64(alice.joined().commit().commit)
    checked(forged(room, "m.mls.proposal", {"message": good, "more_proposals": [good]}), room.state)
    for content in ({"message": commit}, {"message": good, "more_proposals": [good + "AA"]}, {}):
        with pytest.raises(Rejected) as refused:
            checked(forged(room, "m.mls.proposal", content), room.state)
        assert refused.value.code is Reason.MALFORMED


def test_a_proposal_in_a_room_that_is_not_encrypted_is_soft_failed() -> None:
    room = new_room(version="I.1", encrypted=False)
    with pytest.raises(Rejected) as refused:
        checked(forged(room, "m.mls.proposal", {"message": ""}), room.state)
    assert refused.value.code is Reason.FORBIDDEN
