"""Matrix events as MIMI content, and back. Pure: whatever has to be fetched or looked up comes in as an
argument.

| Matrix | MIMI |
|---|---|
| ``m.text`` | text/plain, or Markdown and HTML to choose from |
| ``m.notice``, ``m.emote`` | the same, and ``dev.linearized.msgtype`` among the extensions |
| reply | ``inReplyTo`` |
| thread | ``topicId``, the message ID of the thread's root |
| ``m.replace`` | ``replaces``, the ID of the first version |
| ``m.reaction`` | disposition ``reaction`` |
| redaction | ``replaces`` and no body |
| ``m.image``, ``m.file``, ``m.audio``, ``m.video``, sticker | an encrypted external part |
| thumbnail | another one after it, with the disposition ``preview`` |
| ``m.location`` | text with the ``geo:`` URI |
| ``m.mentions`` | URIs in ``dev.linearized.mentions`` |
| anything else | a text that says what it is (``fallbacks``) |

History imported in plaintext has no message IDs. What refers to it does so by the event ID in the log, in
extensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bridges.matrix.fallbacks import is_for_programs, readable
from bridges.matrix.html import markdown_of, sanitize
from bridges.matrix.measures import MEASURES, THUMBNAIL_MEASURES, measures
from bridges.matrix.names import MATRIX_TO, Names
from bridges.matrix.voice import duration, voice_extensions
from linearized.mimi.content import (
    MARKDOWN,
    PLAIN,
    Disposition,
    Expiration,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
    sender_extensions,
)

HTML = "text/html;charset=utf-8"
MESSAGE_TYPE = "dev.linearized.msgtype"
REPLY_TO_EVENT = "dev.linearized.in_reply_to"
REPLACES_EVENT = "dev.linearized.replaces"
PICTURE = "dev.linearized.info"
THUMBNAIL = "dev.linearized.thumbnail"
LOCATION = "dev.linearized.geo_uri"
MENTIONS = "dev.linearized.mentions"
STICKER = "m.sticker"
# Users mentioned by one message; more is spam, and each costs its URI in every copy of the message.
MAX_MENTIONS = 50
_GEO = re.compile(r"geo:-?[0-9.]{1,20},-?[0-9.]{1,20}(,-?[0-9.]{1,20})?(;[A-Za-z0-9=.;-]{1,100})?")
MEDIA_TYPES = frozenset({"m.image", "m.file", "m.audio", "m.video"})
_TEXT_TYPES = frozenset({"m.text", "m.notice", "m.emote"})
_HTML_FORMAT = "org.matrix.custom.html"

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A message both sides have; ``message_id`` is ``None`` for imported history. ``sender`` is a Matrix
    user ID.
    """

    matrix_event_id: str
    log_event_id: str | None
    message_id: bytes | None
    sender: str
    in_reply_to: bytes | None = None


class Lookup(Protocol):
    """Finds messages by any of their names; ``None`` for one that never was here."""

    def by_matrix(self, event_id: str) -> Known | None:
        """By the Matrix event ID."""
        ...

    def by_message(self, message_id: bytes) -> Known | None:
        """By the MIMI message ID."""
        ...

    def by_log(self, event_id: str) -> Known | None:
        """By the event ID in the log."""
        ...


