"""Read receipts, from the homeserver to the group and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from bridges.matrix import receipts
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.names import Names
from bridges.matrix.receipts import PAUSE, Receipts, units_of
from linearized.client import ApiError, DecryptedMessage, Session
from linearized.client.own_groups import looking
from linearized.mimi.content import MimiContent, SinglePart
from linearized.mimi.message_status import CONTENT_TYPE, MessageStatus, report_in, status_report
from linearized.mimi.policy.common import Optionality
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, CAROL, GHOST_BOB, MATRIX_ROOM, World, push_events
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import message

SALT = bytes(16)
READ, DELIVERED = MessageStatus.READ, MessageStatus.DELIVERED


def unit(event_id: str, *users: str, kind: str = "m.read", room_id: str = MATRIX_ROOM) -> dict[str, Any]:
    content = {event_id: {kind: {user: {"ts": 1} for user in users}}}
    return {"type": "m.receipt", "room_id": room_id, "content": content}


@asynccontextmanager
async def read_by_all(directory: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session, str]]:
    """A bridged room in which bob, at another provider, has said something: the event it became."""
    async with talking(directory) as (world, room, bob):
        await bob.send(world.room_id(), message("who has read this?"))
        await world.settle()
        (event,) = by(room, GHOST_BOB)
        yield world, room, bob, event["event_id"]


async def until(world: World, room: MatrixRoom, bob: Session, mark: str) -> list[DecryptedMessage]:
    """What reaches bob before the next word of carol's."""
    world.homeserver.say(room, CAROL, mark)
    await world.settle()
    found: list[DecryptedMessage] = []
    while not found or not isinstance(found[-1].content.part, SinglePart) or body_of(found[-1]) != mark:
        found += await heard(bob)
    return found[:-1]


async def reported(
    world: World, room: MatrixRoom, bob: Session
) -> list[tuple[str, tuple[tuple[bytes, MessageStatus], ...]]]:
    await world.bridge.receipts.report()
    found = []
    for got in await until(world, room, bob, "enough"):
        report = report_in(got.content)
        assert report is not None
        found.append((got.sender_uri, report.statuses))
    return found


def message_of(world: World, event_id: str) -> bytes:
    known = world.bridge.inbound._messages.by_matrix(event_id)
    assert known is not None
    assert known.message_id is not None
    return known.message_id


async def test_who_reads_in_matrix_has_read_in_the_group(tmp_path: Path) -> None:
    async with read_by_all(tmp_path) as (world, room, bob, event_id):
        await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE, CAROL)])
        message_id = message_of(world, event_id)
        assert sorted(await reported(world, room, bob)) == [
            ("mimi://matrix.example/u/alice", ((message_id, READ),)),
            ("mimi://matrix.example/u/carol", ((message_id, READ),)),
        ]
        assert by(room, GHOST_BOB)[-1]["event_id"] == event_id, "reports are nothing to see in Matrix"
        assert world.homeserver.receipts == []


async def test_who_reads_on_is_reported_for_the_newest(tmp_path: Path) -> None:
    async with read_by_all(tmp_path) as (world, room, bob, first):
        await bob.send(world.room_id(), message("and this?"))
        await world.settle()
        second = by(room, GHOST_BOB)[1]["event_id"]
        for event_id in (first, second):
            await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE)])
        ((_, statuses),) = await reported(world, room, bob)
        assert statuses == ((message_of(world, second), READ),)
        assert await reported(world, room, bob) == []


class Nobody(Speaking):
    """Nobody has two accounts."""

    def __init__(self) -> None:
        pass

    def is_own_reading(self, matrix_room_id: str, user_id: str, event_id: str) -> bool:
        del matrix_room_id, user_id, event_id
        return False


