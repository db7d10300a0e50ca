"""Logs kept in a file, for reading without a server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from linearized.client import offline
from linearized.client.errors import StateFileError
from linearized.client.offline import HistoryStore, KeptRoom
from linearized.protocol.events import Event, parse_stored
from linearized.protocol.versions import get_version
from tests.client.test_real_server import open_club


async def events_of_a_room(tmp_path: Path) -> list[Event]:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice = await club.device(server, "alice")
        room_id = await alice.api.create_room(room_version="I.1")
        rows = server.node.store.entries(room_id, after=0, limit=100)
        return [parse_stored(row.pdu, get_version("I.1")) for row in rows]


def kept(events: list[Event], count: int, **more: Any) -> KeptRoom:
    return KeptRoom(room_id=events[0].room_id, hub="a.example", entries=count, root=b"r" * 32, **more)


async def test_entries_come_back_in_order_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "PAGE", 2)
    events = await events_of_a_room(tmp_path)
    with HistoryStore(tmp_path / "h.sqlite") as store:
        store.append(kept(events, 1), events[:1])
        store.append(kept(events, len(events)), events[1:])
        store.sign(events[0].room_id, 3, "note")
    with HistoryStore(tmp_path / "h.sqlite") as store:
        assert list(store.pdus(events[0].room_id)) == [event.raw for event in events]
        assert store.rooms() == [kept(events, len(events), signed_entries=3, checkpoint="note")]
        assert store.room("!other:a") is None
        store.forget(events[0].room_id)
        assert store.rooms() == []
        assert list(store.pdus(events[0].room_id)) == []


async def test_a_run_with_a_gap_before_it_changes_nothing(tmp_path: Path) -> None:
    events = await events_of_a_room(tmp_path)
    with HistoryStore(tmp_path / "h.sqlite") as store:
        with pytest.raises(StateFileError):
            store.append(kept(events, 3), events[2:3])
        store.append(kept(events, 2), events[:2])
        with pytest.raises(StateFileError):
            store.append(kept(events, 2), events[:2])
        assert list(store.pdus(events[0].room_id)) == [event.raw for event in events[:2]]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(StateFileError, match="no history"):
        HistoryStore(path)
    (tmp_path / "text").write_text("no database at all, only some text\n" * 20)
    with pytest.raises(StateFileError, match="cannot be used"):
        HistoryStore(tmp_path / "text")
    with pytest.raises(StateFileError, match="cannot be used"):
        HistoryStore(tmp_path / "nowhere" / "h.sqlite")


async def test_others_may_read_while_it_is_open(tmp_path: Path) -> None:
    events = await events_of_a_room(tmp_path)
    with HistoryStore(tmp_path / "h.sqlite") as store:
        store.append(kept(events, 2), events[:2])
        with closing(sqlite3.connect(tmp_path / "h.sqlite")) as connection:
            assert connection.execute("SELECT count(*) FROM entries").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
