"""MIMI content and its CBOR items, both ways; the schema of draft-ietf-mimi-content-08 as code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeVar

import cbor2

from linearized.exceptions import MimiDecodeError
from linearized.mimi._content_model import (
    HASH_SHA256,
    AnyDisposition,
    Cardinality,
    Disposition,
    Expiration,
    ExternalPart,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
)
from linearized.mimi.tls import UnknownValue

SALT_BYTES = 16
MESSAGE_ID_BYTES = 32
MAX_PART_DEPTH = 4  # "`NestedParts` MUST NOT be nested more than 4-levels deep"
# Of a message, all levels together. "The following cases are examples of nonsensical values …: has too
# many body parts (more than 1024)"; "the `topicId` is very long (greater than 4096 octets)".
MAX_PARTS = 1024
MAX_TOPIC_ID_BYTES = 4096
MAX_EXTENSION_DEPTH = 4  # levels of "tags, maps, or arrays", of which the extensions map is the first
MAX_EXTENSION_KEY_BYTES = 255
MIN_MULTIPART_PARTS = 2
MAX_CBOR_DEPTH = 1 + 2 * MAX_PART_DEPTH  # the message, then a part and its list of parts for each level

SENDER_URI = 1  # extension keys
ROOM_URI = 2

E = TypeVar("E", bound=IntEnum)
T = TypeVar("T")


class Items:
    """The items of a CBOR array, taken one after the other, each checked for its type."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, tuple):
            raise MimiDecodeError(f"{what} is not an array")
        self._items = iter(value)
        self._what = what

    def anything(self) -> Any:
        """The next item, whatever it is."""
        for item in self._items:
            return item
        raise MimiDecodeError(f"{self._what} has too few items")

    def finish(self) -> None:
        """``MimiDecodeError`` if anything is left."""
        for _ in self._items:
            raise MimiDecodeError(f"{self._what} has too many items")

    def octets(self) -> bytes:
        """The next item, a byte string."""
        return self._typed(self.anything(), bytes)

    def text(self) -> str:
        """The next item, a text string."""
        return self._typed(self.anything(), str)

    def boolean(self) -> bool:
        """The next item, true or false."""
        return self._typed(self.anything(), bool)

    def uint(self, size: int) -> int:
        """The next item, an unsigned integer of at most ``size`` octets."""
        value = self.anything()
        if isinstance(value, bool) or not 0 <= self._typed(value, int) < 1 << (8 * size):
            raise MimiDecodeError(f"{value!r} in {self._what} is not an unsigned integer of {size} octets")
        return int(value)

    def one_of(self, kind: type[E]) -> E:
        """The next item, a number of a closed enumeration."""
        value = self.uint(1)
        try:
            return kind(value)
        except ValueError:
            raise MimiDecodeError(f"{value} is not a {kind.__name__}") from None

    def sized(self, size: int) -> bytes:
        """The next item, a byte string of exactly ``size`` octets."""
        value = self.octets()
        if len(value) != size:
            raise MimiDecodeError(f"a byte string in {self._what} has {len(value)} octets, not {size}")
        return value

    def message_id(self) -> bytes | None:
        """The next item, a MessageId or null."""
        value = self.anything()
        if value is not None and not is_message_id(value):
            raise MimiDecodeError(f"{self._what} refers to what is no message ID of SHA-256")
        return None if value is None else bytes(value)

    def topic_id(self) -> bytes:
        """The next item, a topicId."""
        value = self.octets()
        if len(value) > MAX_TOPIC_ID_BYTES:
            raise MimiDecodeError(f"a topic ID has {len(value)} octets, more than {MAX_TOPIC_ID_BYTES}")
        return value

    def _typed(self, value: Any, kind: type[T]) -> T:
        if not isinstance(value, kind):
            raise MimiDecodeError(f"{value!r} in {self._what} is not {kind.__name__}")
        return value


def is_message_id(value: object) -> bool:
    """Whether an item is a MessageId whose hash function we know."""
    # "message IDs … where the first octet of the message ID is an unknown hash algorithm" are nonsensical.
    return isinstance(value, bytes) and len(value) == MESSAGE_ID_BYTES and value[0] == HASH_SHA256


def expiration_of(value: object) -> Expiration | None:
    """Read ``null / Expiration``."""
    if value is None:
        return None
    items = Items(value, "an expiration")
    expiration = Expiration(relative=items.boolean(), time=items.uint(4))
    items.finish()
    return expiration