async def test_what_is_heard_within_a_pause_is_reported_together(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    nothing: Any = None
    carrier = Receipts(
        wanted=True,
        names=Names(domain=DOMAIN, prefix="_lin_"),
        puppets=nothing,
        ghosts=nothing,
        links=nothing,
        messages=nothing,
        speaking=Nobody(),
        random=bytes,
    )
    sent: list[tuple[float, str]] = []

    async def note(_self: Receipts, _room: str, user: str, event_id: str) -> None:
        await trio.lowlevel.checkpoint()
        sent.append((trio.current_time(), f"{user} {event_id}"))

    monkeypatch.setattr(Receipts, "_report", note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carrier.run)
        began = trio.current_time()
        for number in range(3):
            carrier.hear([unit(f"${number}", ALICE)])
            await trio.sleep(PAUSE / 4)
        await trio.sleep(3 * PAUSE)
        carrier.hear([unit("$3", ALICE)])
        await trio.sleep(2 * PAUSE)
        nursery.cancel_scope.cancel()
    assert [what for _, what in sent] == [f"{ALICE} $2", f"{ALICE} $3"]
    assert sent[0][0] - began == pytest.approx(PAUSE)


@pytest.mark.parametrize(
    "unit",
    [
        unit("$nowhere", ALICE),
        unit("{event}", "@stranger:elsewhere.example"),
        unit("{event}", GHOST_BOB),
        unit("{event}", "no user"),
        unit("{event}", "@nobody:matrix.example"),
        unit("{event}", ALICE, kind="m.read.private"),
        unit("{event}", ALICE, room_id="!elsewhere:matrix.example"),
        {"type": "m.typing", "room_id": MATRIX_ROOM, "content": {"user_ids": [ALICE]}},
        {"type": "m.receipt", "room_id": MATRIX_ROOM, "content": {"{event}": {"m.read": [ALICE]}}},
        {"type": "m.receipt", "room_id": MATRIX_ROOM, "content": [1]},
        {"type": "m.receipt", "room_id": 7, "content": {}},
        "m.receipt",
    ],
)
async def test_what_is_no_receipt_of_a_user_of_ours_is_not_reported(tmp_path: Path, unit: Any) -> None:
    async with read_by_all(tmp_path) as (world, room, bob, event_id):
        if isinstance(unit, dict) and isinstance(unit["content"], dict):
            content = {event_id if key == "{event}" else key: kinds for key, kinds in unit["content"].items()}
            unit = {**unit, "content": content}
        await push_events(world.bridge, [], ephemeral=[unit])
        assert await reported(world, room, bob) == []


async def test_nobody_reports_having_read_their_own_message(tmp_path: Path) -> None:
    async with read_by_all(tmp_path) as (world, room, bob, _):
        event_id = world.homeserver.say(room, ALICE, "mine")
        await world.settle()
        assert len(await heard(bob)) == 1
        await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE)])
        assert await reported(world, room, bob) == []


@pytest.mark.parametrize(
    ("policy", "wanted", "sent"),
    [
        (Optionality.FORBIDDEN, True, False),
        (Optionality.OPTIONAL, False, False),
        (Optionality.OPTIONAL, True, True),
        (Optionality.REQUIRED, False, True),
    ],
)
async def test_the_rooms_policy_goes_before_what_the_operator_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Optionality, wanted: bool, sent: bool
) -> None:
    async with read_by_all(tmp_path) as (world, room, bob, event_id):
        monkeypatch.setattr(looking, "read_receipts", lambda _data: policy)
        monkeypatch.setattr(world.bridge.receipts, "_wanted", wanted)
        await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE)])
        assert bool(await reported(world, room, bob)) is sent


async def test_readers_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "MAX_WAITING", 1)
    async with read_by_all(tmp_path) as (world, room, bob, event_id):
        await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE, CAROL)])
        assert len(await reported(world, room, bob)) == 1


async def test_a_hub_that_refuses_a_report_costs_that_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise ApiError(403, "M_FORBIDDEN", "no")

    async with read_by_all(tmp_path) as (world, room, bob, event_id):
        with monkeypatch.context() as patch:
            patch.setattr(Session, "send", refused)
            await push_events(world.bridge, [], ephemeral=[unit(event_id, ALICE)])
            await world.bridge.receipts.report()
        assert await reported(world, room, bob) == []
        await push_events(world.bridge, [], ephemeral=[unit(event_id, CAROL)])
        assert len(await reported(world, room, bob)) == 1


async def send_report(
    world: World, room: MatrixRoom, bob: Session, *statuses: tuple[bytes, MessageStatus]
) -> list[tuple[str, str, str]]:
    before = len(room.timeline)
    await bob.send(world.room_id(), status_report(statuses, salt=SALT))
    await world.settle()
    assert len(room.timeline) == before
    return world.homeserver.receipts


async def test_who_reads_in_the_group_has_read_in_matrix_up_to_the_newest(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        events = [world.homeserver.say(room, ALICE, text) for text in ("one", "two", "three")]
        await world.settle()
        one, two, three = (got.message_id for got in await heard(bob, 3))
        assert await send_report(world, room, bob, (three, DELIVERED)) == []
        assert await send_report(world, room, bob, (b"\x01" + bytes(31), READ)) == []
        statuses = ((one, READ), (two, READ), (b"\x01" + bytes(31), READ), (three, DELIVERED))
        assert await send_report(world, room, bob, *statuses) == [(room.room_id, GHOST_BOB, events[1])]


async def test_a_receipt_the_homeserver_refuses_holds_nothing_up(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, ALICE, "one")
        await world.settle()
        (one,) = await heard(bob)
        room.forbidden.add((GHOST_BOB, "receipt"))
        assert await send_report(world, room, bob, (one.message_id, READ)) == []
        assert world.bridge.inbound._aside.count(room.room_id) == 0


async def test_a_report_that_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        before = len(room.timeline)
        broken = MimiContent(salt=SALT, part=SinglePart(content_type=CONTENT_TYPE, content=b"\x80"))
        await bob.send(world.room_id(), broken)
        await bob.send(world.room_id(), message("still here"))
        await world.settle()
        (event,) = room.timeline[before:]
        assert event["content"]["body"] == "still here"


def test_units_are_found_under_both_names() -> None:
    assert units_of({"ephemeral": [1]}) == [1]
    assert units_of({"ephemeral": [], "de.sorunome.msc2409.ephemeral": [2]}) == [2]
    assert units_of({"ephemeral": {"type": "m.receipt"}}) == ()
    assert units_of({}) == ()
