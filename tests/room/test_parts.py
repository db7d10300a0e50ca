"""Commits that are larger than an event: divided by the hub, put together by whoever reads its log."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import MAX_EVENT_BYTES
from linearized.protocol.versions import get_version
from linearized.room import parts
from linearized.room.admission import COMMIT, COMMIT_PART
from linearized.room.parts import INITIAL_GROUP, PARTS, PartWalk, divide, number_of_parts
from linearized.room.replica import Replica
from linearized.room.room import Room
from linearized.room.submissions import Accepted, LocalEvent, Reason, Rejected
from tests.room.lpdus import lpdu
from tests.room.support import (
    ALICE,
    BOB,
    NOW,
    Member,
    grouped_room,
    handshake,
    new_room,
    refusal,
    state_event,
)

SMALL: JsonObject = {"message": "AAEC", "public_group_state": "AA", "prev_commit_event_id": "$a"}


@pytest.fixture
def small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an event could hold a few hundred bytes of a commit, so that a small group has large ones."""
    monkeypatch.setattr(parts, "MAX_PIECE", 500)


def large(size: int) -> JsonObject:
    return {**SMALL, "message": "A" * size}


def joined(pieces: list[JsonObject], content: JsonObject) -> JsonObject:
    walk = PartWalk()
    for piece in pieces:
        assert walk.take(COMMIT_PART, piece) == piece
    return walk.take(COMMIT, content)


# --- division ---


def test_a_commit_that_fits_is_left_as_it_is() -> None:
    assert divide(SMALL) == ([], SMALL)
    assert joined([], SMALL) == SMALL


@pytest.mark.parametrize("size", [60_000, 119_900, 120_000, 1_000_000])
def test_a_larger_one_comes_out_as_it_went_in(size: int) -> None:
    content = large(size) | {INITIAL_GROUP: {"group_info": "AA", "ratchet_tree": "AAA"}}
    pieces, rest = divide(content)
    assert len(pieces) == number_of_parts(rest) == -(-(size + 120) // 60_000)
    assert rest.keys() == {"prev_commit_event_id", PARTS}
    assert joined(pieces, rest) == content


def test_a_commit_has_a_largest_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PARTS", 2)
    assert len(divide(large(119_900))[0]) == 2
    with pytest.raises(Rejected) as refused:
        divide(large(120_000))
    assert refused.value.code is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "said", ["two", {}, {"count": True}, {"count": 0}, {"count": parts.MAX_PARTS + 1}, {"count": "2"}]
)
def test_what_is_no_number_of_parts_is_malformed(said: Any) -> None:
    with pytest.raises(Rejected) as refused:
        number_of_parts({PARTS: said})
    assert refused.value.code is Reason.MALFORMED


def in_parts(text: str) -> tuple[list[JsonObject], JsonObject]:
    return [{"piece": text}], {PARTS: {"count": 1, "sha256": encode_base64(sha256(text.encode()).digest())}}


BROKEN: list[tuple[list[JsonObject], JsonObject]] = [
    (divide(large(70_000))[0][:1], divide(large(70_000))[1]),  # one is missing
    (divide(large(70_000))[0][::-1], divide(large(70_000))[1]),  # they are in another order
    (divide(large(70_000))[0], SMALL),  # they are not asked for
    ([{"piece": "a"}, {}], divide(large(70_000))[1]),
    ([{"piece": 1}, {"piece": "{}"}], divide(large(70_000))[1]),
    (divide(large(70_000))[0], {PARTS: {"count": 2}}),
    in_parts("[]"),
    in_parts("{"),
    in_parts('{"message": 0.5}'),
    in_parts('{"prev_commit_event_id": "$b"}'),  # that is the commit's own to say
    (in_parts('{"message": "AA"}')[0], in_parts('{"message": "AA"}')[1] | {"message": "AB"}),
]


@pytest.mark.parametrize(("pieces", "content"), BROKEN)
def test_parts_that_are_not_what_the_commit_says_are_refused(
    pieces: list[JsonObject], content: JsonObject
) -> None:
    with pytest.raises(Rejected) as refused:
        joined(pieces, content)
    assert refused.value.code is Reason.MALFORMED


def test_parts_belong_to_the_commit_right_behind_them() -> None:
    pieces, rest = divide(large(70_000))
    walk = PartWalk()
    for piece in pieces:
        walk.take(COMMIT_PART, piece)
    with pytest.raises(Rejected, match="before what is none"):
        walk.take("m.room.encrypted", {})
    assert walk.take("m.room.encrypted", {"a": 1}) == {"a": 1}
    with pytest.raises(Rejected, match="another number"):
        walk.take(COMMIT, rest)


def test_a_walk_can_begin_behind_parts() -> None:
    pieces, rest = divide(large(70_000))
    walk = PartWalk(pieces[:1])
    walk.take(COMMIT_PART, pieces[1])
    assert walk.take(COMMIT, rest) == large(70_000)


