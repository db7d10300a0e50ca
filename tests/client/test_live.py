"""The live tail: the parser on bytes, reconnecting to a scripted server, and the real one over sockets."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from linearized.client import ApiError, LogBroken, ProviderApi
from linearized.client import live as module
from linearized.client.bulk import Keys, RoomHistory
from linearized.client.errors import MalformedAnswer
from linearized.client.live import EventParser, LiveEntry, ServerEvent, live_tail
from linearized.client.offline import HistoryStore
from linearized.config import Address
from linearized.server import run
from linearized.server.app import build_app
from linearized.server.listener import Binding, serve_bindings
from tests.client.support import wall_clock
from tests.client.test_real_server import open_club
from tests.server.support import PASSWORD
from tests.server.support import Server as Provider

ROOM = "!r:a"


def entry(seq: int) -> bytes:
    return b'id: %d\ndata: {"n":%d}\n\n' % (seq, seq)


class Script(httpx.AsyncByteStream):
    """What one connection gives, then silence or its end."""

    def __init__(self, *pieces: bytes, then: str = "end") -> None:
        self.pieces, self.then = pieces, then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await trio.lowlevel.checkpoint()
            yield piece
        if self.then == "break":
            raise httpx.ReadError("broken")
        if self.then == "silence":
            await trio.sleep_forever()


Step = Callable[[], httpx.Response]


@dataclass
class Server:
    """Answers each request with the next step; remembers what was asked and when."""

    steps: list[Step]
    asked: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.params["from"])
        self.at.append(trio.current_time())
        if not self.steps:
            return httpx.Response(200, stream=Script(then="silence"))
        return self.steps.pop(0)()


def streams(*pieces: bytes, then: str = "end") -> Step:
    return lambda: httpx.Response(200, stream=Script(*pieces, then=then))


def refuses(status: int, **body: Any) -> Step:
    return lambda: httpx.Response(status, json={"errcode": "M_FORBIDDEN", "error": "no", **body})


def unreachable() -> httpx.Response:
    raise httpx.ConnectError("down")


async def read(server: Server, count: int, *, after: int = 0) -> list[int]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        api = ProviderApi("https://a", token="t", http=http, clock=lambda: 0, ids=lambda _: "id")
        found: list[LiveEntry] = []
        async with live_tail(api, ROOM, after=after, jitter=lambda: 0.0) as tail:
            with trio.fail_after(10_000):
                async for item in tail:
                    found.append(item)
                    assert item.pdu == b'{"n":%d}' % item.seq
                    if len(found) == count:
                        break
    return [item.seq for item in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\n", [("message", "", b"a")]),
        (b"data:a\ndata: b\n\n", [("message", "", b"a\nb")]),
        (b"event: end\nid: 7\ndata: x\n\ndata: y\n\n", [("end", "7", b"x"), ("message", "7", b"y")]),
        (b": beat\n\nretry: 5\n\nid: 4\n\ndata\n\n", [("message", "4", b"")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("message", "", one) for one in (b"a", b"b", b"c")]),
        (b"data: incomplete\n", []),
    ],
)
def test_events_are_read_however_they_are_cut(text: bytes, expected: list[tuple[str, str, bytes]]) -> None:
    whole = [ServerEvent(*event) for event in expected]
    assert EventParser().feed(text) == whole
    parser = EventParser()
    assert [event for byte in text for event in parser.feed(bytes([byte]))] == whole


@pytest.mark.parametrize(
    "text", [b"data: " + b"x" * 100, b"data: " + b"x" * 30 + b"\ndata: " + b"x" * 30 + b"\n"]
)
def test_an_event_without_end_is_refused(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 50)
    with pytest.raises(MalformedAnswer):
        EventParser().feed(text)


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(MalformedAnswer):
        EventParser().feed(b"id: \xff\n")


async def test_a_broken_connection_is_made_again_behind_the_last_entry(autojump_clock: None) -> None:
    server = Server(
        [streams(entry(1), entry(2)[:9], then="break"), unreachable, streams(entry(2) + entry(3))]
    )
    assert await read(server, 3) == [1, 2, 3]
    assert server.asked == ["1", "2", "2"]


async def test_pauses_grow_and_begin_anew_when_something_came(autojump_clock: None) -> None:
    server = Server([unreachable] * 3 + [streams(entry(8))] + [unreachable] * 12 + [streams(entry(9))])
    assert await read(server, 2, after=7) == [8, 9]
    pauses = [round(late - early, 2) for early, late in zip(server.at, server.at[1:], strict=False)]
    assert pauses[:7] == [0.25, 0.5, 1, 0.25, 0.5, 1, 2]
    assert max(pauses) == module.MAX_PAUSE / 2


async def test_a_silent_connection_is_given_up(autojump_clock: None) -> None:
    server = Server([streams(b":\n\n", then="silence"), streams(entry(1))])
    assert await read(server, 1) == [1]
    assert len(server.at) == 2


async def test_a_server_that_asks_for_patience_gets_it(autojump_clock: None) -> None:
    server = Server([refuses(429, errcode="M_LIMIT_EXCEEDED", retry_after_ms=30_000), streams(entry(1))])
    assert await read(server, 1) == [1]
    assert server.at[1] - server.at[0] == pytest.approx(30)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (refuses(403), 403),
        (refuses(401, errcode="M_UNKNOWN_TOKEN"), 401),
        (streams(b'event: end\ndata: {"errcode":"M_UNKNOWN_TOKEN","error":"gone"}\n\n'), 401),
        (streams(b'event: end\ndata: {"errcode":"M_FORBIDDEN","error":"left"}\n\n'), 403),
    ],
)
async def test_a_refusal_ends_it(step: Step, status: int, autojump_clock: None) -> None:
    with pytest.raises(ApiError) as refused:
        await read(Server([step]), 1)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "text",
    [
        b"id: x\ndata: {}\n\n",
        b"data: {}\n\n",
        entry(3) + entry(3),
        b"event: end\ndata: x\n\n",
        b"event: end\ndata: 1\n\n",
    ],
)
async def test_what_is_no_such_stream_ends_it(text: bytes, autojump_clock: None) -> None:
    with pytest.raises(MalformedAnswer):
        await read(Server([streams(text)]), 2)


@asynccontextmanager
async def listening(server: Provider) -> AsyncIterator[str]:
    """The provider's client API on a socket; its URL."""
    stop = trio.Event()
    binding = Binding(address=Address(host="127.0.0.1", port=0), app=build_app(run.plain_routes(server.node)))
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(serve_bindings, [binding], stop=stop, grace_seconds=5))
        yield f"http://{address}"
        stop.set()


