"""``PUT rooms/{roomId}/typing/{userId}``."""

from __future__ import annotations

from typing import Final

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import boolean, integer
from linearized.server.http import HttpError, Request, Response, json_response

# What a client that names no time gets, and the most any gets: a client repeats itself while its user types.
DEFAULT_MS: Final = 30_000
MAX_MS: Final = 120_000


async def typing(context: Context, request: Request, caller: Caller) -> Response:
    """Tell this server's members of the room that the caller types, or does not any more."""
    room_id = request.params["room_id"]
    if request.params["user_id"] != caller.user_id:
        raise HttpError(403, "M_FORBIDDEN", "You type for yourself alone")
    body = await request.json()
    types = boolean(body, "typing")
    timeout = integer(body, "timeout") if "timeout" in body else DEFAULT_MS
    context.views.require(room_id, caller.user_id, joined=True)
    if types:
        changed = context.typists.start(room_id, caller.user_id, min(timeout, MAX_MS) / 1000)
    else:
        changed = context.typists.stop(room_id, caller.user_id)
    if changed:
        wake(context, room_id)
    return json_response({})


def wake(context: Context, room_id: str) -> None:
    """End the waits of who is joined to a room."""
    members = context.node.store.memberships(room_id)
    context.node.notifier.users_changed(row.user_id for row in members if row.membership == "join")
