"""The log as it grows, over server-sent events."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
import trio

from linearized.server.clients import live, pages
from linearized.server.clients.context import context_of
from linearized.store.base import DeviceRow, Role
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import MLS, Client, Server, room
from tests.server.clients.test_pseudonyms import acting, make
from tests.server.clients.traffic import validator

ROOM = "!r:a"
SECONDS = 5.0  # of the test's clock, within which anything that comes has come


@dataclass
class Stream:
    """A client's end of a stream; events as ``(name, id, data)``."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    over: bool = False
    stalled: bool = False
    dropped: bool = False
    left: trio.Event = field(default_factory=trio.Event)
    endings: set[Any] = field(default_factory=set)
    more: trio.Event = field(default_factory=trio.Event)

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode()

    @property
    def events(self) -> list[tuple[str, int | None, Any]]:
        found = []
        for block in self.text.split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" in lines:
                seq = int(lines["id"]) if "id" in lines else None
                validator("urn:linearized:client:live#/$defs/response").validate(orjson.loads(lines["data"]))
                found.append((lines.get("event", "message"), seq, orjson.loads(lines["data"])))
        return found

    @property
    def ids(self) -> list[int]:
        return [seq for _, seq, _ in self.events if seq is not None]

    async def until(self, count: int) -> list[int]:
        """The IDs of the events, once there are ``count`` of them."""
        with trio.fail_after(SECONDS):
            while len(self.ids) < count:
                self.more = trio.Event()
                await self.more.wait()
        return self.ids

    async def ended_quietly(self) -> None:
        with trio.fail_after(SECONDS):
            while not self.over:
                self.more = trio.Event()
                await self.more.wait()

    async def ended(self) -> Any:
        """The last event, once the stream is over."""
        await self.ended_quietly()
        return self.events[-1]


@asynccontextmanager
async def tail(
    client: Client, room_id: str = ROOM, *, method: str = "GET", last: str | None = None, begin: object = None
) -> AsyncIterator[Stream]:
    """Open a stream, in memory."""
    stream = Stream()
    pairs = {**client.extra, **({} if begin is None else {"from": str(begin)})}
    headers = [(b"authorization", f"Bearer {client.token}".encode())]
    if last is not None:
        headers.append((b"last-event-id", last.encode()))
    path = f"{room(room_id, MLS)}/live"
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await stream.left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            stream.status = message["status"]
            stream.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        if stream.stalled:
            await trio.sleep_forever()
        stream.pieces.append(message["body"])
        stream.over = not message["more_body"]
        stream.more.set()

    def dropped() -> None:
        stream.dropped = True
        stream.left.set()

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(pairs).encode(),
        "headers": headers,
        "client": ("192.0.2.1", 4711),
        "abort": dropped,
        "endings": stream.endings,
    }
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.server.app, scope, receive, send)
        with trio.fail_after(SECONDS):
            while not stream.pieces:
                stream.more = trio.Event()
                await stream.more.wait()
        yield stream
        stream.left.set()


async def refused(client: Client, status: int, errcode: str, room_id: str = ROOM, **query: Any) -> Any:
    async with tail(client, room_id, **query) as stream:
        body = orjson.loads(stream.text)
        assert (stream.status, body["errcode"]) == (status, errcode), body
        return body


async def fill(server: Server, client: Client, entries: int) -> None:
    rows = [member(ROOM, 1, client.user_id, "join"), *(entry(ROOM, n) for n in range(2, entries + 1))]
    await append(server.store, ROOM, *rows)


async def test_an_entry_arrives_when_it_is_appended(alice: Client, autojump_clock: None) -> None:
    room_id = await alice.create_room()
    head = (await alice.call("GET", f"{room(room_id, MLS)}/log")).ok()["head_seq"]
    async with tail(alice, room_id) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert "content-length" not in stream.headers
        assert stream.text == "retry: 2000\n\n"
        (await alice.send(room_id, "hello", "t")).ok()
        assert await stream.until(1) == [head + 1]
        (await alice.send(room_id, "again", "u")).ok()
        assert await stream.until(2) == [head + 1, head + 2]
    page = (await alice.call("GET", f"{room(room_id, MLS)}/log", query={"after": head})).ok()
    assert [data for _, _, data in stream.events] == page["pdus"]


