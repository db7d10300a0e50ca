"""How one field of a structure is written and read; ``tls`` re-exports it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, Self, TypeAlias

from linearized.exceptions import MimiDecodeError
from linearized.mimi._reader import MAX_VECTOR_BYTES, Reader, encode_vector, vector_head

Seen: TypeAlias = Mapping[str, Any]
"""The fields before the one at hand, by name; what a ``select`` looks at."""


class Codec(ABC):
    """How one field is written and read."""

    @abstractmethod
    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        """Append the encoding of ``value``; ``ValueError`` if it has none."""

    @abstractmethod
    def read(self, reader: Reader, seen: Seen) -> Any:
        """The next value; ``MimiDecodeError`` if there is none."""


@dataclass(frozen=True, slots=True)
class Uint(Codec):
    """``uint8`` to ``uint64``."""

    width: int

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        _write_uint(value, self.width, out)

    def read(self, reader: Reader, seen: Seen) -> int:
        return reader.uint(self.width)


def _write_uint(value: int, width: int, out: bytearray) -> None:
    if not 0 <= value < 1 << (8 * width):
        raise ValueError(f"{value} does not fit in {width} bytes")
    out += int(value).to_bytes(width, "big")


@dataclass(frozen=True, slots=True)
class Boolean(Codec):
    """``enum {false(0), true(1)} bool``, in one octet."""

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not a bool")
        out.append(value)

    def read(self, reader: Reader, seen: Seen) -> bool:
        value = reader.uint(1)
        if value > 1:
            raise MimiDecodeError(f"{value} is not a bool")
        return value == 1


@dataclass(frozen=True, slots=True)
class Fixed(Codec):
    """``opaque name[size]``."""

    size: int

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        if len(value) != self.size:
            raise ValueError(f"{self.size} bytes expected, {len(value)} given")
        out += value

    def read(self, reader: Reader, seen: Seen) -> bytes:
        return reader.take(self.size)


@dataclass(frozen=True, slots=True)
class Opaque(Codec):
    """``opaque name<V>``."""

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        out += vector_head(len(value))
        out += value

    def read(self, reader: Reader, seen: Seen) -> bytes:
        return reader.vector()


@dataclass(frozen=True, slots=True)
class Text(Codec):
    """``opaque name<V>`` that holds text of the named encoding."""

    encoding: str = "utf-8"
    max_bytes: int = MAX_VECTOR_BYTES

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        data = value.encode(self.encoding)  # UnicodeEncodeError is a ValueError
        if len(data) > self.max_bytes:
            raise ValueError(f"a text of {len(data)} bytes is over the limit of {self.max_bytes}")
        out += encode_vector(data)

    def read(self, reader: Reader, seen: Seen) -> str:
        data = reader.vector()
        if len(data) > self.max_bytes:
            raise MimiDecodeError(f"a text of {len(data)} bytes is over the limit of {self.max_bytes}")
        try:
            return data.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise MimiDecodeError(f"a text is not {self.encoding}") from error


class UnknownValue(int):
    """A value of an extensible enumeration that this version has no name for."""

    def __repr__(self) -> str:
        return f"UnknownValue({int(self)})"


@dataclass(frozen=True, slots=True)
class Enumeration(Codec):
    """``enum {...(255)}`` or a 16-bit registry.

    An ``extensible`` enumeration reads what it does not know as ``UnknownValue``, and refuses its
    ``reserved`` numbers. Anything a ``select`` depends on without a default is not extensible.
    """

    kind: type[IntEnum]
    extensible: bool = False
    reserved: tuple[int, ...] = ()
    width: int = 1

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        named = value in self.kind.__members__.values()
        if not named and (not self.extensible or value in self.reserved):
            raise ValueError(f"{value!r} is not a {self.kind.__name__}")
        _write_uint(value, self.width, out)

    def read(self, reader: Reader, seen: Seen) -> int:
        value = reader.uint(self.width)
        try:
            return self.kind(value)
        except ValueError:
            if not self.extensible or value in self.reserved:
                raise MimiDecodeError(f"{value} is not a {self.kind.__name__}") from None
            return UnknownValue(value)


class Encodable(Protocol):
    """What a structure can do; ``tls.Struct`` is one."""

    @classmethod
    def read_from(cls, reader: Reader) -> Self: ...

    def write_to(self, out: bytearray) -> None: ...


@dataclass(frozen=True, slots=True)
class Nested(Codec):
    """A structure inside a structure."""

    kind: type[Encodable]

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        if not isinstance(value, self.kind):
            raise ValueError(f"{self.kind.__name__} expected, {type(value).__name__} given")
        value.write_to(out)

    def read(self, reader: Reader, seen: Seen) -> Encodable:
        return self.kind.read_from(reader)


@dataclass(frozen=True, slots=True)
class Vector(Codec):
    """``T name<V>``, as a tuple; ``max_items`` where the number of items has a bound beside the length's."""

    element: Codec | type[Encodable]
    min_items: int = 0
    max_items: int | None = None

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        if len(value) < self.min_items:
            raise ValueError(f"at least {self.min_items} items expected, {len(value)} given")
        if self.max_items is not None and len(value) > self.max_items:
            raise ValueError(f"at most {self.max_items} items expected, {len(value)} given")
        content, codec = bytearray(), as_codec(self.element)
        for item in value:
            codec.write(item, content, seen)
        out += vector_head(len(content))
        out += content

    def read(self, reader: Reader, seen: Seen) -> tuple[Any, ...]:
        inner, codec = reader.sub(), as_codec(self.element)
        items: list[Any] = []
        while inner.remaining:
            if len(items) == self.max_items:
                raise MimiDecodeError(f"at most {self.max_items} items expected")
            items.append(codec.read(inner, seen))
        if len(items) < self.min_items:
            raise MimiDecodeError(f"at least {self.min_items} items expected, {len(items)} found")
        return tuple(items)


