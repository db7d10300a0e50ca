"""``POST rooms/{roomId}/report/{eventId}``: telling an operator about an event."""

from __future__ import annotations

from typing import Final

from linearized.server import abuse
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import binary, optional_text
from linearized.server.http import HttpError, Request, Response, json_response

CONTENT: Final = "dev.linearized.message_content"
"""What the client decrypted, in unpadded base64: with it the hub can check that it was sent."""


async def report(context: Context, request: Request, caller: Caller) -> Response:
    """Report an event the caller can see.

    With the decrypted content of a franked message, the report goes to the hub of the room, which can check
    it; without, it is kept for this server's operator.
    """
    room_id, event_id = request.params["room_id"], request.params["event_id"]
    body = await request.json()
    note = optional_text(body, "reason", limit=abuse.MAX_NOTE) or ""
    content = binary(body, CONTENT) if body.get(CONTENT) is not None else None
    view = context.views.require(room_id, caller.user_id, joined=True)
    entry = context.node.store.entry_by_id(event_id)
    if entry is None or entry.room_id != room_id or not view.shows(entry):
        raise HttpError(404, "M_NOT_FOUND", "There is no such event in this room")
    await abuse.report_event(
        context.node, view.room, entry, user_id=caller.user_id, note=note, content=content
    )
    return json_response({})
