"""MIMI content as what a ghost does in a Matrix room; the other half of the table in ``content``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from bridges.matrix.content import (
    LOCATION,
    MAX_MENTIONS,
    MENTIONS,
    MESSAGE_TYPE,
    PICTURE,
    REPLACES_EVENT,
    REPLY_TO_EVENT,
    STICKER,
    THUMBNAIL,
    JsonObject,
    Known,
    Lookup,
    NotBridged,
    is_geo,
)
from bridges.matrix.html import html_of, is_plain, parse, sanitize
from bridges.matrix.leaves import MAX_EVENTS, File, Leaf, file_key, file_size, is_file, leaves, media_type
from bridges.matrix.measures import MEASURES, THUMBNAIL_MEASURES, measures
from bridges.matrix.names import MATRIX_TO, Names
from bridges.matrix.voice import voice_marks
from linearized.mimi.content import Disposition, ExternalPart, MimiContent, NullPart, SinglePart

_MENTION = re.compile(re.escape(f'href="{MATRIX_TO}') + r"(@[^\"/?]+)\"")


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Send an event of this type and content."""

    type: str
    content: JsonObject


@dataclass(frozen=True, slots=True)
class RedactEvent:
    """Redact this Matrix event."""

    event_id: str


Act = SendEvent | RedactEvent


# A file at the homeserver: its ``mxc://`` URI or, in an encrypted room, its ``EncryptedFile`` object.
Upload = str | JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ToMatrix:
    """Turns MIMI messages of one room into acts; ``sender`` is the Matrix user who does them."""

    names: Names
    lookup: Lookup
    sender: str

    def convert(self, content: MimiContent, uploads: Mapping[str, Upload] | None = None) -> list[Act]:
        """What to do for a message; ``uploads`` gives each of its ``files`` and ``thumbnails`` by
        ``file_key``.

        Raises:
            NotBridged: nothing.
        """
        replaced = self._target(content, content.replaces, REPLACES_EVENT)
        found = leaves(content.part)
        # Of a message that never came across, the new version is all there is to show.
        is_change = content.replaces is not None or REPLACES_EVENT in content.extensions
        if is_change and (replaced is not None or not found):
            return [self._replacement(content, replaced, uploads or {})]
        if any(leaf.part.disposition == Disposition.REACTION for leaf in found):
            return self._reactions(content, found)
        relation = self._relation(content)
        acts: list[Act] = []
        for leaf in found[:MAX_EVENTS]:
            message = self._message(content, leaf, uploads or {})
            if message is not None:
                if relation:
                    message["m.relates_to"] = relation
                acts.append(_sent(content, message))
        if len(found) > MAX_EVENTS:
            more = f"[{len(found) - MAX_EVENTS} more parts of this message were left out]"
            acts.append(SendEvent("m.room.message", {"msgtype": "m.notice", "body": more}))
        if not acts:
            raise NotBridged("the message has no part that Matrix can show")
        return acts

    def _replacement(self, content: MimiContent, target: Known | None, uploads: Mapping[str, Upload]) -> Act:
        if target is None:
            raise NotBridged("an edit or deletion of a message that was never bridged")
        # "Receiving clients MUST NOT allow parties other than the original sender of a message to edit or
        # delete that message, unless there is a specific, concrete authorization policy which allows it."
        if target.sender != self.sender:
            raise NotBridged(f"{self.sender} may not change a message by {target.sender}")
        found = leaves(content.part)
        if isinstance(content.part, NullPart) or not found:
            return RedactEvent(target.matrix_event_id)
        new = self._message(content, found[0], uploads)
        if new is None:
            raise NotBridged("the edited message has no part that Matrix can show")
        outer: JsonObject = {**new, "body": f"* {new['body']}", "m.new_content": new}
        if "formatted_body" in new:
            outer["formatted_body"] = f"* {new['formatted_body']}"
        outer["m.relates_to"] = {"rel_type": "m.replace", "event_id": target.matrix_event_id}
        return SendEvent("m.room.message", outer)

    def _reactions(self, content: MimiContent, found: list[Leaf]) -> list[Act]:
        target = self._target(content, content.in_reply_to, REPLY_TO_EVENT)
        if target is None:
            raise NotBridged("a reaction to a message that was never bridged")
        texts = [leaf.part.text for leaf in found if isinstance(leaf.part, SinglePart)]
        if not texts:
            raise NotBridged("a reaction that is no text")
        relation = {"rel_type": "m.annotation", "event_id": target.matrix_event_id}
        return [
            SendEvent("m.reaction", {"m.relates_to": {**relation, "key": text}})
            for text in texts[:MAX_EVENTS]
        ]

    def _relation(self, content: MimiContent) -> JsonObject:
        reply = self._target(content, content.in_reply_to, REPLY_TO_EVENT)
        root = self.lookup.by_message(content.topic_id) if content.topic_id else None
        relation: JsonObject = {}
        if root is not None:
            relation = {"rel_type": "m.thread", "event_id": root.matrix_event_id}
            if reply is None:
                relation["is_falling_back"] = True
                relation["m.in_reply_to"] = {"event_id": root.matrix_event_id}
        if reply is not None:
            relation["m.in_reply_to"] = {"event_id": reply.matrix_event_id}
        return relation

    def _target(self, content: MimiContent, message_id: bytes | None, extension: str) -> Known | None:
        if message_id is not None:
            return self.lookup.by_message(message_id)
        event_id = content.extensions.get(extension)
        return self.lookup.by_log(event_id) if isinstance(event_id, str) else None

    def _message(self, content: MimiContent, leaf: Leaf, uploads: Mapping[str, Upload]) -> JsonObject | None:
        part = leaf.part
        if is_file(part):
            return _file(content, part, leaf.thumbnail, uploads)
        if not isinstance(part, SinglePart):
            return None
        where = content.extensions.get(LOCATION)
        if isinstance(where, str) and is_geo(where):
            return {"msgtype": "m.location", "body": part.text, "geo_uri": where}
        kind = content.extensions.get(MESSAGE_TYPE)
        message: JsonObject = {"msgtype": kind if kind in ("m.notice", "m.emote") else "m.text"}
        subtype = media_type(part)
        text = part.text
        message["body"] = _plain_of(text) if subtype == "text/html" else text
        html = None
        if subtype == "text/html":
            html = sanitize(text, links=self.names.link_to_matrix)
        elif subtype == "text/markdown":
            html = html_of(text, links=self.names.link_to_matrix)
        if html is not None and not is_plain(html, message["body"]):
            message |= {"format": "org.matrix.custom.html", "formatted_body": html}
        mentions = self._mentions(content, html or "")
        if mentions:
            message["m.mentions"] = mentions
        return message

    def _mentions(self, content: MimiContent, html: str) -> JsonObject:
        """Whom a message mentions: by links in it, and by what the sender's client says of it."""
        users, named = set(_MENTION.findall(html)), content.extensions.get(MENTIONS)
        found: JsonObject = {}
        for uri in named[:MAX_MENTIONS] if isinstance(named, Sequence) and not isinstance(named, str) else ():
            if isinstance(uri, str) and uri == content.room_uri:
                found["room"] = True
            elif isinstance(uri, str) and (link := self.names.link_to_matrix(uri)) != uri:
                users.add(unquote(link.removeprefix(MATRIX_TO)))
        if users:
            found["user_ids"] = sorted(users)
        return found


