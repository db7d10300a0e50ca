"""The pieces a MIMI message is made of; ``content`` re-exports them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import UnknownValue

MARKDOWN = "text/markdown;variant=GFM-MIMI"
PLAIN = "text/plain;charset=utf-8"
HASH_SHA256 = 1  # IANA Named Information Hash Algorithm
AES_128_GCM = 1  # IANA AEAD algorithm


class Disposition(IntEnum):
    """What a part is for; 9 to 255 are read as ``UnknownValue``."""

    UNSPECIFIED = 0
    RENDER = 1
    REACTION = 2
    PROFILE = 3
    INLINE = 4
    ICON = 5
    ATTACHMENT = 6
    SESSION = 7
    PREVIEW = 8


class Cardinality(IntEnum):
    """The kind of a part."""

    NULL = 0
    SINGLE = 1
    EXTERNAL = 2
    MULTI = 3


class PartSemantics(IntEnum):
    """How the parts of a ``MultiPart`` belong together."""

    CHOOSE_ONE = 0
    SINGLE_UNIT = 1
    PROCESS_ALL = 2


AnyDisposition: TypeAlias = Disposition | UnknownValue


@dataclass(frozen=True, slots=True, kw_only=True)
class NullPart:
    """No body: deletes the message that ``replaces`` names."""

    disposition: AnyDisposition = Disposition.RENDER
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePart:
    """Content carried in the message itself; ``content_type`` is a media type with its parameters."""

    disposition: AnyDisposition = Disposition.RENDER
    language: str = ""
    content_type: str
    content: bytes

    @property
    def text(self) -> str:
        """The content as text; ``MimiDecodeError`` if it is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError as error:
            raise MimiDecodeError("the part's content is not UTF-8") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPart:
    """Content to fetch from ``url``.

    ``expires`` is in seconds since the Unix epoch (0: never), ``size`` in octets (0: not given),
    ``enc_alg`` an IANA AEAD algorithm (0: not encrypted), ``hash_alg`` an IANA Named Information hash
    algorithm.
    """

    disposition: AnyDisposition = Disposition.ATTACHMENT
    language: str = ""
    content_type: str
    url: str
    expires: int = 0
    size: int = 0
    enc_alg: int = 0
    key: bytes = b""
    nonce: bytes = b""
    aad: bytes = b""
    hash_alg: int = HASH_SHA256
    content_hash: bytes = b""
    description: str = ""
    filename: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiPart:
    """Two or more parts."""

    disposition: AnyDisposition = Disposition.RENDER
    language: str = ""
    semantics: PartSemantics
    parts: tuple[Part, ...]


Part: TypeAlias = NullPart | SinglePart | ExternalPart | MultiPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiration:
    """When to forget a message: ``time`` seconds after reading it, or, if not ``relative``, a Unix time."""

    relative: bool
    time: int
