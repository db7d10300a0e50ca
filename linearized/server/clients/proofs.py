"""Checkpoints and proofs for clients that verify what they read.

Of a room that another server orders, the hub's answers are passed on: the client checks them itself.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from linearized.server import proofs
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.views import View
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import Role

_PASSED_ON: Final = ("event_id", "from", "seq", "size", "to")


async def checkpoint(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/checkpoint?size=``: the hub's signed checkpoint."""
    view = _view(context, request, caller)
    if view.room.role is not Role.HUB:
        return await _from_hub(context, request, view, "checkpoint")
    size = proofs.number("size", request.query_one("size"))
    return json_response(await proofs.checkpoint(context.node, view.room, size=size, until=view.head))


async def consistency(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/proof/consistency?from=&to=``."""
    view = _view(context, request, caller)
    if view.room.role is not Role.HUB:
        return await _from_hub(context, request, view, "proof/consistency")
    sizes = [proofs.number(name, request.query_one(name)) for name in ("from", "to")]
    if sizes[0] is None or sizes[1] is None:
        raise HttpError(400, "M_MISSING_PARAM", "The query parameters from and to are required")
    answer = await proofs.consistency(context.node, view.room, old=sizes[0], new=sizes[1], until=view.head)
    return json_response(answer)


async def inclusion(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/proof/inclusion?event_id=&seq=&size=``."""
    view = _view(context, request, caller)
    if view.room.role is not Role.HUB:
        return await _from_hub(context, request, view, "proof/inclusion")
    query = request.query_one
    seq, size = proofs.number("seq", query("seq")), proofs.number("size", query("size"))
    entry = proofs.find_entry(context.node, view.room, event_id=query("event_id"), seq=seq)
    if entry is None or not view.sees(entry.seq):
        raise HttpError(404, "M_NOT_FOUND", "There is no such event")
    answer = await proofs.inclusion(
        context.node, view.room, entry, size=view.head if size is None else size, until=view.head
    )
    return json_response(answer)


def _view(context: Context, request: Request, caller: Caller) -> View:
    return context.views.require(request.params["room_id"], caller.user_id, joined=True)


async def _from_hub(context: Context, request: Request, view: View, what: str) -> Response:
    if view.room.role is not Role.PARTICIPANT:
        # A MIMI hub sends no events, so there is nothing a proof could be about.
        raise HttpError(404, "M_NOT_FOUND", "The hub of this room signs no checkpoints")
    query = urlencode({name: request.query[name][0] for name in _PASSED_ON if name in request.query})
    path = f"/_linearized/v1/rooms/{quote(view.room.room_id, safe='')}/{what}?{query}"
    return json_response(await context.node.federation.request(view.room.hub, "GET", path))
