"""Joining codes of the rooms that this server orders: made, listed and revoked by those who may."""

from __future__ import annotations

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import integer
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.join_codes import code_id


async def create(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/join_codes``: a new code. It is told this once."""
    body = await request.json()
    _require_member(context, request, caller)
    code, expires_ts = await context.node.join_codes.create(
        request.params["room_id"],
        creator=caller.user_id,
        uses=integer(body, "uses", minimum=1),
        lifetime_ms=integer(body, "lifetime_ms", minimum=1),
    )
    return json_response({"code": code, "expires_ts": expires_ts})


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/join_codes``: every code by its ID, from which the code cannot be told."""
    _require_member(context, request, caller)
    rows = context.node.join_codes.listing(request.params["room_id"], user_id=caller.user_id)
    return json_response(
        {
            "codes": [
                {
                    "id": code_id(row),
                    "creator": row.creator,
                    "uses_left": row.uses_left,
                    "expires_ts": row.expires_ts,
                }
                for row in rows
            ]
        }
    )


async def revoke(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE rooms/{roomId}/join_codes/{codeId}``: nobody gets in by the code any more."""
    _require_member(context, request, caller)
    removed = await context.node.join_codes.revoke(
        request.params["room_id"], user_id=caller.user_id, code_id=request.params["code_id"]
    )
    if not removed:
        raise HttpError(404, "M_NOT_FOUND", "There is no such joining code")
    return json_response({})


def _require_member(context: Context, request: Request, caller: Caller) -> None:
    """Nobody else is told even that this server does not order the room."""
    context.views.require(request.params["room_id"], caller.user_id, joined=True)