def test_no_more_parts_are_held_than_a_commit_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PARTS", 2)
    walk = PartWalk([{"piece": "a"}, {"piece": "b"}])
    with pytest.raises(Rejected, match="More than 2"):
        walk.take(COMMIT_PART, {"piece": "c"})
    assert walk.take(COMMIT, SMALL) == SMALL


# --- at the hub ---


def types(accepted: Accepted) -> list[str]:
    return [entry.event.type for entry in accepted.entries]


@pytest.mark.usefixtures("small_events")
def test_a_divided_commit_is_one_append_and_what_it_does_is_the_same() -> None:
    room, alice, bob = new_room(), Member(ALICE), Member(BOB)
    first = room.submit(alice.create(), now=NOW)
    alice.accept()
    second = room.submit(alice.add(bob), now=NOW)
    alice.accept()
    bob.join(second)
    for accepted, others in ((first, []), (second, ["m.room.member"] * 2)):
        kinds = types(accepted)
        assert kinds[: len(others)] == others
        assert set(kinds[len(others) : -1]) == {COMMIT_PART}
        assert kinds[-1] == accepted.entry.event.type == COMMIT
        assert {entry.epoch for entry in accepted.entries} == {accepted.group.epoch if accepted.group else 0}
    assert second.entry.event.content["prev_commit_event_id"] == first.event_id
    third = room.submit(bob.rejoin(second), now=NOW)
    bob.accept()
    assert all(entry.event.sender == BOB for entry in third.entries)
    assert all(entry.event.provenance is not None for entry in third.entries)
    room.submit(bob.message(), now=NOW)


def test_every_event_of_a_commit_is_within_the_limit_whatever_its_names() -> None:
    user = f"@{'a' * 200}:a.example"
    pieces, _ = divide(large(parts.MAX_PIECE * 3))
    room = new_room(initial=[state_event(ALICE, "m.room.name", {"name": "Clubhouse"})])
    draft = room.log.draft()
    draft.epoch = 1
    for change in ("invite", "join"):
        draft.write(
            sender=user if change == "join" else ALICE,
            event_type="m.room.member",
            content={"membership": change},
            state_key=user,
            now=NOW,
        )
    sizes = [
        len(draft.write(sender=user, event_type=COMMIT_PART, content=piece, now=NOW).raw) for piece in pieces
    ]
    assert max(sizes) < MAX_EVENT_BYTES - 4_000


def test_a_version_that_does_not_know_parts_keeps_the_limit() -> None:
    room = new_room(version="I.1")
    alice = Member(ALICE)
    room.submit(alice.create(app_data={}), now=NOW)
    alice.accept()
    many = [Member(ALICE, f"D{number}") for number in range(200)]
    added = alice.joined().commit(add=[device.key_package() for device in many])
    refusal(room, handshake(alice, added), Reason.TOO_LARGE)


def test_nobody_but_the_hub_writes_parts() -> None:
    room, _, _ = grouped_room()
    part: JsonObject = {"piece": "{}"}
    refusal(room, LocalEvent(sender=ALICE, type=COMMIT_PART, content=part), Reason.FORBIDDEN)
    bob = Member(BOB)
    room, _, _ = grouped_room(bob)
    refusal(room, lpdu(COMMIT_PART, part), Reason.FORBIDDEN)


@pytest.mark.usefixtures("small_events")
def test_a_part_needs_the_power_that_the_commit_needs() -> None:
    levels = state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100}, "events": {COMMIT: 100}})
    room, alice, _ = grouped_room(initial=[levels])
    bob = Member(BOB)
    accepted = room.submit(alice.add(bob), now=NOW)
    alice.accept()
    bob.join(accepted)
    refused = refusal(room, handshake(bob, bob.joined().commit()), Reason.FORBIDDEN)
    assert COMMIT_PART in str(refused)


# --- at a participant ---


def replica_of(room: Room, *, head: str | None, pieces: list[JsonObject] | None = None) -> Replica:
    return Replica(
        version=get_version("dev.linearized.1"),
        hub="a.example",
        state=room.state,
        head=(room.head_seq, head),
        grouped=True,
        parts=pieces or (),
    )


@pytest.mark.usefixtures("small_events")
def test_a_participant_puts_a_commit_together_even_if_it_comes_in_two_deliveries() -> None:
    room, alice, accepted = grouped_room()
    before = replica_of(room, head=accepted.event_id)
    submission = handshake(alice, alice.joined().commit())
    events = [entry.event for entry in room.submit(submission, now=NOW).entries]
    taken = [before.receive(event) for event in events]
    assert [entry.soft_failed for entry in taken] == [None] * len(events)
    assert taken[-1].content is not None
    assert taken[-1].content["message"] == encode_base64(submission.bundle.message)
    # The second of two deliveries.
    later = replica_of(room, head=events[0].event_id, pieces=[events[0].content])
    assert later.receive(events[1]).soft_failed is None
    assert [later.receive(event).soft_failed for event in events[2:]] == [None] * (len(events) - 2)
    # Without the first.
    without = replica_of(room, head=events[0].event_id)
    outcomes = [without.receive(event).soft_failed for event in events[1:]]
    assert outcomes == [None] * (len(events) - 2) + ["The commit has another number of parts than it says"]
