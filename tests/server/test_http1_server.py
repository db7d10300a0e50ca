"""One HTTP/1.1 connection as a server: requests in turn, and every way in which it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from linearized.server.http import Receive, Scope, Send
from linearized.server.http1_server import MAX_READS_AHEAD, Http1Server, Idle
from linearized.server.http_connection import CLOSE_SECONDS, SEND_SECONDS
from linearized.server.wires import PlainWire

KEEP_SECONDS = 75
GET = b"GET /a%2Fb?c=d HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"

App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer(send: Send, body: bytes = b"{}", status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": body})


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            await answer(send, b"gone", 400)
            return
        body, more = body + message["body"], message["more_body"]
    await answer(send, body)


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


class Client:
    """The other end of a connection that is being served."""

    def __init__(self, nursery: trio.Nursery, app: App) -> None:
        theirs, self.stream = socket_pair()
        self._wire = PlainWire(theirs)
        self.idle = Idle()
        self.ended = trio.Event()
        self._server = Http1Server(
            self._wire,
            app,
            scope={"client": ("192.0.2.1", 1)},
            idle=self.idle,
            keep_seconds=KEEP_SECONDS,
        )
        self._got = b""
        nursery.start_soon(self._serve)
        nursery.start_soon(self._read)

    async def _serve(self) -> None:
        async with self._wire:
            await self._server.serve()
        self.ended.set()

    async def _read(self) -> None:
        async with self.stream:
            with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                async for data in self.stream:
                    self._got += bytes(data)

    async def got(self) -> bytes:
        """What the server has written since the last time, once it waits."""
        await trio.testing.wait_all_tasks_blocked()
        got, self._got = self._got, b""
        return got

    async def say(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            await self.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        return await self.got()

    @property
    def is_open(self) -> bool:
        return not self.ended.is_set()


async def test_the_application_gets_the_request_as_it_was_written(nursery: trio.Nursery) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await answer(send)

    client = Client(nursery, app)
    sent = await client.say(GET)
    assert sent.startswith(b"HTTP/1.1 200 OK\r\nx: y\r\ndate: ")
    assert sent.endswith(b"content-length: 2\r\n\r\n{}")
    (scope,) = scopes
    assert {name: value for name, value in scope.items() if not name.endswith("_now")} == {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/a%2Fb",
        "raw_path": b"/a%2Fb",
        "query_string": b"c=d",
        "headers": [(b"host", b"a")],
        "client": ("192.0.2.1", 1),
    }


async def test_requests_share_a_connection_and_are_answered_in_order(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    sent = await client.say(PUT + b"abc" + PUT + b"def")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in sent.split(b"HTTP/")]
    assert bodies[1:] == [b"abc", b"def"]
    assert (await client.say(PUT, b"g", b"hi")).endswith(b"ghi")
    assert client.is_open


async def test_a_body_that_came_whole_is_taken_at_once_and_any_other_awaited(nursery: trio.Nursery) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = scope["body_now"]()
        if body is None:
            await echo(scope, receive, send)
        else:
            await answer(send, b"at once: " + body)

    client = Client(nursery, app)
    assert (await client.say(PUT + b"abc")).endswith(b"\r\n\r\nat once: abc")
    assert (await client.say(GET)).endswith(b"\r\n\r\nat once: ")
    assert (await client.say(PUT + b"a", b"bc")).endswith(b"\r\n\r\nabc")
    assert client.is_open


async def test_who_asks_whether_to_go_on_is_told_once_somebody_reads(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    asked = PUT[:-2] + b"Expect: 100-continue\r\n\r\n"
    assert await client.say(asked) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.say(b"a", b"bc")).endswith(b"\r\n\r\nabc")


async def test_who_does_not_wait_for_that_is_not_told(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    assert (await client.say(PUT[:-2] + b"Expect: 100-continue\r\n\r\nabc")).startswith(b"HTTP/1.1 200")


async def test_an_answer_before_the_end_of_the_request_ends_the_connection(nursery: trio.Nursery) -> None:
    async def hasty(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"", 413)

    client = Client(nursery, hasty)
    assert b"connection: close" in await client.say(PUT + b"a")
    assert not client.is_open


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
async def test_a_client_that_wants_no_more_gets_no_more(nursery: trio.Nursery, last: bytes) -> None:
    client = Client(nursery, echo)
    sent = await client.say(last + GET)
    assert sent.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in sent
    assert not client.is_open


async def test_what_is_no_request_is_answered_after_those_before_it(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    sent = await client.say(GET + b"GET / HTTP/1.1\r\n\r\n")
    assert sent.index(b"HTTP/1.1 200") < sent.index(b"HTTP/1.1 400")
    assert not client.is_open


async def test_a_body_that_is_framed_wrongly_is_none(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    chunked = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = await client.say(chunked, b"zz\r\n")
    assert sent.count(b"HTTP/1.1") == 1
    assert sent.endswith(b"gone")
    assert not client.is_open


async def test_a_client_that_leaves_in_the_middle_is_gone(nursery: trio.Nursery) -> None:
    client = Client(nursery, echo)
    await client.say(PUT + b"a")
    await client.stream.aclose()
    await client.ended.wait()


async def test_a_stream_goes_on_until_the_client_leaves(nursery: trio.Nursery) -> None:
    left = trio.Event()

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        assert not (await receive())["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        left.set()
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    client = Client(nursery, stream)
    assert (await client.say(GET)).endswith(b"\r\n\r\n3\r\none\r\n")
    await client.stream.aclose()
    await left.wait()
    await client.ended.wait()


async def test_a_client_that_talks_on_and_on_during_a_stream_has_left(nursery: trio.Nursery) -> None:
    left = trio.Event()

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    client = Client(nursery, stream)
    await client.say(GET, *[GET] * MAX_READS_AHEAD)
    assert not left.is_set()
    await client.say(GET)
    assert left.is_set()
    await client.ended.wait()


async def test_a_request_that_came_during_a_stream_is_the_next_one(nursery: trio.Nursery) -> None:
    ends = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["method"] == "PUT":
            await answer(send, b"next")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.CancelScope() as waiting:
            async with trio.open_nursery() as inner:

                async def until_left() -> None:
                    await receive()

                inner.start_soon(until_left)
                await ends.wait()
                waiting.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    client = Client(nursery, app)
    assert await client.say(GET, PUT + b"abc") == b""
    ends.set()
    assert (await client.got()).endswith(b"next")


async def test_nobody_is_waited_for_longer_than_said(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client = Client(nursery, echo)
    await client.say(GET)
    await trio.sleep(KEEP_SECONDS - 1)
    assert client.is_open
    await client.say(GET[:10])  # a request that never comes
    await trio.sleep(2)
    assert not client.is_open


async def test_who_stops_reading_is_dropped_after_a_while(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, bytes(10_000_000))

    ended = trio.Event()

    async def serve() -> None:
        await Http1Server(PlainWire(theirs), large, scope={}, idle=Idle(), keep_seconds=KEEP_SECONDS).serve()
        ended.set()

    ours, theirs = socket_pair()
    async with ours:
        nursery.start_soon(serve)
        await ours.send_all(GET + GET)
        await trio.sleep(SEND_SECONDS - 1)
        assert not ended.is_set()
        await trio.sleep(1 + CLOSE_SECONDS + 1)
        assert ended.is_set()


async def test_a_server_that_stops_ends_what_is_idle_and_the_rest_after_its_answer(
    nursery: trio.Nursery,
) -> None:
    go = trio.Event()

    async def held(_scope: Scope, _receive: Receive, send: Send) -> None:
        await go.wait()
        await answer(send)

    idle, busy = Client(nursery, echo), Client(nursery, held)
    await idle.say(GET)
    await busy.say(GET)
    for client in (idle, busy):
        client.idle.end()
    await trio.testing.wait_all_tasks_blocked()
    assert (idle.is_open, busy.is_open) == (False, True)
    go.set()
    assert b"connection: close" in await busy.got()
    assert not busy.is_open


async def test_an_application_that_says_nothing_costs_the_connection(nursery: trio.Nursery) -> None:
    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await trio.lowlevel.checkpoint()

    client = Client(nursery, silent)
    assert await client.say(GET) == b""
    assert not client.is_open


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


async def on_a_socket(app: App, read: Callable[[trio.SocketStream], Awaitable[bytes]]) -> bytes:
    """What a client on a real socket reads of the answer to one request, when it reads."""
    ours, theirs = socket_pair()
    server = Http1Server(PlainWire(theirs), app, scope={}, idle=Idle(), keep_seconds=KEEP_SECONDS)
    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(server.serve)
        await ours.send_all(GET[:-2] + b"Connection: close\r\n\r\n")
        return await read(ours)


async def test_a_socket_takes_what_it_can_at_once_and_the_rest_is_waited_for() -> None:
    pieces = [bytes([number]) * 400_000 for number in range(3)]
    at_once: list[bool] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        at_once.append(scope["send_now"](b"small"))
        for piece in pieces:
            at_once.append(scope["send_now"](piece))
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with trio.fail_after(60):
        answered = await on_a_socket(app, read_all)
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    chunks = [b"5\r\nsmall\r\n", *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)]
    assert body == b"".join(chunks) + b"0\r\n\r\n"
    assert at_once == [True, False, False, False]


async def test_nothing_is_written_to_who_has_left() -> None:
    wrote: list[bool] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await left.wait()
        wrote.extend(scope["send_now"](b"x" * 1000) for _ in range(3))
        await send({"type": "http.response.body", "body": b""})

    async def leave(stream: trio.SocketStream) -> bytes:
        await stream.aclose()
        left.set()
        return b""

    left = trio.Event()
    with trio.fail_after(60):
        assert await on_a_socket(app, leave) == b""
    assert wrote == [True] * 3, "nobody is to wait for them"
