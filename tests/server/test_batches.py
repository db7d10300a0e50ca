"""Transactions to Linearized Matrix servers: events of all rooms together, ephemeral units, failures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import canonicaljson
import orjson
import pytest
import trio
import trio.testing
from hypothesis import given

from linearized.exceptions import StoreError
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.server import batches
from linearized.server.batches import EDUS, MAX_EDUS, MAX_PDUS, Batch, has_place, queued_units
from linearized.server.outbound import OutboundError
from linearized.server.pauses import LONGEST_PAUSE
from linearized.server.providers.client import ProviderError
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, NewToDevice, ToDeviceRow
from tests.protocol.support import json_objects, quick
from tests.room.support import BOB, NOW, ROOM, Member, grouped_room
from tests.server.deliveries import OTHER, Peer, Setting, delivering, linear, mimi, plain, quiet, welcome
from tests.server.test_fanout import rows


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3") as running:
        yield running


# --- one transaction for all rooms ---


def names(count: int) -> list[str]:
    return [f"!room{number}:a.example" for number in range(count)]


def rooms_of(pdus: list[JsonObject]) -> list[str]:
    return [pdu["room_id"] for pdu in pdus]


async def test_events_of_many_rooms_go_in_one_transaction(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    setting.peer.send_answer = OutboundError("unreachable")
    for room_id in names(20):
        await setting.room(linear(room_id=room_id), room_id=room_id)
        await setting.append(2, room_id=room_id)
    await quiet()
    setting.peer.sent.clear()
    setting.peer.send_answer = {}
    await trio.sleep(1)
    assert sum(len(pdus) for *_, pdus in setting.peer.sent) == 40
    assert len(setting.peer.sent) == 2, "what was under way when the others came, and the others"
    assert [setting.cursor(room_id) for room_id in names(20)] == [[2]] * 20
    for *_, pdus in setting.peer.sent:
        assert rooms_of(pdus) == sorted(rooms_of(pdus), key=names(20).index)


async def test_an_outage_of_any_length_is_caught_up_fifty_events_at_a_time(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    setting.peer.send_answer = OutboundError("unreachable")
    for room_id in names(5):
        await setting.room(linear(room_id=room_id), room_id=room_id)
    for _ in range(50):  # a day
        for room_id in names(5):
            await setting.append(4, room_id=room_id)
        await trio.sleep(1800)
    assert len(setting.peer.sent) < 86_400 / (LONGEST_PAUSE / 2)
    setting.peer.sent.clear()
    setting.peer.send_answer = {}
    await trio.sleep(2 * LONGEST_PAUSE)
    assert [setting.cursor(room_id) for room_id in names(5)] == [[200]] * 5
    sizes = [len(pdus) for *_, pdus in setting.peer.sent]
    assert sum(sizes) == 1000
    assert max(sizes) == MAX_PDUS
    assert len(sizes) <= 22
    for room_id in names(5):
        order = [pdu for *_, pdus in setting.peer.sent for pdu in pdus if pdu["room_id"] == room_id]
        assert len(order) == 200


async def test_a_transaction_without_an_answer_is_sent_again_exactly_as_it_was(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(linear())
    setting.peer.send_answer = OutboundError("no answer")
    await setting.append(2)
    await quiet()
    await setting.append(2)
    await trio.sleep(1)
    setting.peer.send_answer = {}
    await trio.sleep(5)
    *repeated, last = [(txn, len(pdus)) for _, _, txn, pdus in setting.peer.sent]
    assert len(repeated) > 1
    assert set(repeated) == {(repeated[0][0], 2)}
    assert last[1] == 2
    assert setting.cursor() == [4]


async def test_a_server_that_still_works_on_a_transaction_is_sent_that_one_again(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    setting.peer.send_answer = OutboundError("in flight", status=400, errcode="M_BAD_STATE")
    await setting.append()
    await quiet()
    await setting.append(room_id=OTHER)
    await trio.sleep(4)
    setting.peer.send_answer = {}
    await trio.sleep(60)
    assert (setting.cursor(), setting.cursor(OTHER)) == ([1], [1])
    assert len({txn for _, _, txn, _ in setting.peer.sent}) == 2


async def test_a_batch_that_is_refused_is_sent_room_by_room_and_only_one_room_waits(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    refused = OutboundError("no", status=403, errcode="M_FORBIDDEN")

    async def transaction(server: str, path: str, body: bytes) -> JsonObject:
        json = orjson.loads(body)
        setting.peer.sent.append((trio.current_time(), server, path, json["pdus"]))
        await trio.lowlevel.checkpoint()
        if down:
            raise OutboundError("unreachable")
        if OTHER in rooms_of(json["pdus"]):
            raise refused
        return {}

    setting.peer.transaction = transaction  # type: ignore[method-assign]  # a peer that dislikes one room
    rooms, down = [*names(3), OTHER], True
    for room_id in rooms:
        await setting.room(linear(room_id=room_id), room_id=room_id)
        await setting.append(room_id=room_id)
    await quiet()
    down = False
    setting.followers.contacted("b.example")
    await quiet()
    assert [setting.cursor(room_id) for room_id in names(3)] == [[1]] * 3
    assert setting.cursor(OTHER) == [0]
    tried = len(setting.peer.sent)
    await setting.append(room_id=OTHER)
    await quiet()
    assert len(setting.peer.sent) == tried, "the refused room waits"
    await setting.append(room_id=names(1)[0])
    await quiet()
    assert setting.cursor(names(1)[0]) == [2], "the others do not"
    await trio.sleep(1)
    assert len(setting.peer.sent) > tried + 1


async def test_a_slow_provider_delays_no_other(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    async def transaction(server: str, path: str, body: bytes) -> JsonObject:
        json = orjson.loads(body)
        if server == "b.example":
            await trio.sleep(25)
        setting.peer.sent.append((trio.current_time(), server, path, json["pdus"]))
        return {}

    setting.peer.transaction = transaction  # type: ignore[method-assign]  # one peer takes its time
    await setting.room(linear(), replace(linear(), provider="c.example"))
    for _ in range(10):
        await setting.append()
        await trio.sleep(1)
    at = {
        server: [round(time) for time, name, *_ in setting.peer.sent if name == server]
        for server in ("b.example", "c.example")
    }
    assert at == {"b.example": [], "c.example": list(range(10))}
    await trio.sleep(60)
    assert setting.cursor() == [10, 10]


async def test_a_room_that_cannot_be_read_holds_up_no_other(
    setting: Setting, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    real = setting.store.entries

    def entries(room_id: str, **more: int) -> list[EntryRow]:
        if room_id == ROOM:
            raise StoreError("a damaged page")
        return real(room_id, **more)

    monkeypatch.setattr(setting.store, "entries", entries)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    monkeypatch.undo()
    await trio.sleep(1)
    assert setting.cursor() == [1]


async def test_large_events_make_a_smaller_transaction(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 2 * len(plain(1, ROOM).pdu) + 1)
    await setting.room(linear())
    await setting.append(5)
    await quiet()
    assert [len(pdus) for *_, pdus in setting.peer.sent] == [2, 2, 1]


async def test_a_server_without_mimi_gets_its_events_all_the_same(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    await setting.room(linear())
    setting.peer.answers = [ProviderError("has no directory") for _ in range(100)]
    await setting.append_rows(rows(added), welcome(added, seq=3))
    await trio.sleep(1)
    for _ in range(20):
        await setting.append()
        await quiet()
    await trio.sleep(0.1)  # the last requests wait for their turn
    assert len([pdu for *_, pdus in setting.peer.sent for pdu in pdus]) == len(rows(added)) + 20
    assert len(setting.peer.notified) < 5


# --- the body ---


def holding(*pdus: JsonObject, units: list[JsonObject] | None = None) -> Batch:
    batch = Batch()
    rows = [replace(plain(seq, ROOM), pdu=stored(pdu)) for seq, pdu in enumerate(pdus, 1)]
    batch.take(linear(), rows)
    batch.units = [
        ToDeviceRow(position=1, user_id="", device_id="", type="", sender="", content=orjson.dumps(unit))
        for unit in units or []
    ]
    return batch


def stored(pdu: JsonObject) -> bytes:
    """As an event of a room version that sorts names by code point is stored."""
    return canonical_json(pdu, code_point_order=True)


@pytest.mark.parametrize(
    "pdu",
    [
        {"b": 1, "a": [None, True, "x"]},
        {"content": {"body": "é 😀 \ufffd"}},
        {"é": 1, "\u4e00": 2, "a": 3},
        {"\ufb33": 1, "😀": 2, "a": {"😀": 1, "\ue000": 2}},
    ],
)
def test_a_body_is_canonical_json_of_what_is_stored(pdu: JsonObject) -> None:
    unit = {"type": "m.x", "sender": "@a:a.example", "content": {"z": 1, "a": "😀"}}
    for batch, whole in (
        (holding(pdu, {"n": 2}), {"pdus": [pdu, {"n": 2}]}),
        (holding(pdu, units=[unit, unit]), {"pdus": [pdu], "edus": [unit, unit]}),
        (holding(units=[unit]), {"pdus": [], "edus": [unit]}),
        (holding(), {"pdus": []}),
    ):
        assert batch.body() == canonical_json(whole)


@quick
@given(json_objects)
def test_a_body_is_canonical_whatever_an_event_holds(pdu: JsonObject) -> None:
    body = holding(pdu).body()
    assert body == canonical_json({"pdus": [pdu]})
    if max(stored(pdu).decode()) < "\ue000":  # else Matrix may sort otherwise
        assert body == canonicaljson.encode_canonical_json({"pdus": [pdu]})


def test_stored_bytes_go_out_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = holding({"content": {"body": "é"}}, {"n": 2})
    monkeypatch.delattr(batches, "canonical_json")
    monkeypatch.delattr(batches, "orjson")
    assert batch.body() == '{"pdus":[{"content":{"body":"é"}},{"n":2}]}'.encode()


# --- ephemeral units ---


def units(count: int) -> list[NewToDevice]:
    return queued_units(
        "b.example",
        [
            {"type": "m.direct_to_device", "sender": "@alice:a.example", "content": {"n": n}}
            for n in range(count)
        ],
    )


class Bodies(Peer):
    """Keeps whole bodies."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[JsonObject] = []

    async def transaction(self, server: str, path: str, body: bytes) -> JsonObject:
        json = orjson.loads(body)
        self.bodies.append(json)
        return await super().transaction(server, path, body)

    @property
    def numbers(self) -> list[list[int]]:
        return [[unit["content"]["n"] for unit in body.get("edus", [])] for body in self.bodies]


