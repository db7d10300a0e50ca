"""What comes in on an HTTP/1.1 connection, as requests (RFC 9112). No I/O.

The parser is httptools', which is strict about what frames a message: two lengths, a length beside chunks, or
lines that end otherwise than they should are errors. Here is what a parser leaves open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httptools

# Bytes of a request that are not its body, roughly: its line, its head, and what frames it. Four signatures
# of 4 KB and a path of some kilobytes leave room for what proxies add.
MAX_HEAD_BYTES: Final = 64 * 1024
# What may frame each byte of the body beyond that: a client that writes a byte at a time sends five.
FRAME_BYTES: Final = 8

_OF_AN_UPGRADE: Final = frozenset({b"upgrade", b"http2-settings"})
_VERSIONS: Final = frozenset({"1.0", "1.1"})


@dataclass(slots=True)
class Incoming:
    """One request. Its head is complete; of its body there is what has come and was not taken."""

    method: str = ""
    target: bytes = b""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # names in lower case
    keeps_open: bool = False  # whether another request may follow
    complete: bool = False
    _parts: list[bytes] = field(default_factory=list)

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits with the body until it is told to go on."""
        return self.version == "1.1" and (b"expect", b"100-continue") in (
            (name, value.lower()) for name, value in self.headers
        )

    def add(self, part: bytes) -> None:
        """A part of the body has come."""
        self._parts.append(part)

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        if len(self._parts) == 1:
            return self._parts.pop()
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class Requests:
    """The requests of one connection, in the order they come. The methods called ``on_…`` are the parser's.

    Attributes:
        error: what to answer to whoever sent what is no request; nothing after it is read.
    """

    def __init__(self) -> None:
        self.error: HTTPStatus | None = None
        self._waiting: deque[Incoming] = deque()
        self._last = Incoming()  # whose parts come
        self._in_head = False
        self._body = 0  # bytes of the last one's body
        self._beside = 0  # and of what is not
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Take what came. What is wrong with it is in ``error``."""
        before = self._body
        last = self._last
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError:
            # "An origin server that receives a request method that is unrecognized or not implemented SHOULD
            # respond with the 501 (Not Implemented) status code" (RFC 9110, 9.1). The parser knows the
            # registered ones.
            self.error = self.error or HTTPStatus.NOT_IMPLEMENTED
        except httptools.HttpParserError:
            self.error = self.error or HTTPStatus.BAD_REQUEST
        if self._last is not last:
            return  # counted from the next time on: what has come is one read
        self._beside += len(data) - (self._body - before)
        if self._beside > MAX_HEAD_BYTES + FRAME_BYTES * self._body:
            self.error = self.error or HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def next(self) -> Incoming | None:
        """The next request, if its head has come."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come that was not taken."""
        return not self._waiting and not self._in_head

    def _stay(self, rest: bytes) -> None:
        # "A server MAY ignore a received Upgrade header field if it wishes to continue using the current
        # protocol" (RFC 9110, 7.8). The parser goes no further, so it gets the request again without.
        if self.error is not None:
            return
        asked = self._waiting.pop()
        if asked.method == "CONNECT":  # which is for proxies
            self.error = HTTPStatus.NOT_IMPLEMENTED
            return
        fields = [
            (name, value) for name, value in asked.headers if name not in {b"upgrade", b"http2-settings"}
        ]
        self._parser = httptools.HttpRequestParser(self)
        head = b"%b %b HTTP/%b\r\n" % (asked.method.encode(), asked.target, asked.version.encode())
        self.feed(head + b"".join(b"%b: %b\r\n" % each for each in fields) + b"\r\n" + rest)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._last = Incoming()
        self._in_head = True
        self._body = self._beside = 0

    def on_url(self, part: bytes) -> None:
        """A part of the request target."""
        self._last.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; what follows a body in chunks is left out."""
        if self._in_head:
            self._last.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head ends."""
        request, self._in_head = self._last, False
        request.method = self._parser.get_method().decode("ascii")
        request.version = self._parser.get_http_version()
        # HTTP/1.0 has to ask for it and to be told; who still speaks it makes few requests.
        request.keeps_open = request.version == "1.1" and self._parser.should_keep_alive()
        if self.error is None:
            self.error = _fault(request)
        if self.error is None:
            self._waiting.append(request)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._body += len(part)
        self._last.add(part)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._last.complete = True


def _fault(request: Incoming) -> HTTPStatus | None:
    if request.version not in _VERSIONS:
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    # "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a
    # Host header field and to any request message that contains more than one Host header field line" (RFC
    # 9112, 3.2).
    hosts = sum(name == b"host" for name, _ in request.headers)
    if hosts > 1 or (hosts == 0 and request.version == "1.1"):
        return HTTPStatus.BAD_REQUEST
    return None
