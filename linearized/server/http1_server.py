"""One HTTP/1.1 connection as a server, for an ASGI application.

Requests are answered one after the other in the connection's own task, and an answer is one write. Hypercorn,
which serves HTTP/2 here, costs as much again as a small request does.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from linearized.server.http import Receive, Scope, Send
from linearized.server.http1_answers import Answer, Dates, refusal
from linearized.server.http1_requests import Incoming, Requests
from linearized.server.http_connection import CLOSE_SECONDS, SEND_SECONDS
from linearized.server.wires import Wire

_READ_BYTES: Final = 64 * 1024  # four TLS records
# Reads while an answer is made: a client has nothing to say then but its next request. Each may bring as many
# bytes as above, and they are kept.
MAX_READS_AHEAD: Final = 4
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE: Final[dict[str, Any]] = {"type": "http.disconnect"}


class Idle:
    """The connections that wait for a request: all of them end when the server does."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: set[trio.CancelScope] = set()

    def end(self) -> None:
        """Let nobody wait any more."""
        self.ended = True
        for scope in self._waiting:
            scope.cancel()

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """Wait within, for so many seconds."""
        with trio.move_on_after(0 if self.ended else seconds) as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)


class Http1Server:
    """Serves the requests of one connection.

    Args:
        app: called for each request; its scope has ``send_now`` (``streaming.SendNow``), and ``body_now``,
            which gives the body if it has come whole, and then nothing is left to receive.
        scope: what every request's scope holds beside the request's own.
        keep_seconds: how long a request may be waited for, its head included.
    """

    def __init__(
        self,
        wire: Wire,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        scope: Scope,
        idle: Idle,
        keep_seconds: float,
    ) -> None:
        self._wire = wire
        self._app = app
        self._scope = scope
        self._idle = idle
        self._keep_seconds = keep_seconds
        self._requests = Requests()
        self._dates = Dates()
        self._gone = False  # the client is, or it no longer reads

    async def serve(self) -> None:
        """Until the client leaves, or is told that no more is answered."""
        keeps_open = True
        while keeps_open and (request := await self._next()) is not None:
            exchange = _Exchange(self, request)
            scope = self._scope_of(request, exchange)
            await self._app(scope, exchange.receive, exchange.send)
            keeps_open = exchange.keeps_open and not self._gone
        if self._requests.error is not None and keeps_open:
            await self.write(refusal(self._requests.error, self.date()))
        with trio.move_on_after(CLOSE_SECONDS):
            await self._wire.aclose()

    @property
    def is_ending(self) -> bool:
        """Whether this request is the last one whatever the client says: the server stops."""
        return self._idle.ended

    def leave(self) -> None:
        """Read and write no more."""
        self._gone = True

    async def read(self) -> bool:
        """Take what comes next; False if nothing does any more."""
        if self._gone or self._requests.error is not None:
            return False
        try:
            data = bytes(await self._wire.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._gone = True
            return False
        self._requests.feed(data)
        return True

    def write_now(self, data: bytes) -> bool:
        """Write to the socket what it takes of ``data`` at once, and keep the rest for ``write``; whether
        that was all. Not while something is being written.
        """
        if self._gone:
            return True
        try:
            return self._wire.write_now(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._gone = True
            return True

    async def write(self, data: bytes) -> None:
        """Send ``data``, unless nobody reads it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.write_now(data):
            return
        try:
            with trio.fail_after(SEND_SECONDS):
                await self._wire.drain()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._gone = True

    def date(self) -> bytes:
        """The Date header of now."""
        return self._dates.at(time.time())

    async def _next(self) -> Incoming | None:
        request = self._requests.next()
        if request is not None:
            await trio.lowlevel.checkpoint()  # who sends many at once shares the loop with all others
            return request
        with self._idle.waiting(self._keep_seconds):
            while await self.read():
                request = self._requests.next()
                if request is not None:
                    return request
        return None

    def _scope_of(self, request: Incoming, exchange: _Exchange) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            **self._scope,
            "type": "http",
            "http_version": request.version,
            "method": request.method,
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "headers": request.headers,
            "send_now": exchange.send_now,
            "body_now": exchange.body_now,
        }


class _Exchange:
    """A request and its answer, as the application sees them."""

    def __init__(self, connection: Http1Server, request: Incoming) -> None:
        self.keeps_open = False  # whether the connection is good for another one
        self._connection = connection
        self._request = request
        self._answer: Answer | None = None
        self._continues = request.wants_continue
        self._taken = False  # all of the request
        self._reads_ahead = 0
        self._start: dict[str, Any] = {}

    def body_now(self) -> bytes | None:
        """The body of a request that has come whole; None of one that has not."""
        if not self._request.complete:
            return None
        self._taken = True
        return self._request.take()

    async def receive(self) -> dict[str, Any]:
        """The next part of the request's body; after the last, wait until the client leaves."""
        request = self._request
        while self._taken:
            if not await self._connection.read():
                return _GONE
            self._reads_ahead += 1
            if self._reads_ahead > MAX_READS_AHEAD:
                self._connection.leave()
                return _GONE
        body = request.take()
        if not body and not request.complete:
            if self._continues:
                self._continues = False
                await self._connection.write(_CONTINUE)
            if not await self._connection.read():
                return _GONE
            body = request.take()
        self._taken = request.complete
        return {"type": "http.request", "body": body, "more_body": not request.complete}

    def send_now(self, body: bytes) -> bool:
        """Write a part of the answer, not the last, as ``streaming.SendNow``."""
        return self._connection.write_now(self._part(body, more=True))

    async def send(self, message: dict[str, Any]) -> None:
        """Write a part of the answer."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        await self._connection.write(self._part(body, more=more))
        if not more and self._answer is not None:
            self.keeps_open = self._answer.keeps_open

    def _part(self, body: bytes, *, more: bool) -> bytes:
        """A part of the answer as it is written, with the head before the first."""
        head = b""
        if self._answer is None:
            self._answer = self._begin()
            head = self._answer.head(self._connection.date(), None if more else body)
        return head + self._answer.piece(body, more=more)

    def _begin(self) -> Answer:
        request = self._request
        return Answer(
            self._start["status"],
            self._start["headers"],
            for_head=request.method == "HEAD",
            chunks=request.version == "1.1",
            # What is left of a request would be taken for the next one.
            keeps_open=request.keeps_open and request.complete and not self._connection.is_ending,
        )
