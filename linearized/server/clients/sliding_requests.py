"""What a client asks of simplified sliding sync (MSC4186), read and bounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    query_integer,
    texts,
)
from linearized.server.clients.sliding_wishes import RoomWish, parse_wish
from linearized.server.clients.sync import MAX_WAIT_MS
from linearized.server.http import Request

MAX_LISTS: Final = 100  # "Max lists: 100"
MAX_SUBSCRIPTIONS: Final = 100  # "Max subscriptions: 100"
MAX_SELECTED: Final = 200  # lists or rooms that an extension is for
MAX_LIST_NAME: Final = 255
MAX_RANGES: Final = 10  # of one list
MAX_CONNECTION_ID: Final = 64
MAX_TAGS: Final = 50  # of one filter
MAX_SPACES: Final = 10  # of one filter; of each all children are read
EVERY_ROOM: Final = (0, 2**53 - 1)


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
    """One request.

    Attributes:
        position: what it goes on from; None to begin.
        wait_ms: how long it waits for news.
    """

    position: str | None
    wait_ms: int
    connection: str
    lists: Mapping[str, RoomList]
    subscriptions: Mapping[str, RoomWish]
    extensions: JsonObject
    transaction_id: str | None

    def extension(self, name: str) -> JsonObject | None:
        """An extension's settings if it is on, else None."""
        settings = optional_object(self.extensions, name)
        return settings if boolean(settings, "enabled") else None

    def rooms_for(self, name: str, listed: Mapping[str, Collection[str]]) -> frozenset[str]:
        """The rooms that an extension is for.

        ``lists`` and ``rooms`` of its settings choose among those of the request; left out or with ``*``,
        all.

        Args:
            listed: the lists that each of the request's rooms is in; none of them for those that it only
                subscribes to.
        """
        settings = self.extension(name) or {}
        lists, rooms = _selected(settings, "lists"), _selected(settings, "rooms")
        by_list = {
            room_id for room_id, names in listed.items() if names and (lists is None or lists & {*names})
        }
        subscribed = self.subscriptions.keys() & listed.keys()
        return frozenset(by_list | (subscribed if rooms is None else subscribed & rooms))


def _selected(settings: JsonObject, name: str) -> frozenset[str] | None:
    names = frozenset(texts(settings, name, limit=MAX_SELECTED)) if settings.get(name) is not None else None
    return None if names is None or "*" in names else names


def parse_request(body: JsonObject, request: Request) -> SlidingRequest:
    """Read a request, whose position and time may stand in its query, too, as in the proposal's experiments.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    lists, rooms = optional_object(body, "lists"), optional_object(body, "room_subscriptions")
    if len(lists) > MAX_LISTS or len(rooms) > MAX_SUBSCRIPTIONS:
        raise invalid(f"At most {MAX_LISTS} lists and {MAX_SUBSCRIPTIONS} room subscriptions")
    if any(len(name) > MAX_LIST_NAME for name in lists):
        raise invalid(f"The name of a list has at most {MAX_LIST_NAME} characters")
    position = optional_text(body, "pos", limit=255)
    waits = integer(body, "timeout") if body.get("timeout") is not None else None
    return SlidingRequest(
        position=position if position is not None else request.query_one("pos"),
        wait_ms=min(waits, MAX_WAIT_MS)
        if waits is not None
        else query_integer(request, "timeout", default=0, maximum=MAX_WAIT_MS),
        connection=optional_text(body, "conn_id", limit=MAX_CONNECTION_ID) or "",
        lists={name: _list(optional_object(lists, name)) for name in lists},
        subscriptions={room_id: parse_wish(optional_object(rooms, room_id)) for room_id in rooms},
        extensions=optional_object(body, "extensions"),
        transaction_id=optional_text(body, "txn_id", limit=255),
    )


def _list(body: JsonObject) -> RoomList:
    ranges = body.get("ranges", [])
    if not isinstance(ranges, list) or len(ranges) > MAX_RANGES:
        raise bad_json(f"ranges must be a list of at most {MAX_RANGES}")
    if body.get("range") is not None:
        ranges = [*ranges, body["range"]]
    elif "ranges" not in body:
        ranges = [list(EVERY_ROOM)]  # "if this field is missing, the room list is not limited by range"
    return RoomList(
        ranges=tuple(_range(each) for each in ranges),
        wish=parse_wish(body),
        filters=_filters(optional_object(body, "filters")),
    )


def _range(value: Any) -> tuple[int, int]:
    match value:
        case [int(first), int(last)] if first >= 0 and last >= 0 and not {type(first), type(last)} & {bool}:
            return first, last
    raise bad_json("A range is a start and an end, whole numbers")


def _filters(body: JsonObject) -> Filters:
    def flag(name: str) -> bool | None:
        return boolean(body, name) if body.get(name) is not None else None

    return Filters(
        is_dm=flag("is_dm"),
        is_invite=flag("is_invite") if body.get("is_invite") is not None else flag("is_invited"),
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
