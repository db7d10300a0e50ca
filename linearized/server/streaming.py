"""Answers without a known end: written piece by piece for as long as client, source and server go on.

A piece is asked for only when the one before it is on its way, so that one stream never holds more than one
piece. Who does not take a piece in time loses the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from linearized.protocol.values import value_object
from linearized.server.http import Receive, Response, Send
from linearized.server.http_connection import SEND_SECONDS

# How long a client may take for one piece. HTTP/1.1 connections are dropped by then; this is for a stream of
# HTTP/2 whose window stays closed while its connection lives.
PIECE_SECONDS: Final = SEND_SECONDS + 5


class Source(Protocol):
    """Where the pieces come from.

    After ``silence_seconds`` without a piece ``heartbeat`` is written, so that who is on the way sees that
    the connection lives.
    """

    @property
    def silence_seconds(self) -> float:
        """Seconds, or infinity."""
        ...

    @property
    def heartbeat(self) -> bytes:
        """A piece that says nothing."""
        ...

    async def read(self) -> bytes | None:
        """The next piece, when there is one; None after the last. May be cancelled and called again."""
        ...

    def close(self) -> None:
        """Nobody will read any more. May be called twice."""
        ...


@value_object
class StreamResponse(Response):
    """The beginning of an answer whose body comes from ``source``; ``body`` stays empty."""

    source: Source


class Ending:
    """Ends a stream between two pieces, never within one: HTTP/2 shares its connection with others."""

    def __init__(self) -> None:
        self.is_over = False
        self._reading: trio.CancelScope | None = None

    def end(self) -> None:
        """Let no further piece be waited for."""
        self.is_over = True
        if self._reading is not None:
            self._reading.cancel()

    @contextmanager
    def reading(self, until: float) -> Iterator[trio.CancelScope]:
        """Wait within for pieces, until a time of trio's clock."""
        with trio.move_on_at(until) as self._reading:
            yield self._reading
        self._reading = None


SendNow = Callable[[bytes], bool]
"""Takes a piece and writes as much of it as can be written at once; whether that is all. If not, the next
``send`` sends the rest first, and has to be waited for before there is another piece.
"""


async def write_stream(
    response: StreamResponse,
    receive: Receive,
    send: Send,
    *,
    ending: Ending,
    drop: Callable[[], None],
    send_now: SendNow | None = None,
) -> int:
    """Write the body of an answer whose head is sent, until it ends; how many bytes.

    Args:
        receive: tells when the client leaves; the request's body must be read.
        ending: with which the server ends it.
        drop: drops the connection of a client that does not take what it asked for.
        send_now: for connections on which that is possible: it saves half of what a small piece costs.
    """
    writer = _Writer(response.source, ending, send_now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_left, receive, ending)
        while (piece := await writer.write()) is not None:
            with trio.move_on_after(PIECE_SECONDS) as patience:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if patience.cancelled_caught:
                drop()
                nursery.cancel_scope.cancel()
                return writer.size
        nursery.cancel_scope.cancel()
    with trio.move_on_after(PIECE_SECONDS):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    return writer.size


class _Writer:
    """Writes pieces for as long as each is written at once, all in one scope: one for each would cost as much
    as the writing.
    """

    def __init__(self, source: Source, ending: Ending, send_now: SendNow | None) -> None:
        self.size = 0
        self._source = source
        self._ending = ending
        self._send_now = send_now
        self._spoke = trio.current_time()

    async def write(self) -> bytes | None:
        """Write until a piece has to be waited for: that piece, or nothing if what was begun is to be waited
        for; None when the stream is to end.
        """
        while not self._ending.is_over:
            due = self._spoke + self._source.silence_seconds
            if trio.current_time() >= due:
                return self._taken(self._source.heartbeat)
            with self._ending.reading(due) as reading:
                while (piece := await self._source.read()) is not None:
                    self._taken(piece)
                    if self._send_now is None:
                        return piece
                    # Once its time is over, this scope is none to go on in.
                    if not self._send_now(piece) or reading.cancel_called:
                        return b""
                return None
        return None

    def _taken(self, piece: bytes) -> bytes:
        self.size += len(piece)
        self._spoke = trio.current_time()
        return piece


async def _until_left(receive: Receive, ending: Ending) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ending.end()