async def test_an_entry_is_byte_for_byte_what_the_log_serves(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 3)
    async with tail(alice, begin=1) as stream:
        await stream.until(3)
    for row in server.store.entries(ROOM, after=0, limit=10):
        assert f"id: {row.seq}\ndata: {row.pdu.decode()}\n\n" in stream.text


async def test_it_begins_where_it_is_asked_to(server: Server, alice: Client, autojump_clock: None) -> None:
    await fill(server, alice, 250)
    async with tail(alice, begin=3) as stream:
        assert await stream.until(248) == list(range(3, 251))
    async with tail(alice, begin=251) as stream:
        assert stream.ids == []
    async with tail(alice, begin=0) as stream:
        assert await stream.until(250) == list(range(1, 251))


async def test_the_last_event_id_wins_over_the_query(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 9)
    async with tail(alice, last="7", begin=2) as stream:
        assert await stream.until(2) == [8, 9]
    async with tail(alice, last=" ", begin=9) as stream:
        assert await stream.until(1) == [9]


@pytest.mark.parametrize("last", ["-1", "x", "1" * 17, "٣", "10"])
async def test_an_id_that_is_none_of_this_log_is_refused(server: Server, alice: Client, last: str) -> None:
    await fill(server, alice, 9)
    if last.isascii():
        await refused(alice, 400, "M_INVALID_PARAM", last=last)
    else:
        await refused(alice, 400, "M_INVALID_PARAM", last=last.encode().decode("latin-1"))


@pytest.mark.parametrize("begin", ["x", "-1", "11"])
async def test_a_malformed_place_is_refused(server: Server, alice: Client, begin: str) -> None:
    await fill(server, alice, 9)
    await refused(alice, 400, "M_INVALID_PARAM", begin=begin)


async def test_only_joined_users_listen(server: Server, alice: Client, bob: Client) -> None:
    await fill(server, alice, 2)
    await refused(bob, 403, "M_FORBIDDEN")
    await refused(bob, 403, "M_FORBIDDEN", room_id="!none:a")
    await append(server.store, ROOM, member(ROOM, 3, bob.user_id, "invite"))
    await refused(bob, 403, "M_FORBIDDEN")


async def test_without_a_token_there_is_nothing(server: Server, alice: Client) -> None:
    await fill(server, alice, 2)
    (await server.call("GET", f"{room(ROOM, MLS)}/live")).refused(401, "M_MISSING_TOKEN")
    (await server.call("GET", f"{room(ROOM, MLS)}/live", token="x")).refused(401, "M_UNKNOWN_TOKEN")


async def test_a_stream_ends_behind_the_users_leave(
    server: Server, alice: Client, bob: Client, autojump_clock: None
) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"{room(room_id)}/join", {})).ok()
    async with tail(bob, room_id) as stream:
        (await alice.send(room_id, "hello", "t")).ok()
        await stream.until(1)
        (await bob.call("POST", f"{room(room_id)}/leave", {})).ok()
        (await alice.send(room_id, "about bob", "u")).ok()
        name, seq, data = await stream.ended()
    assert (name, seq, data["errcode"]) == ("end", None, "M_FORBIDDEN")
    kinds = [data["type"] for _, seq, data in stream.events if seq is not None]
    assert kinds == ["m.room.message", "m.room.member"]
    await refused(bob, 403, "M_FORBIDDEN", room_id=room_id)


async def test_what_a_user_may_not_read_is_left_out(
    server: Server, bob: Client, autojump_clock: None
) -> None:
    await append(
        server.store,
        ROOM,
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        member(ROOM, 3, bob.user_id, "join"),
        entry(ROOM, 4),
    )
    async with tail(bob, begin=1) as stream:
        assert await stream.until(3) == [1, 3, 4]


