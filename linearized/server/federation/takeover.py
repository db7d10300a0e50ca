"""Takeovers between servers: the end of a log for those who lack it, and the question whether we follow."""

from __future__ import annotations

from typing import Final

from linearized.protocol.identifiers import is_event_id, is_room_id
from linearized.protocol.versions import get_version
from linearized.server.buckets import Buckets
from linearized.server.federation.calls import Call, not_found, require_admitted, signed
from linearized.server.federation.pages import fitting
from linearized.server.federation.visibility import projected, visible_until
from linearized.server.http import Response, Route, json_response
from linearized.server.invited import has_copy
from linearized.server.node import Node
from linearized.store.base import Role, RoomRow

ROOM: Final = "/_linearized/v1/rooms/{room_id}"
# Entries of one page of a log's end; a hub that closes a gap gives half as many.
MAX_TAIL_PAGE: Final = 200


def routes(node: Node, limit: Buckets) -> list[Route]:
    """The two endpoints."""
    return [
        Route("GET", f"{ROOM}/tail", signed(node, tail, limit)),
        Route("POST", f"{ROOM}/takeover", signed(node, takeover, limit)),
    ]


async def tail(call: Call) -> Response:
    """``GET /tail?after=``: the entries that follow an event in our log, as the caller may see them.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` if we do not have that event, or the caller may not know of it.
    """
    row = _room(call)
    after = call.query("after")
    entry = call.node.store.entry_by_id(after) if is_event_id(after) else None
    until = visible_until(call.node, row, call.origin)
    if entry is None or entry.room_id != row.room_id or until is None or entry.seq > until:
        raise not_found()
    found = call.node.store.entries(row.room_id, after=entry.seq, limit=min(MAX_TAIL_PAGE, until - entry.seq))
    served = projected(call.node, row, call.origin, fitting(found))
    return Response(body=b'{"pdus":[' + b",".join(served) + b"]}")


async def takeover(call: Call) -> Response:
    """``POST /takeover``: whether we follow the caller in taking a room over; an empty object if we do.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for a room that we do not take part in, or the caller does not.
        Rejected: we do not follow.
    """
    row = _room(call)
    if row.role is not Role.PARTICIPANT:
        raise not_found()
    await call.node.takeovers.agree(row, call.origin, call.body)
    return json_response({})


def _room(call: Call) -> RoomRow:
    """A room that can be taken over, and that the caller takes part in."""
    room_id = call.param("room_id")
    row = call.node.rooms.row(room_id) if is_room_id(room_id) else None
    if row is None or not has_copy(row) or not get_version(row.version).hub_transfers:
        raise not_found()
    if not call.node.rooms.is_participant(room_id, call.origin):
        raise not_found()
    require_admitted(call.node, row, call.origin)
    return row
