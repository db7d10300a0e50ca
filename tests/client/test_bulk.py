"""Pulling a room's whole history from a real server in memory, and what is found wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import trio
import zstandard

from linearized.client import LogBroken, ProviderApi, Session, UntrustedAnswer
from linearized.client.answers import SegmentIndex
from linearized.client.bulk import (
    HistoryIncomplete,
    Keys,
    RoomHistory,
    pull_history,
)
from linearized.client.errors import MalformedAnswer, ServerUnreachable, StateFileError
from linearized.client.offline import HistoryStore, KeptRoom, export_jsonl, export_sqlite
from linearized.commands.history import logged_in
from linearized.room.segments import SEGMENT, pack, unpack
from linearized.room.submissions import LocalEvent
from tests.client.test_real_server import Club, open_club
from tests.server.support import PASSWORD, Server

AT_ONCE = 250


@dataclass
class World:
    club: Club
    server: Server
    alice: Session
    room_id: str
    store: HistoryStore

    @property
    def api(self) -> ProviderApi:
        return self.alice.api

    async def pull(self) -> int:
        report = await pull_history(self.api, self.room_id, self.store, keys=Keys(self.api))
        return report.entries

    def stored(self) -> list[bytes]:
        rows = self.server.node.store.entries(self.room_id, after=0, limit=10 * SEGMENT)
        return [row.pdu for row in rows]

    def spoil(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Have the server tell its segments otherwise."""
        real = ProviderApi.segment

        async def segment(api: ProviderApi, room_id: str, number: int) -> bytes:
            return pack(change(unpack(await real(api, room_id, number))))

        monkeypatch.setattr(ProviderApi, "segment", segment)

    def fetched(self) -> list[str]:
        return [entry[3].rpartition("/")[2] for entry in self.club.network.log if "/segments/" in entry[3]]


@asynccontextmanager
async def long_room(tmp_path: Path, events: int) -> AsyncIterator[World]:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice = await club.device(server, "alice")
        room_id = await alice.api.create_room(room_version="I.1")
        sender = alice.device.owner.user_id
        for first in range(0, events, AT_ONCE):
            said = [
                LocalEvent(sender=sender, type="m.room.message", content={"body": f"message {number}"})
                for number in range(first, min(first + AT_ONCE, events))
            ]
            await server.node.rooms._hub.submit_all(room_id, [(event, None) for event in said])
        with HistoryStore(tmp_path / "history.sqlite") as store:
            yield World(club, server, alice, room_id, store)


async def test_a_whole_room_comes_in_segments_and_is_checked_to_the_hubs_signature(tmp_path: Path) -> None:
    async with long_room(tmp_path, 2 * SEGMENT + 20) as w:
        seen: list[tuple[int, int]] = []
        report = await pull_history(
            w.api,
            w.room_id,
            w.store,
            keys=Keys(w.api),
            progress=lambda done, total: seen.append((done, total)),
        )
        assert list(w.store.pdus(w.room_id)) == w.stored()
        assert report.entries == len(w.stored())
        assert seen[-1] == (report.entries, report.entries)
        assert sorted(w.fetched()) == ["0", "1"]
        kept = w.store.room(w.room_id)
        assert kept is not None
        assert (kept.entries, kept.signed_entries, kept.root) == (*[report.entries] * 2, report.tree.root())
        assert kept.checkpoint is not None
        assert kept.checkpoint.splitlines()[1] == str(report.entries)


async def test_a_pull_goes_on_with_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with long_room(tmp_path, 2 * SEGMENT) as w:
        real, checked = ProviderApi.segment, trio.Event()

        async def segment(self: ProviderApi, room_id: str, number: int) -> bytes:
            if number == 1:
                await checked.wait()
                raise ServerUnreachable("for a while")
            return await real(self, room_id, number)

        with monkeypatch.context() as broken:
            broken.setattr(ProviderApi, "segment", segment)
            with pytest.raises(ServerUnreachable):
                await pull_history(
                    w.api, w.room_id, w.store, keys=Keys(w.api), progress=lambda *_: checked.set()
                )
        w.club.network.log.clear()
        assert await w.pull() == len(w.stored())
        assert list(w.store.pdus(w.room_id)) == w.stored()
        assert w.fetched() == ["1"]
        assert await w.pull() == len(w.stored())
        assert w.fetched() == ["1"]


async def test_a_short_room_has_only_a_tail(tmp_path: Path) -> None:
    async with long_room(tmp_path, 3) as w:
        assert await w.pull() == len(w.stored())
        assert list(w.store.pdus(w.room_id)) == w.stored()


async def test_an_event_that_was_changed_in_a_segment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        w.spoil(monkeypatch, lambda pdus: [*pdus[:99], pdus[99].replace(b"message", b"massage"), *pdus[100:]])
        with pytest.raises(LogBroken) as broken:
            await w.pull()
        assert broken.value.seq == 100


@pytest.mark.parametrize("spoilt", [b"[1]", b"x", b""])
async def test_a_line_that_is_no_event_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: bytes
) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        w.spoil(monkeypatch, lambda pdus: [*pdus[:-1], spoilt])
        with pytest.raises(LogBroken) as broken:
            await w.pull()
        assert broken.value.seq == SEGMENT