async def test_ephemeral_units_go_with_the_events_a_hundred_at_a_time_and_once(tmp_path: Path) -> None:
    peer = Bodies()
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:
        await setting.room(linear())
        await setting.store.put_to_device(units(MAX_EDUS + 20))
        await setting.append(3)
        setting.followers.units_waiting("b.example")
        await quiet()
        assert [len(numbers) for numbers in peer.numbers] == [MAX_EDUS, 20]
        assert [number for numbers in peer.numbers for number in numbers] == list(range(MAX_EDUS + 20))
        assert [len(body["pdus"]) for body in peer.bodies] == [3, 0]
        assert setting.store.to_device_addresses(EDUS) == []


async def test_ephemeral_units_survive_an_outage_and_a_restart(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path, peer = tmp_path / "store.sqlite3", Bodies()
    async with delivering(path, peer) as setting:
        peer.send_answer = OutboundError("unreachable")
        await setting.store.put_to_device(units(1))
        setting.followers.units_waiting("b.example")
        await trio.sleep(10)
        assert {tuple(numbers) for numbers in peer.numbers} == {(0,)}
    again = Bodies()
    async with delivering(path, again) as setting:
        setting.followers.start()
        await quiet()
        assert again.numbers == [[0]]


async def test_units_that_are_refused_hold_up_no_room(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Bodies()

    async def transaction(server: str, path: str, body: bytes) -> JsonObject:
        json = orjson.loads(body)
        peer.bodies.append(json)
        await trio.lowlevel.checkpoint()
        if "edus" in json:
            raise OutboundError("no", status=400, errcode="M_BAD_JSON")
        return {}

    peer.transaction = transaction  # type: ignore[method-assign]  # a peer that takes no units
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:
        await setting.room(linear())
        await setting.store.put_to_device(units(1))
        await setting.append()
        setting.followers.units_waiting("b.example")
        await quiet()
        assert setting.cursor() == [1]
        assert setting.store.to_device_addresses(EDUS) == [provider_address("b.example")]


async def test_units_that_cannot_be_forgotten_are_sent_again_later(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Bodies()
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:

        async def broken(*_arguments: object, **_more: object) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreError("the disk is full")

        monkeypatch.setattr(setting.store, "delete_to_device", broken)
        await setting.store.put_to_device(units(1))
        setting.followers.units_waiting("b.example")
        await quiet()
        monkeypatch.undo()
        await trio.sleep(5)
        assert peer.numbers == [[0], [0]]


async def test_so_many_units_may_wait_for_one_server(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING_EDUS", 5)
    assert has_place(setting.store, "b.example", 5)
    assert not has_place(setting.store, "b.example", 6)
    await setting.store.put_to_device(units(4))
    assert has_place(setting.store, "b.example", 1)
    assert not has_place(setting.store, "b.example", 2)
    assert has_place(setting.store, "c.example", 5)


# --- rooms of both protocols ---


async def test_rooms_of_both_protocols_have_their_turns(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    third = "!third:a.example"
    await setting.room(linear())
    await setting.room(mimi(room_id=OTHER), room_id=OTHER)
    await setting.room(linear(room_id=third), room_id=third)
    setting.peer.send_answer = OutboundError("unreachable")
    for room_id in (ROOM, OTHER, third):
        await setting.append(2, room_id=room_id)
    await quiet()
    assert setting.cursor(OTHER) == [0]
    setting.peer.send_answer = {}
    await trio.sleep(1)
    assert [setting.cursor(room_id) for room_id in (ROOM, OTHER, third)] == [[2]] * 3
    assert all(OTHER not in rooms_of(pdus) for *_, pdus in setting.peer.sent)


async def test_a_mimi_room_that_cannot_be_read_holds_up_no_other(
    setting: Setting, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.room(mimi())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    real = setting.store.entries

    def entries(room_id: str, **more: int) -> list[EntryRow]:
        if room_id == ROOM:
            raise StoreError("a damaged page")
        return real(room_id, **more)

    monkeypatch.setattr(setting.store, "entries", entries)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    monkeypatch.undo()
    await trio.sleep(1)
    assert setting.cursor() == [1]