def _sent(content: MimiContent, message: JsonObject) -> SendEvent:
    """The event that carries a message: stickers have a type of their own."""
    if content.extensions.get(MESSAGE_TYPE) == STICKER and message["msgtype"] == "m.image":
        kept = ("body", "url", "file", "info", "m.relates_to")
        return SendEvent(STICKER, {name: message[name] for name in kept if name in message})
    return SendEvent("m.room.message", message)


def _file(
    content: MimiContent, part: File, thumbnail: File | None, uploads: Mapping[str, Upload]
) -> JsonObject:
    name, description, subtype = "", "", media_type(part)
    if isinstance(part, ExternalPart):
        name, description = part.filename or part.description, part.description
    name = name or "file"
    if file_key(part) not in uploads:
        return {"msgtype": "m.notice", "body": f"[{name}: the file could not be fetched]"}
    kinds = {"image": "m.image", "audio": "m.audio", "video": "m.video"}
    info = {**_info(part), **measures(content.extensions.get(PICTURE), MEASURES)}
    if thumbnail is not None and file_key(thumbnail) in uploads:
        size = measures(content.extensions.get(THUMBNAIL), THUMBNAIL_MEASURES)
        small = uploads[file_key(thumbnail)]
        info["thumbnail_url" if isinstance(small, str) else "thumbnail_file"] = small
        info["thumbnail_info"] = {**_info(thumbnail), **size}
    message: JsonObject = {
        "msgtype": kinds.get(subtype.partition("/")[0], "m.file"),
        "body": description or name,
        "filename": name,
        "info": info,
    }
    upload = uploads[file_key(part)]
    message["url" if isinstance(upload, str) else "file"] = upload
    if message["msgtype"] == "m.audio":
        message |= voice_marks(content.extensions, info.get("duration"))
    return message


def _info(part: File) -> JsonObject:
    """What is known of a file itself."""
    info: JsonObject = {"mimetype": media_type(part)}
    size = file_size(part)
    return {**info, "size": size} if size else info


def _plain_of(html: str) -> str:
    """HTML as text, for the ``body`` of a formatted message: its Markdown would show its marks."""

    def walk(element: object) -> str:
        if isinstance(element, str):
            return element
        tag = getattr(element, "tag", "")
        inner = "".join(walk(child) for child in getattr(element, "children", ()))
        if tag == "br":
            return "\n"
        if tag == "li":
            return f"- {inner.strip()}\n"
        return (
            f"{inner}\n" if tag in ("p", "div", "blockquote", "pre", "ul", "ol", "h1", "h2", "h3") else inner
        )

    return walk(parse(sanitize(html))).strip()
