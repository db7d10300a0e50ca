"""What a Matrix message says of its file and of that file's thumbnail. Pure; nothing it says is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridges.matrix.content import MEDIA_TYPES, STICKER, JsonObject, NotBridged, text_of
from linearized.protocol.identifiers import is_server_name

OPAQUE = "application/octet-stream"
_MXC = re.compile(r"mxc://([^/]+)/[A-Za-z0-9_=-]+")
# A media type as RFC 9110 has it, without parameters. It goes into a header, so nothing else may.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """The file of a Matrix message: ``url`` is ``mxc://…``; ``encrypted`` is the ``EncryptedFile`` object, if
    it has one. The ``thumbnail`` is a small picture of it, which clients may do without.
    """

    url: str
    content_type: str
    filename: str
    description: str
    inline: bool
    encrypted: Mapping[str, Any] | None = None
    thumbnail: Media | None = None


def media_of(content: Mapping[str, Any], kind: str = "m.room.message") -> Media | None:
    """The file a message (or, of another ``kind``, a sticker) carries, if its type is one that does.

    Raises:
        NotBridged: it should have one and does not.
    """
    subtype = STICKER if kind == STICKER else text_of(content, "msgtype")
    if subtype != STICKER and (kind != "m.room.message" or subtype not in MEDIA_TYPES):
        return None
    place = _place(content, "file", "url")
    if place is None:
        raise NotBridged("the message has no file we can fetch")
    url, encrypted = place
    body = text_of(content, "body")
    info = _object(content.get("info"))
    filename = text_of(content, "filename") or body
    return Media(
        url=url,
        content_type=text_of(info, "mimetype") or OPAQUE,
        filename=filename,
        description=body if body != filename else "",
        inline=subtype in ("m.image", STICKER),
        encrypted=encrypted,
        thumbnail=_thumbnail_of(info),
    )


def _thumbnail_of(info: JsonObject) -> Media | None:
    """The thumbnail that a file's ``info`` names, if it is a picture that can be fetched."""
    place = _place(info, "thumbnail_file", "thumbnail_url")
    kind = safe_type(text_of(_object(info.get("thumbnail_info")), "mimetype"))
    if place is None or not kind.startswith("image/"):
        return None
    url, encrypted = place
    return Media(url=url, content_type=kind, filename="", description="", inline=True, encrypted=encrypted)


def _place(
    content: Mapping[str, Any], file_name: str, url_name: str
) -> tuple[str, Mapping[str, Any] | None] | None:
    """Where a file is, and its ``EncryptedFile`` object if it has one."""
    file = content.get(file_name)
    encrypted = file if isinstance(file, dict) else None
    url = content.get(url_name) if encrypted is None else encrypted.get("url")
    return (url, encrypted) if isinstance(url, str) and is_mxc(url) else None


def is_mxc(url: str) -> bool:
    """Whether a URI names a file of a server. Its parts become parts of a path, where ".." would name
    something else.
    """
    match = _MXC.fullmatch(url)
    return match is not None and is_server_name(match[1])


def safe_type(content_type: str) -> str:
    """The media type that somebody claims a file to have, without parameters; ``OPAQUE`` if it is none."""
    kind = content_type.partition(";")[0].strip()
    return kind if _MEDIA_TYPE.fullmatch(kind) is not None else OPAQUE


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
