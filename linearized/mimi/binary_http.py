"""HTTP messages as bytes (RFC 9292), as they travel inside an oblivious request and its response.

Both forms are read, those of known and of indeterminate length; what we write has a known length. Reading is
total: a message, or ``MimiDecodeError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from linearized.exceptions import MimiDecodeError
from linearized.mimi._reader import Reader

# An asset is asked for with a field or two; what HTTP servers commonly accept bounds what we read.
MAX_FIELDS: Final = 100
MAX_FIELD_BYTES: Final = 16 * 1024
MAX_CONTROL_BYTES: Final = 8 * 1024  # "recipients … support … at minimum, 8000 octets" (RFC 9110, 4.1)
MAX_INTERIM: Final = 10  # informational responses before the final one; there are four kinds of them

_KNOWN_REQUEST, _KNOWN_RESPONSE, _REQUEST, _RESPONSE = range(4)  # framing indicators (section 3.3)
_FINAL: Final = range(200, 600)
_INTERIM: Final = range(100, 200)
_TWO_BITS: Final = 6  # the top bits of a variable-length integer tell its width (RFC 9000, section 16)
_WIDTHS: Final = tuple(8 * (1 << prefix) - 2 for prefix in range(4))

# Field names of HTTP/2: a token without upper case (RFC 9113, section 8.2.1). A pseudo-field starts with ":".
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[^\x00\r\n\t ](?:[^\x00\r\n]*[^\x00\r\n\t ])?)?")
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Control data is no field: a message with one of these names among its fields is invalid (section 3.9).
_CONTROL: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":status"})
# "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields"; a message
# with one "MUST be treated as malformed" (RFC 9113, section 8.2.2).
_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)

FieldLine: TypeAlias = tuple[bytes, bytes]
"""Name (lower case) and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryRequest:
    """A request; the control data is ASCII text, ``authority`` empty where HTTP/2 would leave it out."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: tuple[FieldLine, ...] = ()
    content: bytes = b""
    trailers: tuple[FieldLine, ...] = ()

    @property
    def url(self) -> str:
        """The URI of what is asked for; without an authority the ``host`` field has it (RFC 9110, 7.2)."""
        hosts = [value.decode("latin-1") for name, value in self.headers if name == b"host"]
        authority = self.authority or (hosts[0] if len(hosts) == 1 else "")
        return f"{self.scheme}://{authority}{self.path}"

    def encode(self) -> bytes:
        """The known-length form.

        Raises:
            ValueError: the control data is not ASCII.
        """
        control = (self.method, self.scheme, self.authority, self.path)
        parts = (_lengthy(text.encode("ascii")) for text in control)
        return b"".join((varint(_KNOWN_REQUEST), *parts, *_tail(self.headers, self.content, self.trailers)))

    @classmethod
    def decode(cls, data: bytes) -> BinaryRequest:
        """Read a request of either form; ``MimiDecodeError`` if it is anything else."""
        reader = Reader(data)
        known = _framing(reader, {_KNOWN_REQUEST: True, _REQUEST: False})
        method, scheme, authority, path = (_text(reader) for _ in range(4))
        if not _METHOD.fullmatch(method):
            raise MimiDecodeError("the method is no token")
        headers, content, trailers = _read_tail(reader, known=known)
        return cls(
            method=method,
            scheme=scheme,
            authority=authority,
            path=path,
            headers=headers,
            content=content,
            trailers=trailers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryResponse:
    """A response; ``interim`` are the informational ones before it, with their header fields."""

    status: int
    headers: tuple[FieldLine, ...] = ()
    content: bytes = b""
    trailers: tuple[FieldLine, ...] = ()
    interim: tuple[tuple[int, tuple[FieldLine, ...]], ...] = ()

    def encode(self) -> bytes:
        """The known-length form."""
        interim = (varint(status) + _section(fields) for status, fields in self.interim)
        tail = _tail(self.headers, self.content, self.trailers)
        return b"".join((varint(_KNOWN_RESPONSE), *interim, varint(self.status), *tail))

    @classmethod
    def decode(cls, data: bytes) -> BinaryResponse:
        """Read a response of either form; ``MimiDecodeError`` if it is anything else."""
        reader = Reader(data)
        known = _framing(reader, {_KNOWN_RESPONSE: True, _RESPONSE: False})
        interim: list[tuple[int, tuple[FieldLine, ...]]] = []
        # Informational responses come first, "until the control data contains a final status code".
        while (status := read_varint(reader)) in _INTERIM:
            if len(interim) == MAX_INTERIM:
                raise MimiDecodeError(f"more than {MAX_INTERIM} informational responses")
            interim.append((status, _read_section(reader, known=known)))
        if status not in _FINAL:
            raise MimiDecodeError(f"{status} is no status code")
        headers, content, trailers = _read_tail(reader, known=known)
        return cls(status=status, headers=headers, content=content, trailers=trailers, interim=tuple(interim))


def varint(value: int) -> bytes:
    """A variable-length integer in as few bytes as possible (RFC 9000, section 16).

    Raises:
        ValueError: it does not fit in 62 bits.
    """
    for prefix, bits in enumerate(_WIDTHS):
        if 0 <= value < 1 << bits:
            return (prefix << bits | value).to_bytes((bits + 2) // 8, "big")
    raise ValueError(f"{value} does not fit in 62 bits")


def read_varint(reader: Reader) -> int:
    """The next variable-length integer, whose encoding need not be the shortest."""
    first = reader.uint(1)
    width = 1 << (first >> _TWO_BITS)
    rest = reader.uint(width - 1)
    return (first & ((1 << _TWO_BITS) - 1)) << (8 * (width - 1)) | rest


def _framing(reader: Reader, kinds: dict[int, bool]) -> bool:
    """Whether the message has a known length."""
    indicator = read_varint(reader)
    if indicator not in kinds:
        raise MimiDecodeError(f"the framing indicator {indicator} is not one of {sorted(kinds)}")
    return kinds[indicator]


def _lengthy(data: bytes) -> bytes:
    return varint(len(data)) + data


def _section(fields: Iterable[FieldLine]) -> bytes:
    return _lengthy(b"".join(_lengthy(name) + _lengthy(value) for name, value in fields))


def _tail(headers: Iterable[FieldLine], content: bytes, trailers: Iterable[FieldLine]) -> Iterable[bytes]:
    yield _section(headers)
    yield _lengthy(content)
    yield _section(trailers)


def _text(reader: Reader) -> str:
    length = read_varint(reader)
    if length > MAX_CONTROL_BYTES:
        raise MimiDecodeError(f"control data of {length} bytes, more than {MAX_CONTROL_BYTES}")
    text = reader.take(length).decode("latin-1")
    # What is not printable ASCII is in no method, scheme, authority or path (RFC 9113, section 8.3.1).
    if not all("!" <= character <= "~" for character in text):
        raise MimiDecodeError("the control data holds what is not printable ASCII")
    return text


def _read_tail(reader: Reader, *, known: bool) -> tuple[tuple[FieldLine, ...], bytes, tuple[FieldLine, ...]]:
    """Header fields, content, trailer fields and padding; each may be missing with all that follow."""
    headers = _read_section(reader, known=known)
    content = _read_content(reader, known=known)
    trailers = _read_section(reader, known=known)
    # "Messages can be padded with any number of zero-valued bytes. Non-zero padding bytes cause a message to
    # be invalid."
    if reader.take(reader.remaining).strip(b"\0"):
        raise MimiDecodeError("what follows the message is not padding")
    return headers, content, trailers


def _read_content(reader: Reader, *, known: bool) -> bytes:
    if not reader.remaining:
        return b""
    if known:
        return reader.take(read_varint(reader))
    chunks: list[bytes] = []
    while length := read_varint(reader):
        chunks.append(reader.take(length))
    return b"".join(chunks)


def _read_section(reader: Reader, *, known: bool) -> tuple[FieldLine, ...]:
    if not reader.remaining:
        return ()
    if known:
        length = read_varint(reader)
        if length > MAX_FIELD_BYTES:
            raise MimiDecodeError(f"fields of {length} bytes, more than {MAX_FIELD_BYTES}")
        return _known_fields(Reader(reader.take(length)))
    fields: list[FieldLine] = []
    start = reader.position
    while length := read_varint(reader):
        _append(fields, _line(reader, length))
        if reader.position - start > MAX_FIELD_BYTES:
            raise MimiDecodeError(f"fields of more than {MAX_FIELD_BYTES} bytes")
    return tuple(fields)


def _known_fields(reader: Reader) -> tuple[FieldLine, ...]:
    fields: list[FieldLine] = []
    while reader.remaining:
        _append(fields, _line(reader, read_varint(reader)))
    return tuple(fields)


def _append(fields: list[FieldLine], line: FieldLine) -> None:
    if len(fields) == MAX_FIELDS:
        raise MimiDecodeError(f"more than {MAX_FIELDS} fields")
    # "A message that contains a pseudo-field after any other field is invalid."
    if line[0].startswith(b":") and fields and not fields[-1][0].startswith(b":"):
        raise MimiDecodeError("a pseudo-field follows another field")
    fields.append(line)


def _line(reader: Reader, length: int) -> FieldLine:
    name = reader.take(length)
    value = reader.take(read_varint(reader))
    if not _NAME.fullmatch(name) or name in _CONTROL:
        raise MimiDecodeError("a field has a name that no field may have")
    if name in _CONNECTION or (name == b"te" and value != b"trailers"):
        raise MimiDecodeError(f"{name.decode('ascii')} speaks of a connection, and there is none")
    if not _VALUE.fullmatch(value):
        raise MimiDecodeError("the value of a field holds what no value may hold")
    return name, value