async def test_a_membership_of_a_followed_room_can_end_without_an_entry(
    server: Server, bob: Client, autojump_clock: None
) -> None:
    await append(server.store, ROOM, member(ROOM, 1, bob.user_id, "join"), role=Role.FOLLOWER)
    async with tail(bob, begin=1) as stream:
        await stream.until(1)
        await append(server.store, ROOM, memberships={bob.user_id: "leave"})
        server.node.notifier.users_changed([bob.user_id])
        assert (await stream.ended())[2]["errcode"] == "M_FORBIDDEN"


async def test_a_stream_ends_when_its_token_is_revoked(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 2)
    async with tail(alice) as stream:
        (await alice.call("POST", "/logout", {})).ok()
        name, _, data = await stream.ended()
    assert (name, data["errcode"]) == ("end", "M_UNKNOWN_TOKEN")


async def test_a_token_revoked_behind_our_back_is_noticed_at_the_next_heartbeat(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 2)
    async with tail(alice) as stream:
        row = DeviceRow(user_id=alice.user_id, device_id="DEVICE", display_name=None, token_hash="other")
        await server.store.put_device(row)
        await trio.sleep(live.HEARTBEAT_SECONDS + 1)
        assert (await stream.ended())[2]["errcode"] == "M_UNKNOWN_TOKEN"


async def test_a_pseudonyms_stream_counts_for_its_account(
    server: Server, alice: Client, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 1)
    (await make(alice)).ok()
    masked = acting(alice)
    joined = ((1, masked.user_id), (2, alice.user_id))
    await append(server.store, ROOM, *(member(ROOM, n, user, "join") for n, user in joined))
    async with tail(masked) as stream:
        assert stream.status == 200
        await refused(alice, 429, "M_LIMIT_EXCEEDED")
        (await alice.call("POST", "/logout", {})).ok()
        assert (await stream.ended())[2]["errcode"] == "M_UNKNOWN_TOKEN"


async def test_a_silent_stream_beats(server: Server, alice: Client, autojump_clock: None) -> None:
    await fill(server, alice, 2)
    async with tail(alice) as stream:
        await trio.sleep(live.HEARTBEAT_SECONDS * 3 + 1)
        assert stream.pieces[1:] == [b":\n\n"] * 3


