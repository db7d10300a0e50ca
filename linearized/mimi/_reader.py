"""Reading and writing the bytes of TLS vectors; ``tls`` re-exports it."""

from __future__ import annotations

from linearized.exceptions import MimiDecodeError

# A length is one, two or four octets, told by its two top bits; 0b11 is reserved (RFC 9420, Section 2.1.2).
_ONE_OCTET_LIMIT = 1 << 6
_TWO_OCTET_LIMIT = 1 << 14
_MAX_LENGTH_OCTETS = 4
MAX_VECTOR_BYTES = (1 << 30) - 1  # what four octets can say


class Reader:
    """A position in bytes that never passes its end."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._end = len(data) if end is None else end
        self.position = start

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self._end - self.position

    def skip(self, size: int) -> None:
        """Pass ``size`` bytes; ``MimiDecodeError`` if there are fewer."""
        end = self.position + size
        if end > self._end:
            raise MimiDecodeError(f"{size} bytes expected, {self.remaining} left")
        self.position = end

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self.position
        self.skip(size)
        return self._data[start : self.position]

    def uint(self, width: int) -> int:
        """The next big-endian unsigned integer of ``width`` bytes."""
        return int.from_bytes(self.take(width), "big")

    def length(self) -> int:
        """The next vector length, which must have been encoded in as few octets as possible."""
        start = self.position
        self.skip(1)
        first = self._data[start]
        if first < _ONE_OCTET_LIMIT:
            return first
        width = 1 << (first >> 6)
        if width > _MAX_LENGTH_OCTETS:
            raise MimiDecodeError("a vector length starts with the reserved prefix 0b11")
        length = first & 0x3F
        for octet in self.take(width - 1):
            length = length << 8 | octet
        # RFC 9420, Section 2.1.2: a length that would fit in fewer octets is refused.
        if width != length_width(length):
            raise MimiDecodeError("a vector length is not minimally encoded")
        return length

    def sub(self) -> Reader:
        """A reader over the next vector's content; this one continues after it."""
        length = self.length()
        start = self.position
        self.skip(length)
        return Reader(self._data, start, self.position)

    def vector(self) -> bytes:
        """The next vector's content."""
        return self.take(self.length())

    def skip_vectors(self, count: int) -> None:
        """Pass ``count`` vectors without looking inside."""
        for _ in range(count):
            self.skip(self.length())

    def skip_elements(self, vectors: int) -> None:
        """Pass all that is left, which has to be elements of so many vectors each.

        A commit in a large group has a ciphertext for most of its members, all of one length. Where every
        element has the same octets as the first in the places of the first one's lengths, walking one after
        the other would end in the same place.
        """
        if not self.remaining:
            return
        start, end = self.position, self._end
        lengths: list[int] = []
        for _ in range(vectors):
            at = self.position
            size = self.length()
            lengths += range(at, self.position)
            self.skip(size)
        step = self.position - start
        more, odd = divmod(self.remaining, step)
        if not odd and all(
            self._data[at + step : end : step] == self._data[at : at + 1] * more for at in lengths
        ):
            self.position = end
        while self.remaining:
            self.skip_vectors(vectors)

    def since(self, start: int) -> bytes:
        """The bytes from an earlier position to here."""
        return self._data[start : self.position]

    def finish(self) -> None:
        """``MimiDecodeError`` if anything is left."""
        if self.remaining:
            raise MimiDecodeError(f"{self.remaining} bytes follow the end")


def length_width(length: int) -> int:
    """How many octets (1, 2 or 4) a vector length takes; ``ValueError`` beyond ``MAX_VECTOR_BYTES``."""
    if length < _ONE_OCTET_LIMIT:
        return 1
    if length < _TWO_OCTET_LIMIT:
        return 2
    if length <= MAX_VECTOR_BYTES:
        return 4
    raise ValueError(f"a vector of {length} bytes has no encoding")


def vector_head(length: int) -> bytes:
    """The minimal encoding of a vector's length; ``ValueError`` beyond ``MAX_VECTOR_BYTES``."""
    width = length_width(length)
    prefix = (width.bit_length() - 1) << (8 * width - 2)
    return (prefix | length).to_bytes(width, "big")


def encode_vector(content: bytes) -> bytes:
    """``opaque content<V>``: the minimal length, then the content."""
    return vector_head(len(content)) + content
