"""MIMI content as what a ghost does in a Matrix room; the other half of the table in ``content``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bridges.matrix.content import (
    HTML,
    MEASURES,
    MESSAGE_TYPE,
    PICTURE,
    REPLACES_EVENT,
    REPLY_TO_EVENT,
    JsonObject,
    Known,
    Lookup,
    NotBridged,
    is_measure,
)
from bridges.matrix.html import html_of, is_plain, parse, sanitize
from bridges.matrix.names import MATRIX_TO, Names
from linearized.mimi.content import (
    MARKDOWN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
)

# A message of more parts than this would flood the room it is bridged to.
MAX_EVENTS = 20
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


def external_parts(content: MimiContent) -> list[ExternalPart]:
    """The files a message refers to, which have to be fetched and uploaded before ``ToMatrix.convert``."""
    return [part for part in _leaves(content.part) if isinstance(part, ExternalPart)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToMatrix:
    """Turns MIMI messages of one room into acts; ``sender`` is the Matrix user who does them."""

    names: Names
    lookup: Lookup
    sender: str

    def convert(self, content: MimiContent, uploads: Mapping[str, str] | None = None) -> list[Act]:
        """What to do for a message; ``uploads`` gives the ``mxc://`` URI of each external part by its URL.

        Raises:
            NotBridged: nothing.
        """
        replaced = self._target(content, content.replaces, REPLACES_EVENT)
        if content.replaces is not None or REPLACES_EVENT in content.extensions:
            return [self._replacement(content, replaced, uploads or {})]
        leaves = _leaves(content.part)
        if any(leaf.disposition == Disposition.REACTION for leaf in leaves):
            return self._reactions(content, leaves)
        relation = self._relation(content)
        acts: list[Act] = []
        for leaf in leaves[:MAX_EVENTS]:
            message = self._message(content, leaf, uploads or {})
            if message is not None:
                if relation:
                    message["m.relates_to"] = relation
                acts.append(SendEvent("m.room.message", message))
        if not acts:
            raise NotBridged("the message has no part that Matrix can show")
        return acts

    def _replacement(self, content: MimiContent, target: Known | None, uploads: Mapping[str, str]) -> Act:
        if target is None:
            raise NotBridged("an edit or deletion of a message that was never bridged")
        # "Receiving clients MUST NOT allow parties other than the original sender of a message to edit or
        # delete that message, unless there is a specific, concrete authorization policy which allows it."
        if target.sender != self.sender:
            raise NotBridged(f"{self.sender} may not change a message by {target.sender}")
        leaves = _leaves(content.part)
        if isinstance(content.part, NullPart) or not leaves:
            return RedactEvent(target.matrix_event_id)
        new = self._message(content, leaves[0], uploads)
        if new is None:
            raise NotBridged("the edited message has no part that Matrix can show")
        outer: JsonObject = {**new, "body": f"* {new['body']}", "m.new_content": new}
        if "formatted_body" in new:
            outer["formatted_body"] = f"* {new['formatted_body']}"
        outer["m.relates_to"] = {"rel_type": "m.replace", "event_id": target.matrix_event_id}
        return SendEvent("m.room.message", outer)

    def _reactions(self, content: MimiContent, leaves: list[Part]) -> list[Act]:
        target = self._target(content, content.in_reply_to, REPLY_TO_EVENT)
        if target is None:
            raise NotBridged("a reaction to a message that was never bridged")
        texts = [leaf.text for leaf in leaves if isinstance(leaf, SinglePart)]
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

    def _message(self, content: MimiContent, leaf: Part, uploads: Mapping[str, str]) -> JsonObject | None:
        if isinstance(leaf, ExternalPart):
            return _file(content, leaf, uploads)
        if not isinstance(leaf, SinglePart):
            return None
        kind = content.extensions.get(MESSAGE_TYPE)
        message: JsonObject = {"msgtype": kind if kind in ("m.notice", "m.emote") else "m.text"}
        media_type = leaf.content_type.partition(";")[0].strip().lower()
        if not media_type.startswith("text/"):
            message["body"] = f"[a message of type {media_type}, which Matrix cannot show]"
            return message
        text = leaf.text
        message["body"] = _plain_of(text) if media_type == "text/html" else text
        html = None
        if media_type == "text/html":
            html = sanitize(text, links=self.names.link_to_matrix)
        elif media_type == "text/markdown":
            html = html_of(text, links=self.names.link_to_matrix)
        if html is not None and not is_plain(html, message["body"]):
            message |= {"format": "org.matrix.custom.html", "formatted_body": html}
            mentioned = sorted(set(_MENTION.findall(html)))
            if mentioned:
                message["m.mentions"] = {"user_ids": mentioned}
        return message


def _file(content: MimiContent, part: ExternalPart, uploads: Mapping[str, str]) -> JsonObject:
    name = part.filename or part.description or "file"
    media_type = part.content_type.partition(";")[0].strip().lower()
    if part.url not in uploads:
        return {"msgtype": "m.notice", "body": f"[{name}: the file could not be fetched]"}
    kinds = {"image": "m.image", "audio": "m.audio", "video": "m.video"}
    info: JsonObject = {"mimetype": media_type}
    if part.size:
        info["size"] = part.size
    picture = content.extensions.get(PICTURE)
    if isinstance(picture, Mapping):
        info |= {name: picture[name] for name in MEASURES if is_measure(picture.get(name))}
    return {
        "msgtype": kinds.get(media_type.partition("/")[0], "m.file"),
        "body": part.description or name,
        "filename": name,
        "url": uploads[part.url],
        "info": info,
    }


def _leaves(part: Part) -> list[Part]:
    """The parts to show, in order: of alternatives, the one that says most in Matrix."""
    if not isinstance(part, MultiPart):
        return [] if isinstance(part, NullPart) else [part]
    if part.semantics == PartSemantics.CHOOSE_ONE:
        return _leaves(min(part.parts, key=_preference))
    return [leaf for child in part.parts for leaf in _leaves(child)]


def _preference(part: Part) -> int:
    order = (HTML.partition(";")[0], MARKDOWN.partition(";")[0], "text/plain")
    if isinstance(part, SinglePart):
        media_type = part.content_type.partition(";")[0].strip().lower()
        return order.index(media_type) if media_type in order else len(order) + 1
    return len(order) if isinstance(part, ExternalPart | MultiPart) else len(order) + 2


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
