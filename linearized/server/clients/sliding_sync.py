"""``POST /_matrix/client/v4/sync``: simplified sliding sync (MSC4186); also at the path of its experiments,
``unstable/org.matrix.simplified_msc3575/sync``, and in the shape that clients know from them.

A client asks for windows of its rooms, the most recently active first, and is told of each room once what it
wants of it, and then what changed. Everything told up to a position is remembered with it
(``sliding_connections``), so that asking again with a position gives what followed it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Final

import trio

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller, authenticate
from linearized.server.clients.context import Context
from linearized.server.clients.sliding_connections import RoomTold, Told
from linearized.server.clients.sliding_extensions import joined_rooms, read_extensions, to_device_since
from linearized.server.clients.sliding_filters import direct_rooms
from linearized.server.clients.sliding_lists import rooms_of, wanted_rooms
from linearized.server.clients.sliding_requests import SlidingRequest, parse_request
from linearized.server.clients.sliding_rooms import Asked, room_answer
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.activity import ActiveRoom

# Rooms in one answer; what is left over comes with the next, which does not wait.
MAX_ROOMS: Final = 100
_POSITION_BYTES: Final = 12


async def sync(context: Context, request: Request, caller: Caller) -> Response:
    """Answer at once if there is news or no position is given, else when there is or time is up."""
    device_id, asked = caller.require_device(), parse_request(await request.json(), request)
    position, connections = asked.position, context.sliding
    if position is None:
        connections.restart(caller.scope, asked.connection)
        told = Told()
    else:
        known = connections.told(caller.scope, asked.connection, position)
        if known is None:
            raise HttpError(400, "M_UNKNOWN_POS", "This position is not known any more: begin without one")
        told = known
    deadline = trio.current_time() + asked.wait_ms / 1000
    read = to_device_since(asked)
    if read:
        await context.node.store.delete_to_device(caller.user_id, device_id, read)
    while True:
        # Taken before reading: a change between the read and the wait sets this very ticket.
        ticket = context.node.notifier.ticket(caller.user_id)
        answer, after, news = _answer(context, caller, asked, told)
        remaining = deadline - trio.current_time()
        if news or position is None or remaining <= 0:
            timelines = (room.get("timeline", ()) for room in answer["rooms"].values())
            await context.echoes.answered(caller.scope, chain.from_iterable(timelines))
            answer["pos"] = context.node.ids(_POSITION_BYTES)
            connections.keep(caller.scope, asked.connection, answer["pos"], after)
            return json_response(answer)
        typing_ends = context.typists.seconds_to_next_end(joined_rooms(context, caller))
        await context.node.notifier.wait(ticket, min(remaining, typing_ends))
        authenticate(context, request)  # a device that was logged out meanwhile hears nothing more


def _answer(
    context: Context, caller: Caller, asked: SlidingRequest, told: Told
) -> tuple[JsonObject, Told, bool]:
    """The answer but for its position, what is told then, and whether it tells anything."""
    store = context.node.store
    position = store.position()
    found, direct = rooms_of(context, caller, told.rooms), direct_rooms(store, caller.user_id)
    wanted = wanted_rooms(context, caller, asked, found, told=told.rooms, direct=direct)
    # What happened since the connection's last answer: its first entry, by room.
    fresh = store.changed_rooms(told.position) if told.position is not None else {}
    unread = context.notifications.of(caller.user_id)
    rooms: JsonObject = {}
    known: dict[str, RoomTold] = dict(told.rooms)
    for active in found:
        room_id = active.row.room_id
        if room_id not in wanted.wishes:
            continue
        details = Asked(
            wish=wanted.wishes[room_id],
            before=known.get(room_id),
            live_after=_before_first(fresh, active),
            direct=room_id in direct,
            unread=unread,
        )
        value, after = room_answer(context, caller, active, details)
        if value is not None and len(rooms) >= MAX_ROOMS:
            break
        known[room_id] = after
        if value is not None:
            names = wanted.lists.get(room_id)
            rooms[room_id] = value | ({"lists": names} if names else {})
    extensions, told_beside, news = read_extensions(context, caller, asked, told, wanted.lists)
    answer: JsonObject = {
        "lists": {name: {"count": count} for name, count in wanted.counts.items()},
        "rooms": rooms,
        "extensions": extensions,
    }
    if asked.transaction_id is not None:
        answer["txn_id"] = asked.transaction_id
    news = news or bool(rooms) or wanted.counts != dict(told.lists)
    return answer, replace(told_beside, rooms=known, lists=wanted.counts, position=position), news


def _before_first(fresh: dict[str, int], active: ActiveRoom) -> int:
    """The last entry of a room before those that are new since the connection's last answer."""
    return fresh.get(active.row.room_id, active.room.head_seq + 1) - 1
