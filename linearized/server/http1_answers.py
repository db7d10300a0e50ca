"""Answers as HTTP/1.1 writes them (RFC 9112). No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_LENGTH: Final = b"content-length"
# "A server MUST NOT send a Transfer-Encoding header field in any response with a status code of 1xx … or 204
# (No Content)" (RFC 9112, 6.1), and no Content-Length either; a 304 has no content.
_WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(slots=True)
class Answer:
    """One answer, written piece by piece: ``head`` first, then every ``piece``.

    Args:
        for_head: the request was a HEAD, to which there is no body.
        chunks: whether the client knows bodies in chunks.
        keeps_open: whether another request may follow.
    """

    status: int
    headers: Headers
    for_head: bool
    chunks: bool
    keeps_open: bool
    _in_chunks: bool = False

    def head(self, date: bytes, whole: bytes | None) -> bytes:
        """The head; ``whole`` is the body, if all of it is known.

        Raises:
            ValueError: a header would end its line.
        """
        fields = [*self.headers, (b"date", date)]
        if not self._has_no_body and not any(name == _LENGTH for name, _ in self.headers):
            fields += self._framing(whole)
        if not self.keeps_open:
            fields.append((b"connection", b"close"))
        line = b"HTTP/1.1 %d %b\r\n" % (self.status, _REASONS.get(self.status, b""))
        head = line + b"".join([b"%b: %b\r\n" % each for each in fields])
        # What others say ends up in headers, such as the name of a file.
        lines = len(fields) + 1
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise ValueError("a header cannot hold ends of lines")
        return head + b"\r\n"

    def piece(self, data: bytes, *, more: bool) -> bytes:
        """A part of the body, the last one unless there is ``more``."""
        if self._has_no_body:
            return b""
        if not self._in_chunks:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""  # an empty one would be the end
        return chunk if more else chunk + b"0\r\n\r\n"

    @property
    def _has_no_body(self) -> bool:
        return self.for_head or self.status in _WITHOUT_BODY

    def _framing(self, whole: bytes | None) -> Headers:
        if whole is not None:
            return [(_LENGTH, b"%d" % len(whole))]
        if self.chunks:
            self._in_chunks = True
            return [(b"transfer-encoding", b"chunked")]
        self.keeps_open = False  # the end of the connection is that of the body
        return []


def refusal(status: HTTPStatus, date: bytes) -> bytes:
    """The answer to what is no request."""
    answer = Answer(status, (), for_head=False, chunks=False, keeps_open=False)
    return answer.head(date, b"")


class Dates:
    """The Date header: formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = b""

    def at(self, seconds: float) -> bytes:
        """For a time in seconds since the Unix epoch."""
        if int(seconds) != self._second:
            self._second = int(seconds)
            self._date = formatdate(self._second, usegmt=True).encode("ascii")
        return self._date