class NotBridged(Exception):  # noqa: N818 - a decision, not a failure
    """This event has no form on the other side; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToMimi:
    """Turns Matrix events of one room into MIMI content."""

    names: Names
    lookup: Lookup
    sender_uri: str
    room_uri: str
    salt: bytes
    expires: Expiration | None = None
    """When the message ends; what deletes another one has no end of its own."""
    poll: Mapping[str, Any] | None = None
    """The content of the poll that a vote or the end of a poll is about, if it could be had."""

    def convert(self, event: Mapping[str, Any], attachment: Part | None = None) -> MimiContent:
        """The content for a Matrix event; ``attachment`` is its file, encrypted and uploaded, alone or
        ``with_thumbnail``.

        Raises:
            NotBridged: it has none.
        """
        content = event.get("content")
        if not isinstance(content, dict) or not content:
            raise NotBridged("the event is redacted or empty")
        mimi = self._convert(event, content, attachment)
        try:
            mimi.encode()
        except ValueError as error:  # what Matrix allows and MIMI does not, such as half a character
            raise NotBridged(f"MIMI has no form for it: {error}") from error
        return mimi

    def _convert(self, event: Mapping[str, Any], content: JsonObject, attachment: Part | None) -> MimiContent:
        kind = event.get("type")
        if kind in ("m.room.message", STICKER):
            return self._message(content, attachment, sticker=kind == STICKER)
        if kind == "m.reaction":
            return self._reaction(content)
        if kind == "m.room.redaction":
            return self._redaction(event, content)
        if not isinstance(kind, str) or is_for_programs(kind):
            raise NotBridged(f"events of type {kind} are for programs")
        return self._fallback(kind, content)

    def _message(self, content: JsonObject, attachment: Part | None, *, sticker: bool) -> MimiContent:
        relation = content.get("m.relates_to")
        relation = relation if isinstance(relation, dict) else {}
        if relation.get("rel_type") == "m.replace":
            new = content.get("m.new_content")
            target = self.lookup.by_matrix(str(relation.get("event_id", "")))
            if isinstance(new, dict) and target is not None:
                return self._edit(new, target, attachment)
            # Of a message that never came across, the new version is all there is to show.
            content = new if isinstance(new, dict) else content
            relation = {}
        extensions = self._extensions(content)
        if sticker:
            content = {**content, "msgtype": "m.image"}
            extensions[MESSAGE_TYPE] = STICKER
        in_reply_to = self._reference(_reply_target(relation), extensions, REPLY_TO_EVENT)
        topic = b""
        if relation.get("rel_type") == "m.thread":
            root = self.lookup.by_matrix(str(relation.get("event_id", "")))
            topic = (root.message_id or b"") if root is not None else b""
        part = self._part(content, attachment, is_reply=bool(_reply_target(relation)))
        return MimiContent(
            salt=self.salt,
            in_reply_to=in_reply_to,
            topic_id=topic,
            expires=self.expires,
            extensions=extensions,
            part=part,
        )

    def _edit(self, new: JsonObject, target: Known, attachment: Part | None) -> MimiContent:
        extensions = self._extensions(new)
        replaces = self._reference(target.matrix_event_id, extensions, REPLACES_EVENT)
        return MimiContent(
            salt=self.salt,
            replaces=replaces,
            expires=self.expires,
            # "the original sender of a message MUST NOT be able to change the semantics of any other
            # portion of the message except for the contents of the NestedPart"
            in_reply_to=target.in_reply_to,
            extensions=extensions,
            part=self._part(new, attachment, is_reply=target.in_reply_to is not None),
        )

    def _reaction(self, content: JsonObject) -> MimiContent:
        relation = content.get("m.relates_to")
        relation = relation if isinstance(relation, dict) else {}
        key, target = relation.get("key"), relation.get("event_id")
        if relation.get("rel_type") != "m.annotation" or not isinstance(key, str) or not key:
            raise NotBridged("a reaction without a key")
        extensions = self._extensions({})
        in_reply_to = self._reference(target, extensions, REPLY_TO_EVENT)
        if in_reply_to is None and REPLY_TO_EVENT not in extensions:
            raise NotBridged("a reaction to a message that was never bridged")
        part = SinglePart(disposition=Disposition.REACTION, content_type=PLAIN, content=key.encode())
        return self._answer(in_reply_to, extensions, part)

    def _redaction(self, event: Mapping[str, Any], content: JsonObject) -> MimiContent:
        target = self.lookup.by_matrix(str(event.get("redacts") or content.get("redacts") or ""))
        if target is None:
            raise NotBridged("a redaction of an event that was never bridged")
        extensions = self._extensions({})
        replaces = self._reference(target.matrix_event_id, extensions, REPLACES_EVENT)
        return MimiContent(salt=self.salt, replaces=replaces, extensions=extensions, part=NullPart())

    def _fallback(self, kind: str, content: JsonObject) -> MimiContent:
        extensions = self._extensions({})
        relation = content.get("m.relates_to")
        target = relation.get("event_id") if isinstance(relation, dict) else None
        in_reply_to = self._reference(target, extensions, REPLY_TO_EVENT)
        part = SinglePart(content_type=PLAIN, content=readable(kind, content, self.poll).encode())
        return self._answer(in_reply_to, extensions, part)

    def _answer(
        self, in_reply_to: bytes | None, extensions: dict[int | str, Any], part: SinglePart
    ) -> MimiContent:
        return MimiContent(
            salt=self.salt, expires=self.expires, in_reply_to=in_reply_to, extensions=extensions, part=part
        )

    def _extensions(self, content: JsonObject) -> dict[int | str, Any]:
        extensions = sender_extensions(sender_uri=self.sender_uri, room_uri=self.room_uri)
        if content.get("msgtype") in ("m.notice", "m.emote"):
            extensions[MESSAGE_TYPE] = content["msgtype"]
        info = content.get("info")
        info = info if isinstance(info, dict) else {}
        for extension, measured, names in (
            (PICTURE, {"duration": duration(content), **info}, MEASURES),
            (THUMBNAIL, info.get("thumbnail_info"), THUMBNAIL_MEASURES),
        ):
            size = measures(measured, names)
            if size:
                extensions[extension] = size
        extensions |= voice_extensions(content)
        if content.get("msgtype") == "m.location" and is_geo(content.get("geo_uri")):
            extensions[LOCATION] = content["geo_uri"]
        mentioned = self._mentioned(content)
        if mentioned:
            extensions[MENTIONS] = tuple(mentioned)
        return extensions

    def _mentioned(self, content: JsonObject) -> list[str]:
        """The URIs of the users a message mentions; the room's own stands for everybody in it."""
        mentions = content.get("m.mentions")
        mentions = mentions if isinstance(mentions, dict) else {}
        users = mentions.get("user_ids")
        uris = [self.room_uri] if mentions.get("room") is True else []
        for user in users[:MAX_MENTIONS] if isinstance(users, list) else []:
            uri = self.names.link_to_mimi(MATRIX_TO + user) if isinstance(user, str) else ""
            if uri.startswith("mimi://") and uri not in uris:
                uris.append(uri)
        return uris

    def _reference(self, event_id: object, extensions: dict[int | str, Any], name: str) -> bytes | None:
        """The message ID of a Matrix event; or, without one, its log event ID among the extensions."""
        target = self.lookup.by_matrix(event_id) if isinstance(event_id, str) else None
        if target is None:
            return None
        if target.message_id is None and target.log_event_id is not None:
            extensions[name] = target.log_event_id
        return target.message_id

    def _part(self, content: JsonObject, attachment: Part | None, *, is_reply: bool) -> Part:
        if attachment is not None:
            return attachment
        kind, body = text_of(content, "msgtype"), text_of(content, "body")
        if kind == "m.location" and is_geo(content.get("geo_uri")):
            where = str(content["geo_uri"])
            text = body if where in body else f"{body}\n{where}".strip()
            return SinglePart(content_type=PLAIN, content=text.encode())
        if kind in MEDIA_TYPES:
            text = f"[{body or 'a file'}: the file could not be fetched]"
            return SinglePart(content_type=PLAIN, content=text.encode())
        if kind not in _TEXT_TYPES:
            body = body or readable(f"m.room.message ({kind})", content)
            # What a client does not know it shows as its body; so do we.
            return SinglePart(content_type=PLAIN, content=body.encode())
        formatted = content.get("formatted_body") if content.get("format") == _HTML_FORMAT else None
        if is_reply:
            body = without_fallback(body)
        if not isinstance(formatted, str):
            return SinglePart(content_type=PLAIN, content=body.encode())
        markdown = markdown_of(formatted, links=self.names.link_to_mimi)
        html = sanitize(formatted, links=self.names.link_to_mimi)
        return MultiPart(
            semantics=PartSemantics.CHOOSE_ONE,
            parts=(
                SinglePart(content_type=MARKDOWN, content=markdown.encode()),
                SinglePart(content_type=HTML, content=html.encode()),
            ),
        )


