"""Event filters (Client-Server API, Filtering): which events of a part of an answer a client wants.

They stand in the parts of a sync filter, and alone in the queries of ``/messages``, ``/context`` and
``/search``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.fields import bad_json, boolean, invalid
from linearized.server.histories import content_of
from linearized.store.base import EntryRow

DEFAULT_TIMELINE: Final = 20  # a screenful
MAX_TIMELINE: Final = 500  # more is read faster from /messages, in pages
# Every entry of a page is held against all of them.
MAX_NAMES: Final = 500
MAX_PATTERNS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``types``/``not_types`` and the like: None allows everything; ``not_`` wins; types may hold ``*``."""

    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()

    def allows(self, value: str) -> bool:
        """Whether the filter lets a value through."""
        if self.never and _named(value, self.never):
            return False
        return self.only is None or _named(value, self.only)


EVERYTHING: Final = Choice()


def _named(value: str, patterns: tuple[str, ...]) -> bool:
    return value in patterns or any("*" in pattern and _matches(value, pattern) for pattern in patterns)


def _matches(value: str, pattern: str) -> bool:
    """``*`` stands for anything, and nothing else for anything but itself; no regular expression, which could
    be made slow.
    """
    first, *middle, last = pattern.split("*")
    position, end = len(first), len(value) - len(last)
    if position > end or not (value.startswith(first) and value.endswith(last)):
        return False
    for part in middle:
        found = value.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events of one part of an answer are wanted.

    Attributes:
        limit: entries of a room, before the others are applied.
        contains_url: only events with a ``url`` in their content, or only those without.
        unread_threads: whether what is unread is to be told for each thread.
        lazy_members: of the memberships in a room's state, only those of users whose events come with it.
    """

    types: Choice = EVERYTHING
    senders: Choice = EVERYTHING
    rooms: Choice = EVERYTHING
    contains_url: bool | None = None
    limit: int = DEFAULT_TIMELINE
    lazy_members: bool = False
    unread_threads: bool = False

    def allows(self, entry: EntryRow) -> bool:
        """Whether an entry is wanted."""
        if not (self.allows_type(entry.room_id, entry.type) and self.senders.allows(entry.sender)):
            return False
        if self.contains_url is None:
            return True
        return self.contains_url == isinstance(content_of(entry).get("url"), str)

    def allows_type(self, room_id: str, kind: str) -> bool:
        """Whether events of this type are wanted of a room, whoever sends them."""
        return self.rooms.allows(room_id) and self.types.allows(kind)


ALL_EVENTS: Final = EventFilter()


def _strings(body: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_json(f"{key} must be a list of strings")
    if len(value) > MAX_NAMES or sum("*" in item for item in value) > MAX_PATTERNS:
        raise invalid(f"{key} holds more than {MAX_NAMES} names or {MAX_PATTERNS} patterns")
    return tuple(value)


def parse_choice(body: Mapping[str, Any], name: str) -> Choice:
    """Read ``name`` and ``not_name``.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    return Choice(only=_strings(body, name), never=_strings(body, f"not_{name}") or ())


def parse_event_filter(body: JsonObject) -> EventFilter:
    """Read an event filter.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    limit = body.get("limit", DEFAULT_TIMELINE)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise bad_json("limit must be a whole number")
    return EventFilter(
        types=parse_choice(body, "types"),
        senders=parse_choice(body, "senders"),
        rooms=parse_choice(body, "rooms"),
        contains_url=boolean(body, "contains_url") if body.get("contains_url") is not None else None,
        limit=min(limit, MAX_TIMELINE),
        lazy_members=boolean(body, "lazy_load_members"),
        unread_threads=boolean(body, "unread_thread_notifications"),
    )
