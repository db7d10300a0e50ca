"""One HTTP/1.1 connection as a client, for requests that follow one another.

A follower costs its hub little but the requests to it. So what lies between a request and its socket is kept
short: one write, the parser of httptools, and the deadline of whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httptools
import httpx
import trio

from linearized.server.exchange import AnswerTooLarge, Outgoing, Reply, own_headers

# Bytes of an answer that are not its body: its head, what frames it, and answers that only say "go on".
# Servers send some hundred bytes, and proxies in front of them add to that.
MAX_HEAD_BYTES: Final = 64 * 1024
# What may frame each byte of the body beyond that: a server that writes a byte at a time sends five.
FRAME_BYTES: Final = 8
_READ_BYTES: Final = 64 * 1024  # four TLS records; the answer to a transaction is a fraction of one
_SMALL_BODY: Final = 64 * 1024  # goes with the head in one write; of more, a copy costs more than it spares
_FIRST_FINAL_STATUS: Final = 200  # below, another answer follows
_FRAMING: Final = (b"content-length", b"transfer-encoding")
_UNSAFE: Final = re.compile(rb"[\r\n\0]")


class Http1Connection:
    """A connection that has shaken hands. It takes one request at a time.

    Args:
        has_come: whether there is anything to read. Between requests that is the end of the connection.

    Attributes:
        reusable: whether another request may follow. If not, all it is good for is to be closed.
    """

    def __init__(self, stream: trio.abc.Stream, *, has_come: Callable[[], bool]) -> None:
        self._stream = stream
        self.reusable = True
        self.has_come = has_come

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        """As ``Channel.exchange``; how long that takes is for the caller to bound."""
        self.reusable = False
        await self._write(_head(request), request.body)
        answer = _Answer()
        while not answer.complete:
            answer.feed(await self._some())
            if answer.size > limit:
                raise AnswerTooLarge
        self.reusable = answer.keeps_open
        return Reply(status=answer.status, headers=httpx.Headers(answer.headers), body=answer.body())

    async def aclose(self) -> None:
        """Close the connection, without a goodbye: whoever asked has what it wants of it."""
        await trio.aclose_forcefully(self._stream)

    async def _write(self, head: bytes, body: bytes) -> None:
        # A server may close its side before it has read all, and have said why: its answer counts.
        with suppress(trio.BrokenResourceError):
            if len(body) <= _SMALL_BODY:
                await self._stream.send_all(head + body)
            else:
                await self._stream.send_all(head)
                await self._stream.send_all(body)

    async def _some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError as error:
            raise httpx.ReadError("the connection broke") from error


class _Answer:
    """The answer to one request, as far as it has come. The methods called ``on_…`` are the parser's."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0  # bytes of the body
        self.complete = False
        self.keeps_open = False
        self._parts: list[bytes] = []
        self._has_head = False
        self._other = 0  # bytes that are not the body
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what came; no bytes are the end of the connection.

        Raises:
            httpx.RemoteProtocolError: it is no answer.
        """
        if not data:
            self._end()
            return
        before = self.size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise httpx.RemoteProtocolError("the answer is not HTTP/1.1") from error
        self._other += len(data) - (self.size - before)
        if not self.complete and self._other > MAX_HEAD_BYTES + FRAME_BYTES * self.size:
            raise httpx.RemoteProtocolError("the answer has too much beside its body")

    def body(self) -> bytes:
        """What there is of the body."""
        return b"".join(self._parts)

    def _end(self) -> None:
        # "the message body length is determined by the number of octets received prior to the server closing
        # the connection" (RFC 9112, 6.3), if nothing else tells.
        if not self._has_head or any(name.lower() in _FRAMING for name, _ in self.headers):
            raise httpx.RemoteProtocolError("the connection ended before the answer did")
        self.complete = True

    def on_message_begin(self) -> None:
        """Another answer begins. If there was a whole one already, nobody asked for it."""
        self.keeps_open = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; what follows a body in chunks is left out."""
        if not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head ends."""
        if not self.complete:
            self.status = self._parser.get_status_code()
            self._has_head = self.status >= _FIRST_FINAL_STATUS

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self.complete:
            self._parts.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        """The answer ends, or one that only says "go on"."""
        if self._has_head:
            self.keeps_open = not self.complete and self._parser.should_keep_alive()
            self.complete = True
        else:
            self.headers.clear()


def _head(request: Outgoing) -> bytes:
    fields = {**request.headers, **own_headers()}
    if request.body:
        fields["Content-Length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
    encoded = [line.encode("ascii") for line in lines]
    if any(map(_UNSAFE.search, encoded)):
        raise httpx.LocalProtocolError("a request cannot hold ends of lines")
    return b"\r\n".join([*encoded, b"", b""])
