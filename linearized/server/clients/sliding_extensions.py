"""The extensions of sliding sync: what a device is told beside rooms (MSC4186, Extensions)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.account_data import as_events, by_room
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.ephemeral import read_receipts, read_typing
from linearized.server.clients.fields import integer, invalid, optional_text
from linearized.server.clients.keys import key_counts, unused_fallback_types
from linearized.server.clients.sliding_connections import Told
from linearized.server.clients.sliding_requests import SlidingRequest
from linearized.server.clients.sliding_rooms import newly_met
from linearized.server.device_lists import changed_since, sharing_no_room
from linearized.store.account_data import GLOBAL

MAX_TO_DEVICE: Final = 50  # as in /sync
MAX_LEFT: Final = 1_000  # users said to share no room any more; each is a question to the store
MAX_MEMBER_ENTRIES: Final = 1_000  # of one room looked through for who came and went
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,17}", re.ASCII)


def to_device_since(asked: SlidingRequest) -> int:
    """How far the device has read its messages.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``: that is no token of this server.
    """
    since = optional_text(asked.extension("to_device") or {}, "since") or "0"
    if not _NUMBER.fullmatch(since):
        raise invalid("to_device.since is not a token of this server")
    return int(since)


def read_extensions(
    context: Context,
    caller: Caller,
    asked: SlidingRequest,
    told: Told,
    listed: Mapping[str, Collection[str]],
) -> tuple[JsonObject, Told, bool]:
    """The part ``extensions`` of an answer, what is told then, and whether any of it is new.

    Args:
        listed: the rooms that the answer is about, each with the lists that it is in.
    """
    answer: JsonObject = {}
    news = False
    for part in (_to_device, _e2ee):
        found, told, fresh = part(context, caller, asked, told)
        answer |= found
        news = news or fresh
    joined = joined_rooms(context, caller)
    for name, of_rooms in (("account_data", _account_data), ("receipts", _receipts), ("typing", _typing)):
        if asked.extension(name) is None:
            continue
        rooms = asked.rooms_for(name, listed)
        if name != "account_data":
            rooms &= joined
        # What is told of a room once, is told of it on; of one that was left out meanwhile, from the
        # beginning.
        arrived = rooms - told.heard_of.get(name, frozenset())
        value, told = of_rooms(context, caller, told, rooms, arrived)
        told = replace(told, heard_of={**told.heard_of, name: rooms})
        answer |= value
        news = news or bool(value)
    return answer, told, news


def _to_device(
    context: Context, caller: Caller, asked: SlidingRequest, told: Told
) -> tuple[JsonObject, Told, bool]:
    settings = asked.extension("to_device")
    if settings is None:
        return {}, told, False
    after = to_device_since(asked)
    limit = min(integer(settings, "limit"), MAX_TO_DEVICE) if "limit" in settings else MAX_TO_DEVICE
    rows = context.node.store.to_device(caller.user_id, caller.require_device(), after=after, limit=limit)
    events = [{"content": orjson.loads(row.content), "sender": row.sender, "type": row.type} for row in rows]
    value = {"next_batch": str(rows[-1].position if rows else after), "events": events}
    return {"to_device": value}, told, bool(rows)


def _e2ee(
    context: Context, caller: Caller, asked: SlidingRequest, told: Told
) -> tuple[JsonObject, Told, bool]:
    if asked.extension("e2ee") is None:
        return {}, told, False
    store, first = context.node.store, told.members is None
    position = store.position()
    users, heard = changed_since(context.node, caller.user_id, after=told.devices, until=None)
    met, parted = (set(), set()) if told.members is None else _came_and_went(context, caller, told.members)
    changed = [] if first else sorted(met.union(users))
    left = sharing_no_room(store, caller.user_id, sorted(parted - met)[:MAX_LEFT])
    value: JsonObject = {
        "device_one_time_keys_count": key_counts(context, caller),
        "device_unused_fallback_key_types": unused_fallback_types(context, caller),
    }
    if changed or left:
        value["device_lists"] = {"changed": changed, "left": left}
    return {"e2ee": value}, replace(told, devices=heard, members=position), bool(changed or left)


def _came_and_went(context: Context, caller: Caller, since: int) -> tuple[set[str], set[str]]:
    """Users that came to share a room with the caller after a position, and who left one."""
    store = context.node.store
    mine = {row.room_id: row for row in store.rooms_of(caller.user_id)}
    met: set[str] = set()
    parted: set[str] = set()
    for room_id, first in store.changed_rooms(since).items():
        if room_id not in mine:
            continue
        changes = dict(newly_met(store, mine[room_id], first, MAX_MEMBER_ENTRIES))
        own = changes.pop(caller.user_id, None)
        if own is not None:
            others = {row.user_id for row in store.memberships(room_id) if row.membership == "join"}
            (met if own == "join" else parted).update(others - {caller.user_id})
        if mine[room_id].membership == "join":
            met |= {user_id for user_id, membership in changes.items() if membership == "join"}
            parted |= {user_id for user_id, membership in changes.items() if membership in {"leave", "ban"}}
    return met, parted


def _account_data(
    context: Context, caller: Caller, told: Told, rooms: frozenset[str], arrived: frozenset[str]
) -> tuple[JsonObject, Told]:
    """ "Global" account data always; of rooms what is new, or all of it."""
    store = context.node.store
    rows = store.account_data(caller.user_id, after=told.account_data)
    by_id = by_room(rows)
    own = by_id.pop(GLOBAL, [])
    found = {room_id: each for room_id, each in by_id.items() if room_id in rooms}
    for room_id in arrived if told.account_data else ():
        if kept := store.account_data_in(caller.user_id, room_id):
            found[room_id] = kept
    if rows:
        told = replace(told, account_data=rows[-1].position)
    if not (own or found):
        return {}, told
    value = {"global": as_events(own), "rooms": {room_id: as_events(each) for room_id, each in found.items()}}
    return {"account_data": value}, told


def _receipts(
    context: Context, caller: Caller, told: Told, rooms: frozenset[str], arrived: frozenset[str]
) -> tuple[JsonObject, Told]:
    found, last = read_receipts(context, caller, rooms=rooms, arrived=arrived, after=told.receipts)
    value = {"receipts": {"rooms": {room_id: _one(events) for room_id, events in found.items()}}}
    return value if found else {}, replace(told, receipts=last)


def _typing(
    context: Context, caller: Caller, told: Told, rooms: frozenset[str], arrived: frozenset[str]
) -> tuple[JsonObject, Told]:
    del caller
    found, last = read_typing(context, rooms, arrived, told.typing)
    return {"typing": {"rooms": found}} if found else {}, replace(told, typing=last)


def joined_rooms(context: Context, caller: Caller) -> frozenset[str]:
    """The rooms that the caller is joined to."""
    rows = context.node.store.rooms_of(caller.user_id)
    return frozenset(row.room_id for row in rows if row.membership == "join")


def _one(events: list[JsonObject]) -> JsonObject:
    """Receipts of a room as one event: there is no place for more. Of two receipts of a user for one event,
    in different threads, the later one is told.
    """
    first, *others = events
    content: JsonObject = first["content"]
    for event in others:
        for event_id, kinds in event["content"].items():
            for name, users in kinds.items():
                content.setdefault(event_id, {}).setdefault(name, {}).update(users)
    return first
