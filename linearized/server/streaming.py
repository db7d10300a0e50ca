"""Answers without a known end: written piece by piece for as long as client, source and server go on.

A piece is asked for only when the one before it is on its way, so that one stream never holds more than one
piece. Who does not take a piece in time loses the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from linearized.server.http import Receive, Response, Send
from linearized.server.http_connection import SEND_SECONDS

# How long a client may take for one piece. HTTP/1.1 connections are dropped by then; this is for a stream of
# HTTP/2 whose window stays closed while its connection lives.
PIECE_SECONDS: Final = SEND_SECONDS + 5


class Source(Protocol):
    """Where the pieces come from."""

    async def read(self) -> bytes | None:
        """The next piece, when there is one; None after the last. May be cancelled, once."""
        ...

    def close(self) -> None:
        """Nobody will read any more. May be called twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResponse(Response):
    """The beginning of an answer whose body comes from ``source``; ``body`` stays empty."""

    source: Source


class Ending:
    """Ends a stream between two pieces, never within one: HTTP/2 shares its connection with others."""

    def __init__(self) -> None:
        self._over = False
        self._waiting: trio.CancelScope | None = None

    def end(self) -> None:
        """Let no further piece be waited for."""
        self._over = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def next(self, source: Source) -> bytes | None:
        """The next piece, or None when the stream is to end."""
        if self._over:
            return None
        with trio.CancelScope() as self._waiting:
            return await source.read()
        return None


async def write_stream(
    response: StreamResponse, receive: Receive, send: Send, *, ending: Ending, drop: Callable[[], None]
) -> int:
    """Write the body of an answer whose head is sent, until it ends; how many bytes.

    Args:
        receive: tells when the client leaves; the request's body must be read.
        ending: with which the server ends it.
        drop: drops the connection of a client that does not take what it asked for.
    """
    size = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_left, receive, ending)
        while (piece := await ending.next(response.source)) is not None:
            with trio.move_on_after(PIECE_SECONDS) as patience:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if patience.cancelled_caught:
                drop()
                nursery.cancel_scope.cancel()
                return size
            size += len(piece)
        nursery.cancel_scope.cancel()
    with trio.move_on_after(PIECE_SECONDS):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    return size


async def _until_left(receive: Receive, ending: Ending) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ending.end()