async def test_a_pulled_room_goes_on_live_and_checked(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice = await club.device(server, "alice")
        room_id = await alice.api.create_room(room_version="I.1")
        async with listening(server) as url, httpx.AsyncClient() as http:
            api = ProviderApi(url, token=None, http=http, clock=wall_clock, ids=secrets.token_urlsafe)
            session = api.with_login(await api.login("alice", PASSWORD))
            with HistoryStore(tmp_path / "history.sqlite") as store, trio.fail_after(30):
                history = RoomHistory(session, room_id, store, keys=Keys(session))
                head = (await history.pull()).entries
                async with history.follow() as entries:
                    for number in range(3):
                        content = {"msgtype": "m.text", "body": f"live {number}"}
                        await alice.api.send_event(room_id, "m.room.message", content, txn_id=str(number))
                        event = await anext(entries)
                        assert event.content == content
                await history.sign()
                kept = store.room(room_id)
                assert kept is not None
                assert kept.entries == kept.signed_entries == head + 3
                rows = server.node.store.entries(room_id, after=0, limit=100)
                assert list(store.pdus(room_id)) == [row.pdu for row in rows]


async def test_an_entry_that_was_changed_on_the_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice = await club.device(server, "alice")
        room_id = await alice.api.create_room(room_version="I.1")
        with HistoryStore(tmp_path / "history.sqlite") as store:
            history = RoomHistory(alice.api, room_id, store, keys=Keys(alice.api))
            head = (await history.pull()).entries
            await alice.api.send_event(room_id, "m.room.message", {"body": "pay 10"}, txn_id="t")
            (row,) = server.node.store.entries(room_id, after=head, limit=1)
            for seq, pdu, reason in (
                (head + 1, row.pdu.replace(b"pay 10", b"pay 99"), "hash"),
                (head + 2, row.pdu, "does not tell"),
                (head + 1, row.pdu.replace(b'{"', b'{ "', 1), "form"),
            ):

                async def live(_self: ProviderApi, _room: str, *, after: int, take: Any, http: Any) -> None:
                    del after, http
                    await take(b"id: %d\ndata: %b\n\n" % (seq, pdu))  # noqa: B023 - called within the loop

                monkeypatch.setattr(ProviderApi, "live", live)
                again = RoomHistory(alice.api, room_id, store, keys=Keys(alice.api))
                await known(again, head)
                with pytest.raises(LogBroken, match=reason) as broken:
                    async with again.follow() as entries:
                        await anext(entries)
                assert broken.value.seq == head + 1


async def known(history: RoomHistory, head: int) -> None:
    """Have the first entries checked, as they are in its store."""
    history._kept = head
    await history._known(head, lambda *_: None)
