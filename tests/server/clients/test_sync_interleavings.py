"""Whatever happens between and during syncs: each device hears every entry it may read exactly once, in
order.

A sync is limited now and then; what it leaves out is read from ``prev_batch`` backwards, as a client would.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from linearized.store import sqlite_append
from linearized.store.base import RoomAppend
from linearized.store.sqlite import SqliteStore
from linearized.store.sqlite_writer import Transaction
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server, room

ROOMS = [f"!{number}:a.example" for number in range(4)]
STEPS = 60


class Reader:
    """A device that keeps what it is told, and fills every gap."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.since: str | None = None
        self.told: dict[str, list[int]] = {room_id: [] for room_id in ROOMS}

    async def sync(self, limit: int) -> bool:
        filter_json = orjson.dumps({"room": {"timeline": {"limit": limit}}}).decode()
        answer = await self.client.sync(self.since, filter=filter_json)
        self.since = answer["next_batch"]
        rooms = answer["rooms"]
        for room_id, section in (*rooms["join"].items(), *rooms["leave"].items()):
            await self._take(room_id, section["timeline"])
        return bool(rooms["join"] or rooms["leave"] or rooms["invite"])

    async def _take(self, room_id: str, timeline: Any) -> None:
        new = [event["unsigned"]["dev.linearized.seq"] for event in timeline["events"]]
        if timeline["limited"]:
            known = max(self.told[room_id], default=0)
            query = {"dir": "b", "from": timeline["prev_batch"], "to": f"t{known}", "limit": 1000}
            page = (await self.client.call("GET", room(room_id) + "/messages", query=query)).ok()
            missed = [event["unsigned"]["dev.linearized.seq"] for event in page["chunk"]]
            new = missed[::-1] + new
        assert new == sorted(set(new))
        assert not new or new[0] > max(self.told[room_id], default=0), "an entry was told twice"
        self.told[room_id] += new


async def act(server: Server, chance: random.Random, user_id: str, joined: dict[str, bool]) -> None:
    room_id = chance.choice(ROOMS)
    row = server.store.room(room_id)
    head = row.head_seq if row is not None else 0
    if chance.random() < 0.15:
        joined[room_id] = not joined[room_id]
        change = member(room_id, head + 1, user_id, "join" if joined[room_id] else "leave")
        await append(server.store, room_id, change)
        return
    count = chance.randint(1, 6)
    await append(server.store, room_id, *(entry(room_id, head + 1 + index) for index in range(count)))


def expected(store: SqliteStore, room_id: str, user_id: str) -> list[int]:
    """Up to the last leave, or everything; nothing without a join. History is shared, so gaps while away
    count.
    """
    entries = store.entries(room_id, after=0, limit=10_000)
    last, ever = 0, False
    here = False
    for found in entries:
        if found.state_key == user_id:
            here = b'"join"' in found.pdu
            ever = ever or here
            last = found.seq
    if not ever:
        return []
    return [found.seq for found in entries if here or found.seq <= last]


@pytest.mark.parametrize("seed", range(12))
async def test_steps_in_any_order_lose_and_repeat_nothing(server: Server, alice: Client, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - picks steps, not secrets
    reader = Reader(alice)
    joined = dict.fromkeys(ROOMS, False)
    for _ in range(STEPS):
        if chance.random() < 0.3:
            await reader.sync(chance.choice([1, 3, 50]))
        else:
            await act(server, chance, alice.user_id, joined)
    while await reader.sync(3):
        pass
    for room_id in ROOMS:
        assert reader.told[room_id] == expected(server.store, room_id, alice.user_id), room_id


@pytest.mark.parametrize("seed", range(6))
async def test_writes_in_the_middle_of_a_sync_lose_and_repeat_nothing(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """Entries are appended between the reads of one sync, as another thread's commits would be."""
    chance = random.Random(seed)  # noqa: S311 - picks steps, not secrets
    for room_id in ROOMS:
        await append(server.store, room_id, member(room_id, 1, alice.user_id, "join"))
    sneak: list[Callable[[], None]] = []

    def interrupt(name: str) -> None:
        original = getattr(SqliteStore, name)

        def wrapped(self: SqliteStore, *args: Any, **kwargs: Any) -> Any:
            if sneak and chance.random() < 0.3:
                sneak.pop()()
            return original(self, *args, **kwargs)

        monkeypatch.setattr(SqliteStore, name, wrapped)

    for name in ("position", "changed_rooms", "room", "rooms_of", "entries_before", "state_at"):
        interrupt(name)

    other = sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)

    def append_now() -> None:
        """Commit on another connection while the sync stands between two reads, as the writer's thread
        does.
        """
        room_id = chance.choice(ROOMS)
        (head,) = other.execute("SELECT head_seq FROM rooms WHERE room_id = ?", (room_id,)).fetchone()
        other.execute("BEGIN IMMEDIATE")
        change = RoomAppend(room_id=room_id, entries=(entry(room_id, head + 1), entry(room_id, head + 2)))
        sqlite_append.append_rows(Transaction(other), change)
        other.execute("COMMIT")

    reader = Reader(alice)
    for _ in range(25):
        sneak[:] = [append_now] * chance.randint(0, 3)
        await reader.sync(chance.choice([1, 50]))
    sneak.clear()
    other.close()
    while await reader.sync(50):
        pass
    for room_id in ROOMS:
        assert reader.told[room_id] == expected(server.store, room_id, alice.user_id), room_id