async def test_an_account_has_so_many_streams_and_closing_one_gives_its_place_back(
    server: Server, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    await fill(server, alice, 2)
    await append(server.store, ROOM, member(ROOM, 3, bob.user_id, "join"))
    async with tail(alice), tail(alice):
        body = await refused(alice, 429, "M_LIMIT_EXCEEDED")
        assert body["retry_after_ms"] == live.RETRY_MS
        async with tail(bob) as other:
            assert other.status == 200
    async with tail(alice) as stream:
        assert stream.status == 200
    assert not context_of(server.node).tails


async def test_asking_for_the_head_opens_no_stream(server: Server, alice: Client) -> None:
    await fill(server, alice, 2)
    async with tail(alice, method="HEAD") as stream:
        assert (stream.status, stream.text, stream.over) == (200, "", True)
        assert "content-length" not in stream.headers
    assert not context_of(server.node).tails


async def test_a_reader_that_stalls_is_cut_off_and_goes_on_where_it_was(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 2)
    async with tail(alice, begin=1) as stream:
        await stream.until(2)
        stream.stalled = True
        await append(server.store, ROOM, *(entry(ROOM, n) for n in range(3, 1_000)))
        server.node.notifier.users_changed([alice.user_id])
        with trio.fail_after(300):
            await stream.left.wait()
        assert stream.dropped
    async with tail(alice, last="2") as stream:
        assert await stream.until(997) == list(range(3, 1_000))


async def test_a_stream_holds_one_piece_of_bounded_size(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1_000)
    await fill(server, alice, 90)
    async with tail(alice, begin=1) as stream:
        await stream.until(90)
    assert len(stream.pieces) > 5
    assert max(map(len, stream.pieces)) < 1_500


async def test_a_burst_reaches_a_stream_that_had_everything_in_pieces(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    monkeypatch.setattr(live, "MAX_ENTRIES", 10)
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1_000)
    await fill(server, alice, 2)
    async with tail(alice, begin=1) as stream:
        await stream.until(2)
        for first, behind in ((3, 45), (45, 46), (46, 56)):
            before = len(stream.pieces)
            await append(server.store, ROOM, *(entry(ROOM, n) for n in range(first, behind)))
            server.node.notifier.users_changed([alice.user_id])
            assert await stream.until(behind - 1) == list(range(1, behind))
            assert max(map(len, stream.pieces[before:])) < 1_500


async def test_a_log_that_is_shorter_than_what_was_told_has_nothing_to_tell(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    """A takeover may lose the end of a log."""
    await fill(server, alice, 2)
    async with tail(alice, begin=1) as stream:
        await stream.until(2)
        row = server.store.room(ROOM)
        assert row is not None
        with monkeypatch.context() as patch:
            patch.setattr(server.store, "room", lambda _: replace(row, head_seq=1))
            server.node.notifier.users_changed([alice.user_id])
            await trio.sleep(SECONDS)
            assert (stream.ids, stream.over) == ([1, 2], False)
        await append(server.store, ROOM, entry(ROOM, 3))
        server.node.notifier.users_changed([alice.user_id])
        assert await stream.until(3) == [1, 2, 3]


async def test_who_was_told_everything_is_told_of_leaving_and_nothing_behind_it(
    server: Server, bob: Client, autojump_clock: None
) -> None:
    await append(server.store, ROOM, member(ROOM, 1, bob.user_id, "join"))
    async with tail(bob, begin=1) as stream:
        await stream.until(1)
        await append(
            server.store,
            ROOM,
            entry(ROOM, 2),
            member(ROOM, 3, bob.user_id, "leave"),
            entry(ROOM, 4),
        )
        server.node.notifier.users_changed([bob.user_id])
        assert (await stream.ended())[2]["errcode"] == "M_FORBIDDEN"
    assert stream.ids == [1, 2, 3]


async def test_a_client_that_leaves_is_forgotten(server: Server, alice: Client, autojump_clock: None) -> None:
    await fill(server, alice, 2)
    async with tail(alice) as stream:
        assert context_of(server.node).tails == {alice.user_id: 1}
        stream.left.set()
        await stream.ended_quietly()
    assert not context_of(server.node).tails
    assert not stream.dropped


async def test_a_server_that_stops_ends_its_streams(
    server: Server, alice: Client, autojump_clock: None
) -> None:
    await fill(server, alice, 2)
    async with tail(alice, begin=1) as stream:
        await stream.until(2)
        for ending in stream.endings:
            ending.end()
        assert await stream.ended() == stream.events[-1]
        assert stream.events[-1][0] == "message"


async def test_thousands_of_idle_streams_share_one_event_of_their_user(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", math.inf)
    await fill(server, alice, 2)
    context, reads = context_of(server.node), 0
    read_room = server.store.room

    def counted(room_id: str) -> Any:
        nonlocal reads
        reads += 1
        return read_room(room_id)

    streams = 200
    async with trio.open_nursery() as nursery:
        opened: list[Stream] = []

        async def hold() -> None:
            async with tail(alice) as stream:
                opened.append(stream)
                await trio.sleep(live.HEARTBEAT_SECONDS - 1)

        for _ in range(streams):
            nursery.start_soon(hold)
        await trio.sleep(1)
        assert context.tails[alice.user_id] == len(opened) == streams
        monkeypatch.setattr(server.store, "room", counted)
        await trio.sleep(live.HEARTBEAT_SECONDS - 5)
        assert reads == 0, "an idle stream asks for nothing"
