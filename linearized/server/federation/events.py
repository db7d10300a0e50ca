"""Events and state for servers that are in a room (draft, Event and State APIs).

Events go out as the bytes we stored; only a redacted one is encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
import trio

from linearized.server.federation.calls import Call, hub_room, is_admitted, not_found
from linearized.server.federation.visibility import projected, visible_until
from linearized.server.http import HttpError, Response, json_response
from linearized.server.node import Node
from linearized.store.base import EntryRow, Role, RoomRow

_LIMIT_DIGITS = 9  # of a limit in a query; more events than any room has
_BREATH = 200  # events read between two checkpoints, so that a large room does not hold up everybody else


async def event(call: Call) -> Response:
    """``GET /event/{eventId}``.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` also for an event the caller "has no reason to know that … even
            exists".
    """
    entry = call.node.store.entry_by_id(call.param("event_id"))
    row = call.node.rooms.row(entry.room_id) if entry is not None else None
    if entry is None or row is None or not is_admitted(call.node, row, call.origin):
        raise not_found()
    if not _visible(call, row, entry):
        raise not_found()
    if row.role is Role.FOLLOWER:  # what a MIMI hub sent us has no PDUs
        raise not_found()
    # "When the server can see an event but not the contents, the event is served redacted instead."
    return Response(body=projected(call.node, row, call.origin, [entry])[0])


async def state(call: Call) -> Response:
    """``GET /state/{roomId}?event_id=``: the state before an event, and its auth chain."""
    before = _state_before(call)
    chain = await auth_chain(call.node, before)
    return Response(body=b'{"auth_chain":' + join_pdus(chain) + b',"pdus":' + join_pdus(before) + b"}")


async def state_ids(call: Call) -> Response:
    """``GET /state_ids/{roomId}?event_id=``: as ``state``, the IDs alone."""
    before = _state_before(call)
    chain = await auth_chain(call.node, before)
    return json_response(
        {
            "auth_chain_ids": [entry.event_id for entry in chain],
            "pdu_ids": [entry.event_id for entry in before],
        }
    )


async def backfill(call: Call) -> Response:
    """``GET /backfill/{roomId}?v=&limit=``: an event and those before it, oldest first."""
    row = hub_room(call, call.param("room_id"))
    last = _entry(call, row, call.query("v"))
    limit = min(_positive(call.query("limit")), call.node.config.limits.max_backfill)
    # "The number of returned pdus MUST NOT exceed the limit provided by the caller. … pdus contains the
    # events preceeding the requested event ID (v), including v. pdus is ordered from oldest to newest."
    entries = call.node.store.entries_before(row.room_id, before=last.seq + 1, limit=limit)
    served = projected(call.node, row, call.origin, entries[::-1])
    return Response(body=b'{"pdus":[' + b",".join(served) + b"]}")


def join_pdus(entries: Iterable[EntryRow]) -> bytes:
    """A JSON array of stored events."""
    return b"[" + b",".join(entry.pdu for entry in entries) + b"]"


async def auth_chain(node: Node, entries: Sequence[EntryRow]) -> list[EntryRow]:
    """The auth events of ``entries``, theirs, and so on to the create event; in log order, each once."""
    found: dict[str, EntryRow] = {}
    waiting = _auth_events(entries)
    while waiting:
        event_id = waiting.pop()
        if event_id in found:
            continue
        entry = node.store.entry_by_id(event_id)
        if entry is not None:
            found[event_id] = entry
            waiting |= _auth_events([entry]) - found.keys()
        if len(found) % _BREATH == 0:
            await trio.lowlevel.checkpoint()
    return sorted(found.values(), key=lambda entry: entry.seq)


def _auth_events(entries: Iterable[EntryRow]) -> set[str]:
    return {event_id for entry in entries for event_id in orjson.loads(entry.pdu)["auth_events"]}


def _state_before(call: Call) -> list[EntryRow]:
    row = hub_room(call, call.param("room_id"))
    entry = _entry(call, row, call.query("event_id"))
    # "prior to considering state changes induced by the event in the original request"
    return call.node.store.state_at(row.room_id, seq=entry.seq - 1)


def _entry(call: Call, row: RoomRow, event_id: str) -> EntryRow:
    """An event of a room.

    "If the requesting server does not have reasonable visibility on the room, or either the room ID or event
    ID don't exist, a 404 Not Found … is returned. The same error is returned if the event ID doesn't exist in
    the requested room ID."
    """
    entry = call.node.store.entry_by_id(event_id)
    if entry is None or entry.room_id != row.room_id or not _visible(call, row, entry):
        raise not_found()
    return entry


def _visible(call: Call, row: RoomRow, entry: EntryRow) -> bool:
    until = visible_until(call.node, row, call.origin)
    return until is not None and entry.seq <= until


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _LIMIT_DIGITS or int(text) == 0:
        raise HttpError(400, "M_INVALID_PARAM", "limit is a whole number of at least 1")
    return int(text)