def expiration_items(expiration: Expiration | None) -> list[object] | None:
    """The reverse of ``expiration_of``."""
    return None if expiration is None else [expiration.relative, expiration.time]


def check_extensions(value: object) -> Mapping[int | str, Any]:
    """Check the extensions map; what its values mean is for those who know them."""
    if not isinstance(value, dict):
        raise MimiDecodeError("the extensions are not a map")
    for key, item in value.items():
        # "map keys for MIMI content extensions MUST be either integers, or text strings up to 255 octets
        # long"
        if isinstance(key, bytes) or (
            isinstance(key, str) and not 1 <= len(key.encode()) <= MAX_EXTENSION_KEY_BYTES
        ):
            raise MimiDecodeError("an extension key is neither an integer nor a text of 1 to 255 octets")
        if key in (SENDER_URI, ROOM_URI) and not isinstance(item, str):
            raise MimiDecodeError("the sender URI and the room URI are texts")
    if _depth(value) > MAX_EXTENSION_DEPTH:
        raise MimiDecodeError(f"the extensions are nested deeper than {MAX_EXTENSION_DEPTH} levels")
    return value


def _depth(value: object) -> int:
    if isinstance(value, cbor2.CBORTag):
        return 1 + _depth(value.value)
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, tuple):
        return 1 + max(map(_depth, value), default=0)
    return 0


class PartReader:
    """Reads the parts of one message, counting them."""

    def __init__(self) -> None:
        self._count = 0

    def part(self, value: object, depth: int = 1) -> Part:
        """Read a NestedPart that stands at ``depth``, the body of a message being at 1."""
        self._count += 1
        if depth > MAX_PART_DEPTH or self._count > MAX_PARTS:
            raise MimiDecodeError(f"parts nest over {MAX_PART_DEPTH} levels, or are more than {MAX_PARTS}")
        items = Items(value, "a part")
        disposition, language = _disposition(items.uint(1)), items.text()
        part = self._rest(items, disposition, language, depth)
        items.finish()
        return part

    def _rest(self, items: Items, disposition: AnyDisposition, language: str, depth: int) -> Part:
        match items.one_of(Cardinality):
            case Cardinality.NULL:
                return NullPart(disposition=disposition, language=language)
            case Cardinality.SINGLE:
                return SinglePart(
                    disposition=disposition,
                    language=language,
                    content_type=items.text(),
                    content=items.octets(),
                )
            case Cardinality.EXTERNAL:
                return _external_part(items, disposition, language)
            case _:  # MULTI
                semantics = items.one_of(PartSemantics)
                parts = items.anything()
                if not isinstance(parts, tuple) or len(parts) < MIN_MULTIPART_PARTS:
                    raise MimiDecodeError("a multipart does not have two parts or more")
                return MultiPart(
                    disposition=disposition,
                    language=language,
                    semantics=semantics,
                    parts=tuple(self.part(part, depth + 1) for part in parts),
                )


def _external_part(items: Items, disposition: AnyDisposition, language: str) -> ExternalPart:
    return ExternalPart(  # arguments are evaluated in this order, which is the wire's
        disposition=disposition,
        language=language,
        content_type=items.text(),
        url=items.text(),
        expires=items.uint(4),
        size=items.uint(8),
        enc_alg=items.uint(2),
        key=items.octets(),
        nonce=items.octets(),
        aad=items.octets(),
        hash_alg=items.uint(1),
        content_hash=items.octets(),
        description=items.text(),
        filename=items.text(),
    )


def _disposition(value: int) -> AnyDisposition:
    try:
        return Disposition(value)
    except ValueError:
        return UnknownValue(value)


def part_items(part: Part) -> list[object]:
    """A NestedPart as CBOR items; the reverse of ``PartReader``."""
    front: list[object] = [int(part.disposition), part.language]
    match part:
        case NullPart():
            return [*front, int(Cardinality.NULL)]
        case SinglePart():
            return [*front, int(Cardinality.SINGLE), part.content_type, part.content]
        case ExternalPart():
            return [*front, int(Cardinality.EXTERNAL), *(getattr(part, name) for name in _EXTERNAL_FIELDS)]
        case _:  # MultiPart
            return [
                *front,
                int(Cardinality.MULTI),
                int(part.semantics),
                [part_items(item) for item in part.parts],
            ]


_EXTERNAL_FIELDS = tuple(name for name in ExternalPart.__slots__ if name not in ("disposition", "language"))
