"""One connection: what is written is gathered, and how the idle time and the end come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
from hypercorn.trio.worker_context import WorkerContext

from linearized.server import http_connection
from linearized.server.http_connection import MAX_GATHERED, PeerStream, _IdleTime

SECONDS = 75


@dataclass
class Wire(trio.abc.Stream):
    """Records what was sent, and how the socket below was closed."""

    sent: list[bytes] = field(default_factory=list)
    closed: bool = False
    reads: bool = True

    @property
    def socket(self) -> Wire:
        return self

    def close(self) -> None:
        self.closed = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if not self.reads:
            await trio.sleep_forever()
        self.sent.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def stream(wire: Wire, nursery: trio.Nursery) -> PeerStream:
    made = PeerStream(wire, cast("trio.SocketStream", wire))
    nursery.start_soon(made.run)
    return made


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_the_pieces_of_an_answer_go_out_together(stream: PeerStream, wire: Wire) -> None:
    for piece in (b"head ", b"body"):
        await stream.send_all(piece)
    assert wire.sent == []
    await quiet()
    await stream.send_all(b"next")
    await quiet()
    assert wire.sent == [b"head body", b"next"]


async def test_much_is_not_kept_back(stream: PeerStream, wire: Wire) -> None:
    await stream.send_all(bytes(MAX_GATHERED + 1))
    assert wire.sent == [bytes(MAX_GATHERED + 1)]


async def test_the_end_comes_after_what_was_written(stream: PeerStream, wire: Wire) -> None:
    await stream.send_all(b"last words")
    stream.abort()
    assert not wire.closed
    await quiet()
    assert (wire.sent, wire.closed) == ([b"last words"], True)


async def test_with_nothing_to_say_the_end_comes_at_once(stream: PeerStream, wire: Wire) -> None:
    stream.abort()
    assert wire.closed


async def test_a_dropped_connection_waits_for_nobody(stream: PeerStream, wire: Wire) -> None:
    wire.reads = False
    await stream.send_all(b"unread")
    stream.drop()
    assert wire.closed


async def test_who_stops_reading_is_dropped_after_a_while(
    stream: PeerStream, wire: Wire, autojump_clock: trio.testing.MockClock
) -> None:
    wire.reads = False
    await stream.send_all(b"unread")
    await trio.sleep(http_connection.SEND_SECONDS + 1)
    assert (wire.sent, wire.closed) == ([], True)


async def test_closing_sends_what_was_written(stream: PeerStream, wire: Wire) -> None:
    await stream.send_all(b"last words")
    await stream.aclose()
    assert (wire.sent, wire.closed) == ([b"last words"], True)


@dataclass
class Tasks:
    """What Hypercorn calls a task group."""

    nursery: trio.Nursery

    def spawn(self, function: Any, *arguments: Any) -> None:
        self.nursery.start_soon(function, *arguments)


@dataclass
class Closing:
    at: list[float] = field(default_factory=list)

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        self.at.append(trio.current_time())


async def begun(nursery: trio.Nursery) -> tuple[_IdleTime, WorkerContext, Closing]:
    context, closing = WorkerContext(None), Closing()
    idle_time = _IdleTime(context, SECONDS, closing)
    await idle_time.restart(cast("Any", Tasks(nursery)), None)
    return idle_time, context, closing


async def test_a_connection_without_requests_is_closed_after_a_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    idle_time, _, closing = await begun(nursery)
    await trio.sleep(SECONDS - 1)
    idle_time.busy()
    await trio.sleep(10 * SECONDS)
    assert closing.at == []
    idle_time.idle()
    before = trio.current_time()
    await trio.sleep(2 * SECONDS)
    assert closing.at == [before + SECONDS]


async def test_a_server_that_stops_closes_what_is_idle_and_the_rest_when_it_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    (_, context, closing), (busy, later, closing_later) = await begun(nursery), await begun(nursery)
    busy.busy()
    for each in (context, later):
        await each.terminated.set()
    await quiet()
    assert (len(closing.at), closing_later.at) == (1, [])
    busy.idle()
    await quiet()
    assert len(closing_later.at) == 1


async def test_a_connection_whose_peer_has_left_is_not_closed_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    idle_time, _, closing = await begun(nursery)
    await idle_time.stop()
    await trio.sleep(2 * SECONDS)
    assert closing.at == []
