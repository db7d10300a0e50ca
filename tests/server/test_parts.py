"""Commits in parts, read back from a store: for followers, for clients, and at the end of a log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from linearized.client import EpochChanged, Joined, Session
from linearized.client.verify import LogBroken, server_keys, verify_log
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room import handshakes
from linearized.room import parts as room_parts
from linearized.room.admission import COMMIT, COMMIT_PART
from linearized.room.parts import PARTS, divide
from linearized.room.submissions import Rejected
from linearized.room_check import BrokenLog, check_room
from linearized.server import parts
from linearized.server.fanout import MAX_NOTIFY_BYTES, read_notification
from linearized.server.mls import OpenMls
from linearized.server.parts import content_of, parts_at
from linearized.store.base import EntryRow, FollowerRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import encrypted_room, received, signed_in

BOB = "@bob:a.example"


@pytest.fixture(autouse=True)
def small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an event could hold a few hundred bytes of a commit, so that a small group has large ones."""
    monkeypatch.setattr(room_parts, "MAX_PIECE", 300)


@asynccontextmanager
async def club(directory: Path) -> AsyncIterator[tuple[Server, Session, Session, str]]:
    network = Network()
    async with (
        running_server("a.example", directory, network) as server,
        signed_in(server, await server.user("alice")) as alice,
        signed_in(server, await server.user("bob")) as bob,
    ):
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, [BOB])
        yield server, alice, bob, room_id


def log(server: Server, room_id: str) -> list[EntryRow]:
    return server.node.store.entries(room_id, after=0, limit=1000)


async def test_clients_get_whole_commits_and_no_parts(tmp_path: Path) -> None:
    async with club(tmp_path) as (server, alice, bob, room_id):
        await received(bob, Joined)
        await bob.groups.update_keys(room_id)
        await received(alice, EpochChanged)
        entries = log(server, room_id)
        (*_, last) = (entry for entry in entries if entry.type == COMMIT)
        assert entries[last.seq - 2].type == COMMIT_PART
        page = await alice.api.messages(room_id, direction="f")
        shown = [event["type"] for event in page.chunk]
        assert COMMIT_PART not in shown
        assert shown.count(COMMIT) == 3
        event = next(event for event in page.chunk if event["event_id"] == last.event_id)
        assert event["content"] == content_of(server.node.store, last)
        assert event["content"].keys() == {"message", "public_group_state", "prev_commit_event_id"}


async def test_a_follower_gets_a_commit_as_one_message_wherever_its_page_begins(tmp_path: Path) -> None:
    async with club(tmp_path) as (server, _, _, room_id):
        entries = log(server, room_id)
        (*_, last) = (entry for entry in entries if entry.type == COMMIT)
        expected = decode_base64(str(content_of(server.node.store, last)["message"]))
        for cursor in (last.seq - 3, last.seq - 1):
            follower = FollowerRow(room_id=room_id, provider="b.example", protocol="mimi", cursor=cursor)
            notification = read_notification(server.node.store, follower)
            assert notification is not None
            assert len(notification.body) < MAX_NOTIFY_BYTES
            assert notification.cursor == last.seq
            assert FanoutMessage.decode(notification.body).message == expected


async def test_the_parts_at_the_end_of_a_log_are_found_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as (server, _, _, room_id):
        store, entries = server.node.store, log(server, room_id)
        (*_, last) = (entry for entry in entries if entry.type == COMMIT)
        first = next(entry.seq for entry in reversed(entries[: last.seq - 1]) if entry.type != COMMIT_PART)
        own = [orjson.loads(entry.pdu)["content"] for entry in entries[first : last.seq - 1]]
        assert len(own) == orjson.loads(last.pdu)["content"][PARTS]["count"] > parts._LOOK + 1
        assert parts_at(store, room_id, entries[last.seq - 2]) == own
        assert parts_at(store, room_id, entries[first]) == own[:1]
        assert parts_at(store, room_id, last) == parts_at(store, room_id, None) == []
        monkeypatch.setattr(parts, "MAX_PARTS", 3)
        assert parts_at(store, room_id, entries[last.seq - 2]) == own[-3:]


def changed(entry: EntryRow, **content: object) -> EntryRow:
    pdu: JsonObject = orjson.loads(entry.pdu)
    return replace(entry, pdu=orjson.dumps({**pdu, "content": {**pdu["content"], **content}}))


async def test_a_commit_with_other_parts_than_it_says_is_not_put_together(tmp_path: Path) -> None:
    async with club(tmp_path) as (server, _, _, room_id):
        entries = log(server, room_id)
        (*_, last) = (entry for entry in entries if entry.type == COMMIT)
        said = orjson.loads(last.pdu)["content"][PARTS]
        for wrong in ({**said, "count": said["count"] + 1}, {**said, "count": 100}, {**said, "sha256": "AA"}):
            with pytest.raises(Rejected):
                content_of(server.node.store, changed(last, **{PARTS: wrong}))
        with pytest.raises(Rejected):
            content_of(server.node.store, replace(last, seq=2))


async def test_a_hub_that_leaves_a_part_out_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as (server, alice, bob, room_id):
        await received(bob, Joined)
        keys = server_keys(await alice.api.server_keys())

        def lookup(name: str, key_id: str) -> bytes | None:
            return keys.get((name, key_id))

        assert verify_log((await alice.api.log(room_id, after=0, limit=200)).pdus, lookup).commits == 2
        monkeypatch.setattr(handshakes, "divide", lambda content: without_the_last(divide(content)))
        await bob.groups.update_keys(room_id)
        (*_, last) = log(server, room_id)
        with pytest.raises(LogBroken, match="another number of parts") as seen:
            verify_log((await alice.api.log(room_id, after=0, limit=200)).pdus, lookup)
        assert seen.value.seq == last.seq
        with pytest.raises(BrokenLog, match="another number of parts") as found:
            check_room(server.node.store, room_id, keys=lookup, mls=OpenMls(server.node.clock))
        assert found.value.seq == last.seq
        # Clients are shown what is there.
        page = await alice.api.messages(room_id, direction="b", limit=1)
        assert [event["content"].keys() for event in page.chunk] == [{PARTS, "prev_commit_event_id"}]


def without_the_last(divided: tuple[list[JsonObject], JsonObject]) -> tuple[list[JsonObject], JsonObject]:
    pieces, rest = divided
    return pieces[:-1], rest
