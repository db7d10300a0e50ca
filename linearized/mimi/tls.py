"""TLS presentation language (RFC 8446, Section 3) with MLS variable-size vectors (RFC 9420, Section 2.1.2).

A structure is a frozen dataclass deriving from ``Struct`` whose annotations are its layout::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class UserRolePair(Struct):
        user: Annotated[str, Text()]
        role_index: Uint32

``decode`` is total: it gives a value whose ``encode`` is the input, or raises ``MimiDecodeError``. ``encode``
raises ``ValueError`` for a value that has no encoding; that is the caller's mistake, never a peer's.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeAlias, get_type_hints

from linearized.exceptions import MimiDecodeError
from linearized.mimi._codecs import (
    Boolean,
    Codec,
    Enumeration,
    Fixed,
    Maybe,
    Opaque,
    Raw,
    Text,
    Uint,
    UnknownValue,
    Vector,
    When,
    as_codec,
)
from linearized.mimi._reader import MAX_VECTOR_BYTES, Reader, encode_vector, length_width

__all__ = [
    "MAX_URI_BYTES",
    "MAX_VECTOR_BYTES",
    "Bool",
    "Boolean",
    "Bytes",
    "Codec",
    "Enumeration",
    "Fixed",
    "Maybe",
    "Opaque",
    "Raw",
    "Reader",
    "String",
    "Struct",
    "Text",
    "Uint",
    "Uint8",
    "Uint16",
    "Uint32",
    "Uint64",
    "UnknownValue",
    "Uri",
    "Vector",
    "When",
    "as_codec",
    "encode_vector",
    "length_width",
]

# A Matrix identifier has 255 octets; percent-encoded, with scheme and domains around it, it stays well below.
MAX_URI_BYTES = 2048


class Struct:
    """Base of every structure; see the module."""

    __slots__ = ()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read exactly one value from ``data``; ``MimiDecodeError`` if it is anything else."""
        reader = Reader(data)
        value = cls.read_from(reader)
        reader.finish()
        return value

    def encode(self) -> bytes:
        """The TLS encoding; ``ValueError`` if a field does not fit its type."""
        out = bytearray()
        self.write_to(out)
        return bytes(out)

    @classmethod
    def read_from(cls, reader: Reader) -> Self:
        """Read one value and leave the reader behind it."""
        seen: dict[str, Any] = {}
        for name, codec in layout(cls):
            seen[name] = codec.read(reader, seen)
        try:
            return cls(**seen)
        except ValueError as error:  # from __post_init__: the rules a structure has beyond its layout
            raise MimiDecodeError(str(error)) from error

    def write_to(self, out: bytearray) -> None:
        """Append the encoding to ``out``."""
        type(self).write_fields(self, out)

    @classmethod
    def write_fields(cls, value: Struct, out: bytearray) -> None:
        """Append the fields of ``value`` that this structure has; ``value`` may be of a derived one."""
        seen: dict[str, Any] = {}
        for name, codec in layout(cls):
            seen[name] = getattr(value, name)
            codec.write(seen[name], out, seen)


_LAYOUTS: dict[type[Struct], tuple[tuple[str, Codec], ...]] = {}


def layout(kind: type[Struct]) -> tuple[tuple[str, Codec], ...]:
    """The fields of a structure and their codecs, in wire order; worked out once for each structure."""
    if kind in _LAYOUTS:
        return _LAYOUTS[kind]
    fields: list[tuple[str, Codec]] = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        codec = hint if isinstance(hint, type) else hint.__metadata__[0]
        fields.append((name, as_codec(codec)))
    return _LAYOUTS.setdefault(kind, tuple(fields))


Uint8: TypeAlias = Annotated[int, Uint(1)]
Uint16: TypeAlias = Annotated[int, Uint(2)]
Uint32: TypeAlias = Annotated[int, Uint(4)]
Uint64: TypeAlias = Annotated[int, Uint(8)]
Bool: TypeAlias = Annotated[bool, Boolean()]
Bytes: TypeAlias = Annotated[bytes, Opaque()]
String: TypeAlias = Annotated[str, Text()]
Uri: TypeAlias = Annotated[str, Text("ascii", MAX_URI_BYTES)]
