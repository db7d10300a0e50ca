"""MIMI message content (draft-ietf-mimi-content-08): what is inside an encrypted message, in CBOR.

``MimiContent.decode`` gives a value whose ``encode`` is the input, or raises ``MimiDecodeError``. The
builders at the end make the usual messages; anything else is set with ``dataclasses.replace``. The salt is
always an argument: 16 octets that "MUST be cryptographically random", new ones for every message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from linearized.exceptions import MimiDecodeError
from linearized.mimi import _cbor
from linearized.mimi._content_cbor import (
    MAX_CBOR_DEPTH,
    MAX_EXTENSION_DEPTH,
    MAX_EXTENSION_KEY_BYTES,
    MAX_PART_DEPTH,
    MAX_PARTS,
    MAX_TOPIC_ID_BYTES,
    MESSAGE_ID_BYTES,
    ROOM_URI,
    SALT_BYTES,
    SENDER_URI,
    Items,
    PartReader,
    check_extensions,
    expiration_items,
    expiration_of,
    part_items,
)
from linearized.mimi._content_model import (
    AES_128_GCM,
    HASH_SHA256,
    MARKDOWN,
    PLAIN,
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

__all__ = [
    "AES_128_GCM",
    "HASH_SHA256",
    "MARKDOWN",
    "MAX_EXPIRY_MS",
    "MAX_EXTENSION_DEPTH",
    "MAX_EXTENSION_KEY_BYTES",
    "MAX_PARTS",
    "MAX_PART_DEPTH",
    "MAX_TOPIC_ID_BYTES",
    "MESSAGE_ID_BYTES",
    "PLAIN",
    "ROOM_URI",
    "SALT_BYTES",
    "SENDER_URI",
    "AnyDisposition",
    "Cardinality",
    "Disposition",
    "Expiration",
    "ExternalPart",
    "MimiContent",
    "MultiPart",
    "NullPart",
    "Part",
    "PartSemantics",
    "SinglePart",
    "attachment",
    "check_expiry",
    "delete",
    "edit",
    "message_id",
    "reaction",
    "reply",
    "sender_extensions",
    "text",
]

MAX_EXPIRY_MS = 366 * 24 * 3600 * 1000
"""The year, in milliseconds, by which an expiration may be away from when its message was accepted."""
_URI_LENGTH_BYTES = 2  # in front of the URIs a message ID covers
_MESSAGE_ID_HASH_BYTES = MESSAGE_ID_BYTES - 1  # the first octet names the hash function


@dataclass(frozen=True, slots=True, kw_only=True)
class MimiContent:
    """One message.

    ``replaces`` and ``in_reply_to`` are message IDs (32 octets). ``extensions`` maps integers and texts to
    CBOR values: ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, tuples, dicts and ``cbor2``
    tags.
    """

    salt: bytes
    replaces: bytes | None = None
    topic_id: bytes = b""
    expires: Expiration | None = None
    in_reply_to: bytes | None = None
    extensions: Mapping[int | str, Any] = field(default_factory=dict)
    part: Part

    @property
    def sender_uri(self) -> str | None:
        """The user URI the sender claims to be, from the extensions."""
        return self.extensions.get(SENDER_URI)

    @property
    def room_uri(self) -> str | None:
        """The room URI the sender wrote to, from the extensions."""
        return self.extensions.get(ROOM_URI)

    def encode(self) -> bytes:
        """Deterministic CBOR; ``ValueError`` if a field is out of the draft's bounds."""
        try:
            data = _cbor.dumps(self._items())
            self.decode(data)
        except MimiDecodeError as error:  # the decoder's rules are the only copy of the rules
            raise ValueError(str(error)) from error
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one message.

        Raises:
            MimiDecodeError: the bytes are not deterministic CBOR, or not of the draft's schema and bounds.
        """
        items = Items(_cbor.loads(data, max_depth=MAX_CBOR_DEPTH), "a message")
        content = cls(  # arguments are evaluated in this order, which is the wire's
            salt=items.sized(SALT_BYTES),
            replaces=items.message_id(),
            topic_id=items.topic_id(),
            expires=expiration_of(items.anything()),
            in_reply_to=items.message_id(),
            extensions=check_extensions(items.anything()),
            part=PartReader().part(items.anything()),
        )
        items.finish()
        return content

    def _items(self) -> list[object]:
        return [
            self.salt,
            self.replaces,
            self.topic_id,
            expiration_items(self.expires),
            self.in_reply_to,
            dict(self.extensions),
            part_items(self.part),
        ]


def message_id(content: MimiContent, *, sender_uri: str, room_uri: str) -> bytes:
    """The 32-octet ID others use to refer to a message (Section "Message ID").

    Raises:
        ValueError: the content has no encoding, or a URI is too long for the 16-bit length in front of it.
    """
    uris = (sender_uri.encode("ascii"), room_uri.encode("ascii"))
    if max(map(len, uris)) >= 1 << (8 * _URI_LENGTH_BYTES):
        raise ValueError("a URI is too long for a message ID")
    covered = b"".join(len(uri).to_bytes(_URI_LENGTH_BYTES, "big") + uri for uri in uris)
    digest = hashlib.sha256(covered + content.encode() + content.salt).digest()
    return bytes([HASH_SHA256]) + digest[:_MESSAGE_ID_HASH_BYTES]


def check_expiry(content: MimiContent, *, accepted_ms: int) -> None:
    """Refuse a message that ends at no time it could mean; its sender holds it to the same.

    Args:
        accepted_ms: when the hub accepted it, milliseconds since the Unix epoch: every member decides
            alike, also one that reads an old message.

    Raises:
        MimiDecodeError: its expiration is more than a year away.
    """
    # "refers to a date more than a year in the past (only possible with absolute expiration)"; "refers to a
    # date more than a year in the future (possible with both relative and absolute expiration)"
    if content.expires is None:
        return
    away = content.expires.time * 1000 - (0 if content.expires.relative else accepted_ms)
    if abs(away) > MAX_EXPIRY_MS:
        raise MimiDecodeError("the message expires more than a year away from when it was accepted")


def sender_extensions(*, sender_uri: str, room_uri: str) -> dict[int | str, Any]:
    """The extensions that franking asks every message to carry."""
    return {SENDER_URI: sender_uri, ROOM_URI: room_uri}


def text(
    body: str,
    *,
    salt: bytes,
    markdown: bool = False,
    extensions: Mapping[int | str, Any] | None = None,
    in_reply_to: bytes | None = None,
    replaces: bytes | None = None,
) -> MimiContent:
    """A text message, plain or GitHub-flavoured Markdown as MIMI profiles it."""
    return MimiContent(
        salt=salt,
        replaces=replaces,
        in_reply_to=in_reply_to,
        extensions=extensions or {},
        part=SinglePart(content_type=MARKDOWN if markdown else PLAIN, content=body.encode()),
    )


def reply(
    to: bytes,
    body: str,
    *,
    salt: bytes,
    markdown: bool = False,
    extensions: Mapping[int | str, Any] | None = None,
) -> MimiContent:
    """A text message in reply to the message with ID ``to``."""
    return text(body, salt=salt, markdown=markdown, extensions=extensions, in_reply_to=to)


def edit(
    replaces: bytes,
    body: str,
    *,
    salt: bytes,
    markdown: bool = False,
    extensions: Mapping[int | str, Any] | None = None,
    in_reply_to: bytes | None = None,
) -> MimiContent:
    """A new text for the message whose first version has ID ``replaces`` (and was ``in_reply_to`` this)."""
    return text(
        body, salt=salt, markdown=markdown, extensions=extensions, in_reply_to=in_reply_to, replaces=replaces
    )


def delete(replaces: bytes, *, salt: bytes, extensions: Mapping[int | str, Any] | None = None) -> MimiContent:
    """Retract a message or a reaction; ``replaces`` is the ID of its first version."""
    return MimiContent(salt=salt, replaces=replaces, extensions=extensions or {}, part=NullPart())


def reaction(
    to: bytes, symbol: str, *, salt: bytes, extensions: Mapping[int | str, Any] | None = None
) -> MimiContent:
    """A reaction to the message with ID ``to``; ``symbol`` is one emoji or the like."""
    return MimiContent(
        salt=salt,
        in_reply_to=to,
        extensions=extensions or {},
        part=SinglePart(disposition=Disposition.REACTION, content_type=PLAIN, content=symbol.encode()),
    )


def attachment(
    part: ExternalPart,
    *,
    salt: bytes,
    caption: str = "",
    extensions: Mapping[int | str, Any] | None = None,
) -> MimiContent:
    """A file to download, alone or, with a ``caption``, after a plain text, both to be shown."""
    body: Part = part
    if caption:
        words = SinglePart(content_type=PLAIN, content=caption.encode())
        body = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=(words, part))
    return MimiContent(salt=salt, extensions=extensions or {}, part=body)
