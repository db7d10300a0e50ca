"""``POST rooms/{roomId}/forget``."""

from __future__ import annotations

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.http import HttpError, Request, Response, json_response


async def forget(context: Context, request: Request, caller: Caller) -> Response:
    """Stop remembering a room one has left: "the user will no longer be able to retrieve history for it". An
    invitation or a join later is a new beginning.
    """
    room_id = request.params["room_id"]
    await request.json()
    row = next((row for row in context.node.store.rooms_of(caller.user_id) if row.room_id == room_id), None)
    if row is None:
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
    if row.membership not in {"leave", "ban"}:
        raise HttpError(400, "M_UNKNOWN", f"Leave the room first: your membership is {row.membership}")
    await context.node.store.put_forgotten(caller.user_id, room_id, row.seq)
    return json_response({})
