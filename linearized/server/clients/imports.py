"""``POST rooms/{roomId}/import``: a bridge brings in what happened in its room before the room was encrypted
here.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.room.submissions import LocalEvent, Rejected
from linearized.server.clients.auth import Caller
from linearized.server.clients.bridging import MAX_SOURCE_ID
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, integer, objects, optional_text, required_object, text
from linearized.server.http import HttpError, Request, Response, json_response

MAX_EVENTS: Final = 50  # as many PDUs as one federation request carries; the rest goes into the next page


async def import_events(context: Context, request: Request, caller: Caller) -> Response:
    """Append source events in order, each once however often it is sent; say of each what became of it."""
    if caller.bridge is None:
        raise HttpError(403, "M_FORBIDDEN", "Only bridges import history")
    room_id = request.params["room_id"]
    body = await request.json()
    if "events" not in body:
        raise bad_json("events is missing")
    context.views.require(room_id, caller.bridge.bot, joined=True)
    events: list[tuple[str, LocalEvent]] = []
    failed: dict[str, str] = {}
    for item in objects(body, "events", limit=MAX_EVENTS):
        source = text(item, "source_event_id", limit=MAX_SOURCE_ID)
        if not source:
            raise bad_json("source_event_id is empty")
        event = _event(item, source)
        problem = _foreign(context.node.identity.name, event.sender)
        if problem is None:
            events.append((source, event))
        else:
            failed[source] = problem
    async with context.in_flight.alone(f"import\x1f{room_id}"):
        results = await context.node.rooms.import_events(room_id, events)
    event_ids: dict[str, str] = {}
    for source, result in results.items():
        if isinstance(result, Rejected):
            failed[source] = str(result)
        else:
            event_ids[source] = result
    return json_response({"event_ids": event_ids, "failed": failed})


def _event(item: JsonObject, source: str) -> LocalEvent:
    sender = text(item, "sender")
    return LocalEvent(
        sender=sender,
        type=text(item, "type"),
        content=required_object(item, "content"),
        state_key=optional_text(item, "state_key"),
        origin_server_ts=integer(item, "origin_server_ts"),
        provenance={
            "protocol": "matrix",
            "provider": sender.partition(":")[2],
            "event_id": source,
            "imported": True,
        },
    )


def _foreign(own: str, sender: str) -> str | None:
    """Why a bridge may not import events of a sender, or None.

    A room's past may hold users of every homeserver it was ever federated with; the hub asserts that past as
    a whole (docs/decisions/0002). Its own users it can ask itself.
    """
    try:
        domain = user_domain(sender)
    except IdentifierError as error:
        return str(error)
    return f"Users of {own} have no history to import" if domain == own else None
