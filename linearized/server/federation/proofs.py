"""Checkpoints and proofs for other servers: of rooms they may see, up to where they may see them."""

from __future__ import annotations

from typing import Final

from linearized.protocol.identifiers import is_room_id
from linearized.server import proofs
from linearized.server.buckets import Buckets
from linearized.server.federation.calls import Call, not_found, require_admitted, signed
from linearized.server.federation.visibility import visible_until
from linearized.server.http import Response, Route, json_response
from linearized.server.node import Node
from linearized.store.base import RoomRow

ROOM: Final = "/_linearized/v1/rooms/{room_id}"


def routes(node: Node, limit: Buckets) -> list[Route]:
    """The three endpoints."""
    return [
        Route("GET", f"{ROOM}/checkpoint", signed(node, checkpoint, limit)),
        Route("GET", f"{ROOM}/proof/consistency", signed(node, consistency, limit)),
        Route("GET", f"{ROOM}/proof/inclusion", signed(node, inclusion, limit)),
    ]


async def checkpoint(call: Call) -> Response:
    """``GET /checkpoint?size=``: the hub's signed checkpoint."""
    row, until = _visible(call)
    size = proofs.number("size", call.request.query_one("size"))
    return json_response(await proofs.checkpoint(call.node, row, size=size, until=until))


async def consistency(call: Call) -> Response:
    """``GET /proof/consistency?from=&to=``."""
    row, until = _visible(call)
    old, new = (proofs.number(name, call.query(name)) or 0 for name in ("from", "to"))
    return json_response(await proofs.consistency(call.node, row, old=old, new=new, until=until))


async def inclusion(call: Call) -> Response:
    """``GET /proof/inclusion?event_id=&seq=&size=``: one of the first two, ``size`` defaults to the head."""
    row, until = _visible(call)
    query = call.request.query_one
    seq, size = proofs.number("seq", query("seq")), proofs.number("size", query("size"))
    entry = proofs.find_entry(call.node, row, event_id=query("event_id"), seq=seq)
    if entry is None or entry.seq > until:
        raise not_found()
    answer = await proofs.inclusion(call.node, row, entry, size=until if size is None else size, until=until)
    return json_response(answer)


def _visible(call: Call) -> tuple[RoomRow, int]:
    """The room, and the last entry of it that the caller may know of.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``, also for a room that the caller may know nothing of.
    """
    room_id = call.param("room_id")
    row = call.node.rooms.row(room_id) if is_room_id(room_id) else None
    until = visible_until(call.node, row, call.origin) if row is not None else None
    if row is None or until is None:
        raise not_found()
    require_admitted(call.node, row, call.origin)
    return row, until