def with_thumbnail(file: ExternalPart, thumbnail: ExternalPart) -> MultiPart:
    """A file and a small picture of it. Who cannot show the one may well show the other: "The receiver should
    process as many of the nested parts at this level as possible."
    """
    preview = replace(thumbnail, disposition=Disposition.PREVIEW)
    return MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=(file, preview))


def is_geo(value: object) -> bool:
    """Whether this is a ``geo:`` URI (RFC 5870) with numbers and nothing that could be anything else."""
    return isinstance(value, str) and _GEO.fullmatch(value) is not None


def without_fallback(body: str) -> str:
    """A reply's text without the quotation that older clients put before it (Client-Server API, "Rich
    replies").
    """
    lines = body.split("\n")
    if not lines[0].startswith("> <"):
        return body
    while lines and lines[0].startswith("> "):
        del lines[0]
    return "\n".join(lines[1:] if lines and not lines[0] else lines)


def _reply_target(relation: JsonObject) -> str | None:
    """What a message answers; in a thread, only if it is more than the fallback for clients without
    threads.
    """
    if relation.get("rel_type") == "m.thread" and relation.get("is_falling_back") is True:
        return None
    reply = relation.get("m.in_reply_to")
    target = reply.get("event_id") if isinstance(reply, dict) else None
    return target if isinstance(target, str) else None


def text_of(content: Mapping[str, Any], name: str) -> str:
    """A text in an object, empty if there is none."""
    value = content.get(name)
    return value if isinstance(value, str) else ""
