"""Pulling a room's whole history from a real server in memory, and what is found wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import zstandard

from linearized.client import LogBroken, ProviderApi, Session, UntrustedAnswer
from linearized.client.answers import SegmentIndex
from linearized.client.bulk import (
    CHECKPOINT,
    HistoryIncomplete,
    Keys,
    entries,
    export_jsonl,
    export_sqlite,
    pull_history,
)
from linearized.client.errors import MalformedAnswer
from linearized.commands.history import pull_as
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
    directory: Path

    @property
    def api(self) -> ProviderApi:
        return self.alice.api

    async def pull(self) -> int:
        report = await pull_history(self.api, self.room_id, self.directory, keys=Keys(self.api))
        return report.entries

    def stored(self) -> list[bytes]:
        rows = self.server.node.store.entries(self.room_id, after=0, limit=10 * SEGMENT)
        return [row.pdu for row in rows]

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
        yield World(club, server, alice, room_id, tmp_path / "pulled")


async def test_a_whole_room_comes_in_segments_and_is_checked_to_the_hubs_signature(tmp_path: Path) -> None:
    async with long_room(tmp_path, 2 * SEGMENT + 20) as w:
        seen: list[tuple[int, int]] = []
        report = await pull_history(
            w.api,
            w.room_id,
            w.directory,
            keys=Keys(w.api),
            progress=lambda done, total: seen.append((done, total)),
        )
        assert list(entries(w.directory)) == w.stored()
        assert report.entries == len(w.stored())
        assert seen[-1] == (report.entries, report.entries)
        assert sorted(w.fetched()) == ["0", "1"]
        checkpoint = (w.directory / CHECKPOINT).read_text()
        assert checkpoint.splitlines()[1] == str(report.entries)


async def test_a_pull_goes_on_with_what_is_there(tmp_path: Path) -> None:
    async with long_room(tmp_path, 2 * SEGMENT) as w:
        await w.pull()
        (w.directory / "000001.jsonl.zst").unlink()
        w.club.network.log.clear()
        assert await w.pull() == len(w.stored())
        assert w.fetched() == ["1"]


async def test_a_short_room_has_only_a_tail(tmp_path: Path) -> None:
    async with long_room(tmp_path, 3) as w:
        assert await w.pull() == len(w.stored())
        assert list(entries(w.directory)) == w.stored()


async def test_an_event_that_was_changed_in_a_segment_is_named(tmp_path: Path) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        await w.pull()
        path = w.directory / "000000.jsonl.zst"
        pdus = unpack(path.read_bytes())
        path.write_bytes(pack([*pdus[:99], pdus[99].replace(b"message", b"massage"), *pdus[100:]]))
        with pytest.raises(LogBroken) as broken:
            await w.pull()
        assert broken.value.seq == 100


@pytest.mark.parametrize("spoilt", [b"[1]", b"x", b""])
async def test_a_line_that_is_no_event_is_named(tmp_path: Path, spoilt: bytes) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        await w.pull()
        path = w.directory / "000000.jsonl.zst"
        path.write_bytes(pack([*unpack(path.read_bytes())[:-1], spoilt]))
        with pytest.raises(LogBroken) as broken:
            await w.pull()
        assert broken.value.seq == SEGMENT


async def test_an_event_in_another_form_than_the_signed_one_is_named(tmp_path: Path) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        await w.pull()
        path = w.directory / "000000.jsonl.zst"
        pdus = unpack(path.read_bytes())
        spaced = pdus[7].replace(b'":', b'": ', 1)
        assert orjson.loads(spaced) == orjson.loads(pdus[7])
        path.write_bytes(pack([*pdus[:7], spaced, *pdus[8:]]))
        with pytest.raises(LogBroken, match="form"):
            await w.pull()


async def test_what_is_no_segment_is_not_believed(tmp_path: Path) -> None:
    async with long_room(tmp_path, SEGMENT) as w:
        await w.pull()
        (w.directory / "000000.jsonl.zst").write_bytes(zstandard.compress(b"{}\n"))
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
        assert export_jsonl(w.directory, tmp_path / "log.jsonl") == count
        assert (tmp_path / "log.jsonl").read_bytes().splitlines() == w.stored()
        assert export_sqlite(w.directory, tmp_path / "log.sqlite") == count
        with sqlite3.connect(tmp_path / "log.sqlite") as connection:
            rows = connection.execute("SELECT seq, type, sender, pdu FROM events ORDER BY seq").fetchall()
        connection.close()
        assert [row[3].encode() for row in rows] == w.stored()
        assert rows[0][:3] == (1, "m.room.create", w.alice.device.owner.user_id)
        with pytest.raises(FileExistsError):
            export_sqlite(w.directory, tmp_path / "log.sqlite")


async def test_the_command_logs_in_and_out_again(tmp_path: Path) -> None:
    async with long_room(tmp_path, 2) as w, w.server.http() as http:
        api = ProviderApi("https://a.example", token=None, http=http, clock=lambda: 0, ids=lambda _: "id")
        before = len(w.server.node.store.devices(w.alice.device.owner.user_id))
        report = await pull_as(
            api, "alice", PASSWORD, w.room_id, w.directory, progress=lambda done, total: None
        )
        assert report.entries == len(w.stored())
        assert len(w.server.node.store.devices(w.alice.device.owner.user_id)) == before
