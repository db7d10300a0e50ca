"""What a client asks of simplified sliding sync (MSC4186), read and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.fields import (
    bad_json,
    boolean,
    integer,
    invalid,
    optional_object,
    optional_text,
    texts,
)

MAX_LISTS: Final = 20
MAX_SUBSCRIPTIONS: Final = 100
MAX_RANGES: Final = 10  # of one list
MAX_REQUIRED: Final = 100  # pairs of event type and state key
MAX_TIMELINE: Final = 100  # entries of a room; the rest is paged
MAX_CONNECTION_ID: Final = 64
MAX_TAGS: Final = 50  # of one filter
MAX_SPACES: Final = 10  # of one filter; of each all children are read

WILDCARD, LAZY, ME = "*", "$LAZY", "$ME"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWish:
    """What is wanted of a room: state by type and key, and how many entries of its end."""

    required: frozenset[tuple[str, str]] = frozenset()
    timeline_limit: int = 0

    def joined(self, other: RoomWish) -> RoomWish:
        """What either of two wants."""
        return RoomWish(
            required=self.required | other.required,
            timeline_limit=max(self.timeline_limit, other.timeline_limit),
        )

    def covers(self, other: RoomWish) -> bool:
        """Whether whoever was told this much was told what ``other`` asks for."""
        return self.required >= other.required and self.timeline_limit >= other.timeline_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rooms a list holds; None wants all."""

    is_dm: bool | None = None
    is_invite: bool | None = None
    is_encrypted: bool | None = None
    room_types: tuple[str | None, ...] | None = None
    not_room_types: tuple[str | None, ...] = ()
    tags: tuple[str, ...] | None = None
    not_tags: tuple[str, ...] = ()
    spaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomList:
    """Rooms from the most to the least recently active; ``ranges`` include both ends."""

    ranges: tuple[tuple[int, int], ...]
    wish: RoomWish
    filters: Filters


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingRequest:
    """One request."""

    connection: str
    lists: Mapping[str, RoomList]
    subscriptions: Mapping[str, RoomWish]
    extensions: JsonObject
    transaction_id: str | None

    def extension(self, name: str) -> JsonObject | None:
        """An extension's settings if it is on, else None."""
        settings = optional_object(self.extensions, name)
        return settings if boolean(settings, "enabled") else None


def parse_request(body: JsonObject) -> SlidingRequest:
    """Read the body of a request.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    lists, rooms = optional_object(body, "lists"), optional_object(body, "room_subscriptions")
    if len(lists) > MAX_LISTS or len(rooms) > MAX_SUBSCRIPTIONS:
        raise invalid(f"At most {MAX_LISTS} lists and {MAX_SUBSCRIPTIONS} room subscriptions")
    return SlidingRequest(
        connection=optional_text(body, "conn_id", limit=MAX_CONNECTION_ID) or "",
        lists={name: _list(optional_object(lists, name)) for name in lists},
        subscriptions={room_id: _wish(optional_object(rooms, room_id)) for room_id in rooms},
        extensions=optional_object(body, "extensions"),
        transaction_id=optional_text(body, "txn_id", limit=255),
    )


def _list(body: JsonObject) -> RoomList:
    ranges = body.get("ranges", [])
    if not isinstance(ranges, list) or len(ranges) > MAX_RANGES:
        raise bad_json(f"ranges must be a list of at most {MAX_RANGES}")
    return RoomList(
        ranges=tuple(_range(each) for each in ranges),
        wish=_wish(body),
        filters=_filters(optional_object(body, "filters")),
    )


def _range(value: Any) -> tuple[int, int]:
    match value:
        case [int(first), int(last)] if first >= 0 and last >= 0 and not {type(first), type(last)} & {bool}:
            return first, last
    raise bad_json("A range is a start and an end, whole numbers")


def _wish(body: JsonObject) -> RoomWish:
    required = body.get("required_state", [])
    if not isinstance(required, list) or len(required) > MAX_REQUIRED:
        raise bad_json(f"required_state must be a list of at most {MAX_REQUIRED}")
    pairs = {_pair(each) for each in required}
    limit = integer(body, "timeline_limit") if "timeline_limit" in body else 0
    return RoomWish(required=frozenset(pairs), timeline_limit=min(limit, MAX_TIMELINE))


def _pair(value: Any) -> tuple[str, str]:
    match value:
        case [str(kind), str(key)]:
            return kind, key
    raise bad_json("required_state holds pairs of an event type and a state key")


def _filters(body: JsonObject) -> Filters:
    def flag(name: str) -> bool | None:
        return boolean(body, name) if body.get(name) is not None else None

    return Filters(
        is_dm=flag("is_dm"),
        is_invite=flag("is_invite"),
        is_encrypted=flag("is_encrypted"),
        room_types=_types(body, "room_types"),
        not_room_types=_types(body, "not_room_types") or (),
        tags=_names(body, "tags", MAX_TAGS),
        not_tags=_names(body, "not_tags", MAX_TAGS) or (),
        spaces=_names(body, "spaces", MAX_SPACES),
    )


def _types(body: JsonObject, name: str) -> tuple[str | None, ...] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(each is None or isinstance(each, str) for each in value):
        raise bad_json(f"{name} must be a list of strings and null")
    return tuple(value)


def _names(body: JsonObject, name: str, limit: int) -> tuple[str, ...] | None:
    return tuple(texts(body, name, limit=limit)) if body.get(name) is not None else None
