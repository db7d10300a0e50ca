"""A room's log as it grows, over server-sent events (WHATWG HTML, section 9.2), across lost connections.

``live_tail`` gives entries in order, each once. What a connection broke in the middle of comes again over the
next one, which begins behind the last entry that was complete.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

import httpx
import orjson
import trio

from linearized.client.api import ProviderApi
from linearized.client.errors import ApiError, ClientError, MalformedAnswer, ServerUnreachable
from linearized.client.transport import BACKOFF_FACTOR, FIRST_BACKOFF, MAX_ERROR_TEXT

# Bytes of one event: the largest entry is 64 KiB, and what does not end is no event.
MAX_EVENT_BYTES: Final = 1024 * 1024
# The longest pause between two attempts, seconds: a server that is down for an hour is found again soon.
MAX_PAUSE: Final = 60.0
# Statuses after which the server may let us in again; any other refusal is final.
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
_MAX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event: its name (``message`` without one), ID as it came, and data."""

    name: str
    last_id: str
    data: bytes


class EventParser:
    """Bytes in, events out; no I/O. Lines end in LF, CR LF or CR, as the standard has it.

    Raises:
        MalformedAnswer: an event has more than ``MAX_EVENT_BYTES``, or is not UTF-8 where it must be.
    """

    def __init__(self) -> None:
        self._kept = b""
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Take what arrived; the events that it completed."""
        text = self._kept + chunk
        held = b""
        if text.endswith(b"\r"):  # the LF that belongs to it may be on its way
            text, held = text[:-1], b"\r"
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._kept = rest + held
        if len(self._kept) > MAX_EVENT_BYTES:
            raise MalformedAnswer(f"an event exceeds {MAX_EVENT_BYTES} bytes")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise MalformedAnswer(f"an event exceeds {MAX_EVENT_BYTES} bytes")
            self._data.append(value)
        elif field in (b"event", b"id"):
            try:
                text = value.decode()
            except UnicodeDecodeError as error:
                raise MalformedAnswer("an event's name or ID is not UTF-8") from error
            if field == b"event":
                self._name = text
            else:
                self._id = text
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._size, self._name = [], 0, ""
        # "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty
        # string and return."
        return ServerEvent(name or "message", self._id, b"\n".join(data)) if data else None


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """An entry as it came: its place in the log, and the canonical PDU."""

    seq: int
    pdu: bytes


class LiveTail:
    """Iterate over it for entries; whatever ends the stream for good is raised."""

    def __init__(self, entries: trio.MemoryReceiveChannel[LiveEntry]) -> None:
        self._entries = entries
        self.error: ClientError | None = None
        self.connections = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LiveEntry:
        try:
            return await self._entries.receive()
        except trio.EndOfChannel:
            raise self.error or StopAsyncIteration from None


@asynccontextmanager
async def live_tail(
    api: ProviderApi,
    room_id: str,
    *,
    after: int,
    http: httpx.AsyncClient | None = None,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator[LiveTail]:
    """The entries behind number ``after``, for as long as the block runs.

    Args:
        http: a client of its own for the stream, best without HTTP/2: httpx resets no stream that is left,
            and the server goes on sending until the connection closes.
        jitter: gives a number in [0, 1).

    The iteration raises:
        ApiError: the server refuses for good: the user left the room, or the token was revoked.
        MalformedAnswer: what comes is no such stream.
    """
    send, receive = trio.open_memory_channel[LiveEntry](0)
    tail = LiveTail(receive)
    connecting = _Connecting(
        api, room_id=room_id, after=after, http=http, jitter=jitter, tail=tail, entries=send
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connecting.run)
            yield tail
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the caller's block raised is the caller's, without our nursery's wrapping.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


class _Connecting:
    """Keeps one stream connected."""

    def __init__(
        self,
        api: ProviderApi,
        *,
        room_id: str,
        after: int,
        http: httpx.AsyncClient | None,
        jitter: Callable[[], float],
        tail: LiveTail,
        entries: trio.MemorySendChannel[LiveEntry],
    ) -> None:
        self._api = api
        self._room_id = room_id
        self._after = after
        self._http = http
        self._jitter = jitter
        self._tail = tail
        self._entries = entries
        self._parser = EventParser()
        self._pause = FIRST_BACKOFF

    async def run(self) -> None:
        """Connect, again and again, until the server says that it is over."""
        async with self._entries:
            while True:
                wait = 0.0
                self._parser = EventParser()
                self._tail.connections += 1
                try:
                    await self._api.live(self._room_id, after=self._after, take=self._take, http=self._http)
                except ServerUnreachable:
                    pass  # it may be back in a moment, and nothing is lost until then
                except ApiError as error:
                    if error.status not in _TRANSIENT:
                        self._tail.error = error
                        return
                    wait = error.retry_after
                except ClientError as error:
                    self._tail.error = error
                    return
                await trio.sleep(max(wait, self._pause * (0.5 + self._jitter() / 2)))
                self._pause = min(self._pause * BACKOFF_FACTOR, MAX_PAUSE)

    async def _take(self, chunk: bytes) -> None:
        for event in self._parser.feed(chunk):
            if event.name == "end":
                raise _refusal(event.data)
            if event.name == "message":
                entry = LiveEntry(_seq(event.last_id), event.data)
                if entry.seq <= self._after:
                    raise MalformedAnswer("the stream goes back")
                await self._entries.send(entry)
                self._after = entry.seq
                self._pause = FIRST_BACKOFF


def _seq(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise MalformedAnswer("an entry has no number")
    return int(text)


def _refusal(data: bytes) -> ClientError:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return MalformedAnswer("the stream ended with what is no error object")
    status = 401 if body.get("errcode") in ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN") else 403
    return ApiError(
        status, str(body.get("errcode", "M_UNKNOWN")), str(body.get("error", ""))[:MAX_ERROR_TEXT]
    )
