"""Deterministic CBOR (RFC 8949, Section 4.2.1) in both directions; ``content`` is its only user.

``cbor2`` encodes the leaves. Containers are done here, because its canonical mode sorts map keys by length
first, which the draft forbids, and its decoder accepts what is not deterministic and interprets tags.
"""

from __future__ import annotations

from typing import Any

import cbor2

from linearized.exceptions import MimiDecodeError

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7  # major types
_BIGNUM_TAGS = (2, 3)
_BIGNUM_MIN_BYTES = 9  # eight or fewer fit a plain integer
_INTEGER_LIMIT = 1 << 64
_KEY_LIMIT = 1 << 53
_INFO_ONE_OCTET, _INFO_EIGHT_OCTETS = 24, 27  # additional information: the argument follows in 1 to 8 octets


def dumps(value: object) -> bytes:
    """Encode; ``ValueError`` for a value CBOR cannot hold, or that is not one of its basic types."""
    if isinstance(value, list | tuple):
        return _head(_ARRAY, len(value)) + b"".join(map(dumps, value))
    if isinstance(value, dict):
        if not all(map(_is_key, value)):
            raise ValueError("a map key is not an integer, text or byte string")
        pairs = sorted((dumps(key), dumps(item)) for key, item in value.items())
        return _head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, cbor2.CBORTag):
        return _head(_TAG, value.tag) + dumps(value.value)
    if isinstance(value, int) and not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
        raise ValueError(f"{value} is too large for a CBOR integer")
    if value is None or isinstance(value, _LEAVES):
        try:
            return cbor2.dumps(value, canonical=True)
        except UnicodeEncodeError as error:  # a lone surrogate
            raise ValueError("a text is not Unicode") from error
    raise ValueError(f"{type(value).__name__} has no deterministic CBOR form")


_LEAVES = (bool, int, float, str, bytes, cbor2.CBORSimpleValue, type(cbor2.undefined))


def loads(data: bytes, *, max_depth: int) -> Any:
    """Decode exactly one deterministically encoded value.

    Arrays become tuples, tags ``cbor2.CBORTag`` whatever their number. Map keys are integers, texts or bytes.

    Raises:
        MimiDecodeError: the bytes are anything else, or arrays, maps and tags nest deeper than ``max_depth``.
    """
    decoder = _Decoder(data, max_depth)
    value = decoder.item(0)
    if decoder.position != len(data):
        raise MimiDecodeError("bytes follow the CBOR value")
    return value


def _is_key(value: object) -> bool:
    # "integer keys MUST be representable as a double float without loss of precision"
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _KEY_LIMIT
    return isinstance(value, str | bytes)


def _head(major: int, argument: int) -> bytes:
    head = bytearray(cbor2.dumps(argument))
    head[0] |= major << 5
    return bytes(head)


class _Decoder:
    def __init__(self, data: bytes, max_depth: int) -> None:
        self.data = data
        self.max_depth = max_depth
        self.position = 0

    def item(self, depth: int) -> Any:
        start = self.position
        first = self.take(1)[0]
        major, info = first >> 5, first & 0x1F
        if major == _SIMPLE:
            return self.simple(start, info)
        argument = self.argument(info)
        if major < _BYTES:
            return -1 - argument if major else argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            try:
                return self.take(argument).decode()
            except UnicodeDecodeError as error:
                raise MimiDecodeError("a CBOR text is not UTF-8") from error
        if depth == self.max_depth:
            raise MimiDecodeError(f"CBOR is nested deeper than {self.max_depth} levels")
        return self.container(major, argument, depth + 1)

    def container(self, major: int, argument: int, depth: int) -> Any:
        if major == _TAG:
            return self.tag(argument, depth)
        # Every item takes an octet at least, so a count beyond what is left is refused before any work.
        if argument > len(self.data) - self.position:
            raise MimiDecodeError("CBOR ends in the middle of a container")
        if major == _MAP:
            return self.map(argument, depth)
        return tuple(self.item(depth) for _ in range(argument))

    def take(self, size: int) -> bytes:
        chunk = self.data[self.position : self.position + size]
        if len(chunk) != size:
            raise MimiDecodeError("CBOR ends in the middle of a value")
        self.position += size
        return chunk

    def argument(self, info: int) -> int:
        if info < _INFO_ONE_OCTET:
            return info
        if info > _INFO_EIGHT_OCTETS:
            raise MimiDecodeError("CBOR has an indefinite or reserved length")
        width = 1 << (info - _INFO_ONE_OCTET)
        value = int.from_bytes(self.take(width), "big")
        # "using the shortest CBOR encoding of integers, tags, and floats, and the shortest encoding of the
        # length"
        if value < (_INFO_ONE_OCTET if width == 1 else 1 << (4 * width)):
            raise MimiDecodeError("a CBOR number is not in its shortest form")
        return value

    def map(self, count: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        previous = b""
        for _ in range(count):
            start = self.position
            key = self.item(depth)
            # "map keys for any maps at any level of nesting inside a MIMI content extension MUST only be
            # integers, text strings, or byte strings"
            if not _is_key(key):
                raise MimiDecodeError("a CBOR map key is not an integer, text or byte string")
            encoded = self.data[start : self.position]
            if encoded <= previous:
                raise MimiDecodeError("CBOR map keys are repeated or out of order")
            previous = encoded
            found[key] = self.item(depth)
        return found

    def tag(self, number: int, depth: int) -> cbor2.CBORTag:
        value = self.item(depth)
        # "representing bigints as regular integers when they fit"
        if number in _BIGNUM_TAGS and (
            not isinstance(value, bytes) or len(value) < _BIGNUM_MIN_BYTES or value[0] == 0
        ):
            raise MimiDecodeError("a CBOR bignum is not in its shortest form")
        return cbor2.CBORTag(number, value)

    def simple(self, start: int, info: int) -> Any:
        if info > _INFO_EIGHT_OCTETS:
            raise MimiDecodeError("CBOR has a stray break or a reserved simple value")
        if info >= _INFO_ONE_OCTET:
            self.take(1 << (info - _INFO_ONE_OCTET))
        encoded = self.data[start : self.position]
        try:
            value = cbor2.loads(encoded)
        except cbor2.CBORDecodeError as error:
            raise MimiDecodeError("a CBOR simple value is malformed") from error
        # Among floats this also leaves one NaN, 0xF97E00, as the draft asks.
        if dumps(value) != encoded:
            raise MimiDecodeError("a CBOR simple value or float is not in its shortest form")
        return value
