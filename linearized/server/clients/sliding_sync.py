"""``POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync``: simplified sliding sync (MSC4186).

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
from linearized.server.clients.fields import query_integer
from linearized.server.clients.sliding_connections import RoomTold, Told
from linearized.server.clients.sliding_extensions import joined_rooms, read_extensions, to_device_since
from linearized.server.clients.sliding_filters import chosen, direct_rooms
from linearized.server.clients.sliding_requests import RoomWish, SlidingRequest, parse_request
from linearized.server.clients.sliding_rooms import Candidate, candidates, room_answer
from linearized.server.clients.sync import MAX_WAIT_MS
from linearized.server.http import HttpError, Request, Response, json_response

# Rooms in one answer; what is left over comes with the next, which does not wait.
MAX_ROOMS: Final = 100
_POSITION_BYTES: Final = 12
_GONE: Final = frozenset({"leave", "ban"})


async def sync(context: Context, request: Request, caller: Caller) -> Response:
    """Answer at once if there is news or no position is given, else when there is or time is up."""
    device_id, asked = caller.require_device(), parse_request(await request.json())
    position, connections = request.query_one("pos"), context.sliding
    if position is None:
        connections.restart(caller.scope, asked.connection)
        told = Told()
    else:
        known = connections.told(caller.scope, asked.connection, position)
        if known is None:
            raise HttpError(400, "M_UNKNOWN_POS", "This position is not known any more: begin without one")
        told = known
    wait_ms = query_integer(request, "timeout", default=0, maximum=MAX_WAIT_MS)
    deadline = trio.current_time() + wait_ms / 1000
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
    found = candidates(store, caller.user_id, frozenset(told.rooms))
    direct = direct_rooms(store, caller.user_id)
    wishes, counts = _wanted(context, caller, asked, found, direct)
    rooms: JsonObject = {}
    unread = context.notifications.of(caller.user_id)
    known: dict[str, RoomTold] = dict(told.rooms)
    for candidate in found:
        room_id = candidate.row.room_id
        before = known.get(room_id)
        if candidate.row.membership in _GONE and before is not None and before.membership not in _GONE:
            wish = before.wish  # that one has left is told whatever one asks for
        elif room_id in wishes:
            wish = wishes[room_id]
        else:
            continue
        value, after = room_answer(context, caller, candidate, wish, before=before, unread=unread)
        if value is not None and len(rooms) >= MAX_ROOMS:
            break
        known[room_id] = after
        if value is not None:
            rooms[room_id] = value | ({"is_dm": True} if room_id in direct else {})
    extensions, told_beside, news = read_extensions(context, caller, asked, told)
    answer: JsonObject = {
        "lists": {name: {"count": count} for name, count in counts.items()},
        "rooms": rooms,
        "extensions": extensions,
    }
    if asked.transaction_id is not None:
        answer["txn_id"] = asked.transaction_id
    news = news or bool(rooms) or counts != dict(told.lists)
    return answer, replace(told_beside, rooms=known, lists=counts), news


def _wanted(
    context: Context,
    caller: Caller,
    asked: SlidingRequest,
    found: list[Candidate],
    direct: frozenset[str],
) -> tuple[dict[str, RoomWish], dict[str, int]]:
    """What is wanted of which rooms, and how many rooms each list has. Of rooms that are none of the user's
    nothing is told, as of those that are not there.
    """
    present = [candidate for candidate in found if candidate.row.membership not in _GONE]
    wishes: dict[str, RoomWish] = {}
    counts: dict[str, int] = {}
    for name, wanted in asked.lists.items():
        held = chosen(context, caller, present, wanted.filters, direct)
        counts[name] = len(held)
        for first, last in wanted.ranges:
            for each in held[first : last + 1]:
                _add(wishes, each.row.room_id, wanted.wish)
    mine = {each.row.room_id for each in present}
    for room_id, wish in asked.subscriptions.items():
        if room_id in mine:
            _add(wishes, room_id, wish)
    return wishes, counts


def _add(wishes: dict[str, RoomWish], room_id: str, wish: RoomWish) -> None:
    wishes[room_id] = wishes[room_id].joined(wish) if room_id in wishes else wish