async def test_an_event_in_another_form_than_the_signed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        stored = w.stored()[7]
        spaced = stored.replace(b'":', b'": ', 1)
        assert orjson.loads(spaced) == orjson.loads(stored)
        w.spoil(monkeypatch, lambda pdus: [*pdus[:7], spaced, *pdus[8:]])
        with pytest.raises(LogBroken, match="form"):
            await w.pull()


async def test_what_is_no_segment_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with long_room(tmp_path, SEGMENT) as w:

        async def segment(self: ProviderApi, room_id: str, number: int) -> bytes:
            return zstandard.compress(b"{}\n")

        monkeypatch.setattr(ProviderApi, "segment", segment)
        with pytest.raises(UntrustedAnswer, match="segment 0"):
            await w.pull()


async def test_a_history_with_holes_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with long_room(tmp_path, SEGMENT) as w:

        async def none(self: ProviderApi, room_id: str) -> SegmentIndex:
            return SegmentIndex(head_seq=SEGMENT, runs=())

        monkeypatch.setattr(ProviderApi, "segments", none)
        with pytest.raises(HistoryIncomplete):
            await w.pull()


async def test_a_server_that_leaves_out_the_end_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with long_room(tmp_path, 10) as w:
        real = ProviderApi.log

        async def log(self: ProviderApi, room_id: str, *, after: int, limit: int = 50) -> object:
            page = await real(self, room_id, after=after, limit=limit)
            return type(page)(pdus=page.pdus[:0], first_seq=page.first_seq, head_seq=page.head_seq)

        monkeypatch.setattr(ProviderApi, "log", log)
        with pytest.raises(LogBroken, match="does not tell"):
            await w.pull()


@pytest.mark.parametrize(
    "answer",
    [
        {"entries": 7, "head_seq": 1, "segments": []},
        {"entries": SEGMENT, "head_seq": 1, "segments": [[0]]},
        {"entries": SEGMENT, "head_seq": 1, "segments": [[0, -1]]},
        {"entries": SEGMENT, "head_seq": 1, "segments": [[0, True]]},
        {"entries": SEGMENT, "head_seq": 1},
    ],
)
async def test_an_index_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, object]
) -> None:
    async with long_room(tmp_path, 1) as w:

        async def json(*_arguments: object, **_more: object) -> dict[str, object]:
            return answer

        monkeypatch.setattr("linearized.client.transport.Transport.json", json)
        with pytest.raises(MalformedAnswer):
            await w.api.segments(w.room_id)


async def test_a_pulled_log_becomes_lines_and_rows(tmp_path: Path) -> None:
    async with long_room(tmp_path, SEGMENT + 2) as w:
        count = await w.pull()
        assert export_jsonl(w.store, w.room_id, tmp_path / "log.jsonl") == count
        assert (tmp_path / "log.jsonl").read_bytes().splitlines() == w.stored()
        assert export_sqlite(w.store, w.room_id, tmp_path / "log.sqlite") == count
        with sqlite3.connect(tmp_path / "log.sqlite") as connection:
            rows = connection.execute("SELECT seq, type, sender, pdu FROM events ORDER BY seq").fetchall()
        connection.close()
        assert [row[3].encode() for row in rows] == w.stored()
        assert rows[0][:3] == (1, "m.room.create", w.alice.device.owner.user_id)
        with pytest.raises(FileExistsError):
            export_sqlite(w.store, w.room_id, tmp_path / "log.sqlite")


async def test_the_command_logs_in_and_out_again(tmp_path: Path) -> None:
    async with long_room(tmp_path, 2) as w, w.server.http() as http:
        api = ProviderApi("https://a.example", token=None, http=http, clock=lambda: 0, ids=lambda _: "id")
        before = len(w.server.node.store.devices(w.alice.device.owner.user_id))
        async with logged_in(api, "alice", PASSWORD) as session:
            report = await pull_history(session, w.room_id, w.store, keys=Keys(session))
        assert report.entries == len(w.stored())
        assert len(w.server.node.store.devices(w.alice.device.owner.user_id)) == before


async def test_what_lies_in_the_store_is_checked_like_what_is_fetched(tmp_path: Path) -> None:
    async with long_room(tmp_path, 50) as w:
        await w.pull()
        with closing(sqlite3.connect(tmp_path / "history.sqlite")) as connection, connection:
            connection.execute(
                "UPDATE entries SET pdu = CAST(replace(CAST(pdu AS TEXT), 'message', 'massage') AS BLOB)"
                " WHERE seq = 40"
            )
        with pytest.raises(LogBroken) as broken:
            await w.pull()
        assert broken.value.seq == 40


async def test_a_store_that_somebody_else_goes_on_with_is_left_alone(tmp_path: Path) -> None:
    async with long_room(tmp_path, 5) as w:
        history = RoomHistory(w.api, w.room_id, w.store, keys=Keys(w.api))
        await w.pull()
        with pytest.raises(StateFileError):
            w.store.append(KeptRoom(room_id=w.room_id, hub="a.example", entries=3, root=b""), [])
        await history.pull()
        assert list(w.store.pdus(w.room_id)) == w.stored()
