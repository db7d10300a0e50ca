"""Hub transfers between servers: the whole log for the one that takes over, and what it is asked for."""

from __future__ import annotations

from functools import partial
from typing import Final

from linearized.protocol.identifiers import is_event_id, is_room_id
from linearized.protocol.versions import get_version
from linearized.server import proofs
from linearized.server.buckets import Buckets
from linearized.server.federation.calls import Call, is_admitted, not_found, signed
from linearized.server.federation.pages import fitting
from linearized.server.federation.visibility import PUBLIC
from linearized.server.handing_over import ROUTES
from linearized.server.histories import visibility_changes
from linearized.server.http import HttpError, Response, Route, json_response
from linearized.server.moves import takers
from linearized.server.node import Node
from linearized.server.told_fetchers import PULL_FOLLOWERS
from linearized.store.base import Role, RoomRow

ROOM: Final = "/_linearized/v1/rooms/{room_id}"
DEFAULT_PAGE: Final = 200
MAX_PAGE: Final = 500


def routes(node: Node, limit: Buckets) -> list[Route]:
    """The three endpoints."""
    return [
        Route("GET", f"{ROOM}/log", signed(node, partial(log, limit))),
        Route("POST", f"{ROOM}/transfer/prepare", signed(node, prepare, limit)),
        Route("POST", f"{ROOM}/transfer/accept", signed(node, accept, limit)),
    ]


async def log(limit: Buckets, call: Call) -> Response:
    """``GET /log?after=&limit=``: entries as stored, each with the epoch after it.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for everybody but the server that takes the room over, and those that
            keep a whole copy for the day we are gone; for these 429 ``M_LIMIT_EXCEEDED`` if they hurry.
    """
    row = _room(call)
    # Reading a long log takes many requests; whom we hand the room over to may make them all at once.
    if not call.node.moves.may_copy(row, call.origin):
        limit.take(call.origin)
        if not may_keep(call.node, row, call.origin):
            raise not_found()
    after = proofs.number("after", call.query("after")) or 0
    wanted = proofs.number("limit", call.request.query_one("limit")) or DEFAULT_PAGE
    entries = fitting(call.node.store.entries(row.room_id, after=after, limit=min(wanted, MAX_PAGE)))
    epochs = ",".join("null" if entry.epoch is None else str(entry.epoch) for entry in entries)
    pdus = b",".join(entry.pdu for entry in entries)
    return Response(body=b'{"epochs":[' + epochs.encode() + b'],"pdus":[' + pdus + b"]}")


def may_keep(node: Node, row: RoomRow, server: str) -> bool:
    """Whether a server may have a room's whole log before anything happens to us: one of its users may take
    the room over, and its users may read all of it. Power is no reason to see what the room's history
    hides.
    """
    if row.role is not Role.HUB or not get_version(row.version).hub_transfers:
        return False
    state = node.rooms.state(row.room_id)
    if takers(state, server, get_version(row.version)) == [] or not is_admitted(node, row, server):
        return False
    visibility = visibility_changes(node.store, row.room_id, row.head_seq)
    return all(value in PUBLIC for _, value in visibility)


async def prepare(call: Call) -> Response:
    """``POST /transfer/prepare``: copy the log for a while; answers how much of it is there."""
    row = _of_hub(call)
    return json_response({"staged": await call.node.moves.prepare(row, call.origin)})


async def accept(call: Call) -> Response:
    """``POST /transfer/accept``: copy the rest, and sign the transfer that follows it."""
    row = _of_hub(call)
    after, size = call.body.get("after"), call.body.get("size")
    if not isinstance(after, str) or not is_event_id(after):
        raise HttpError(400, "M_BAD_JSON", "after must be an event ID")
    if type(size) is not int or size < 1:
        raise HttpError(400, "M_BAD_JSON", "size must be a number of entries")
    routes, told = call.body.get(ROUTES, {}), call.body.get(PULL_FOLLOWERS, [])
    lpdu = await call.node.moves.accept(row, call.origin, after=after, size=size, routes=routes, told=told)
    return json_response({"lpdu": lpdu})


def _room(call: Call) -> RoomRow:
    room_id = call.param("room_id")
    row = call.node.rooms.row(room_id) if is_room_id(room_id) else None
    if row is None:
        raise not_found()
    return row


def _of_hub(call: Call) -> RoomRow:
    """A room that we take part in and the caller orders."""
    row = _room(call)
    if row.role is not Role.PARTICIPANT or row.hub != call.origin or not row.head_seq:
        raise not_found()
    return row