@dataclass(frozen=True, slots=True)
class Maybe(Codec):
    """``optional<T>`` (RFC 9420, Section 2.1.1): a presence octet, then the value; ``None`` if absent."""

    inner: Codec | type[Encodable]

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        out.append(value is not None)
        if value is not None:
            as_codec(self.inner).write(value, out, seen)

    def read(self, reader: Reader, seen: Seen) -> Any:
        presence = reader.uint(1)
        if presence > 1:
            raise MimiDecodeError(f"{presence} is not a presence octet")
        return as_codec(self.inner).read(reader, seen) if presence else None


@dataclass(frozen=True, slots=True)
class When(Codec):
    """One arm of a ``select``: on the wire only if ``of(seen[field])`` is in ``values``, else ``absent``."""

    field: str
    values: tuple[Any, ...]
    inner: Codec | type[Encodable]
    of: Callable[[Any], Any] = lambda value: value
    absent: Any = None

    def _selected(self, seen: Seen) -> bool:
        return self.of(seen[self.field]) in self.values

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        if self._selected(seen):
            if value is None and not isinstance(self.inner, Maybe):
                raise ValueError(f"a value is needed, because {self.field} selects it")
            as_codec(self.inner).write(value, out, seen)
        elif value != self.absent:
            raise ValueError(f"{value!r} has no place, because {self.field} does not select it")

    def read(self, reader: Reader, seen: Seen) -> Any:
        return as_codec(self.inner).read(reader, seen) if self._selected(seen) else self.absent


@dataclass(frozen=True, slots=True)
class Raw(Codec):
    """A structure kept as its own bytes; ``walk`` passes exactly one, or raises ``MimiDecodeError``."""

    walk: Callable[[Reader], object]

    def write(self, value: Any, out: bytearray, seen: Seen) -> None:
        reader = Reader(value)
        try:
            self.walk(reader)
            reader.finish()
        except MimiDecodeError as error:
            raise ValueError(f"not the bytes of one structure: {error}") from error
        out += value

    def read(self, reader: Reader, seen: Seen) -> bytes:
        start = reader.position
        self.walk(reader)
        return reader.since(start)


def as_codec(element: Codec | type[Encodable]) -> Codec:
    return element if isinstance(element, Codec) else Nested(element)
