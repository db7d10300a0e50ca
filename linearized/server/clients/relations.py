"""Events that belong to another: edits, answers in threads, reactions, references (Client-Server API,
Forwarding and relating events). Of an encrypted message only what stands beside the ciphertext is known here.
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.protocol.visibility import END
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.history import MAX_PAGE_BYTES, place_of, visible_event
from linearized.server.clients.projection import client_events
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import View, fitting
from linearized.server.http import Request, Response, json_response
from linearized.server.redactions import redactions_of
from linearized.store.base import EntryRow, Store
from linearized.store.relations import relation_of

DEFAULT_LIMIT: Final = 5  # what homeservers commonly take
MAX_LIMIT: Final = 100  # some screens
MAX_DEPTH: Final = 3  # "It is recommended that at least 3 levels of relationships are traversed"
# Events looked at for one page of such relations, the latest of each level.
MAX_DESCENDANTS: Final = 1000


async def relations(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]``. A page may hold fewer events than
    asked for, even none, and still have a ``next_batch``: how many are looked at is bounded.
    """
    room_id, store = request.params["room_id"], context.node.store
    view = context.views.require(room_id, caller.user_id)
    direction = request.query_one("dir", "b")
    if direction not in {"b", "f"}:
        raise invalid("dir must be b or f")
    limit = max(1, query_integer(request, "limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT))
    parent = visible_event(context, request, view)
    backwards = direction == "b"
    start = place_of(context, request, "from", room_id, view.head if backwards else 0)
    stop = place_of(context, request, "to", room_id, 0 if backwards else END - 1)
    low, high = (stop, min(start, view.head)) if backwards else (start, min(stop, view.head))
    recurse = request.query_one("recurse") == "true"
    if recurse:
        found = [row for row in descendants(store, view, parent) if low < row.seq <= high]
        rows = sorted(found, key=lambda row: row.seq, reverse=backwards)[: limit + 1]
    else:
        rows = store.related(
            room_id, parent.event_id, after=low, before=high + 1, newest_first=backwards, limit=limit + 1
        )
    page = fitting(rows[:limit], MAX_PAGE_BYTES)
    kind, event_type = request.params.get("rel_type"), request.params.get("event_type")
    redacted = redactions_of(store, page)
    chosen = [
        row
        for row in page
        if view.shows(row)
        and row.event_id not in redacted
        and (kind is None or (relation_of(row.pdu) or ("", ""))[1] == kind)
        and (event_type is None or row.type == event_type)
    ]
    answer: JsonObject = {"chunk": client_events(context, caller, chosen)}
    if len(rows) > len(page):
        answer["next_batch"] = place_token(page[-1].seq - 1 if backwards else page[-1].seq)
    if recurse:
        answer["recursion_depth"] = MAX_DEPTH
    if request.query_one("from"):
        answer["prev_batch"] = place_token(start)
    return json_response(answer)


def descendants(store: Store, view: View, parent: EntryRow) -> list[EntryRow]:
    """What relates to an event, and to that, and so on. What is redacted, or the user may not see, leads no
    further.
    """
    found: dict[str, EntryRow] = {parent.event_id: parent}
    level = [parent.event_id]
    for _ in range(MAX_DEPTH):
        left = MAX_DESCENDANTS - len(found)
        rows = store.related_to_any(view.room.room_id, level, before=view.head + 1, limit=left)
        new = [row for row in rows if row.event_id not in found and view.shows(row)]
        redacted = redactions_of(store, new)
        level = [row.event_id for row in new if row.event_id not in redacted]
        found |= {row.event_id: row for row in new}
        if not level:
            break
    return list(found.values())[1:]


async def threads(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/threads``: the events that threads start with, the latest answered first."""
    room_id, store = request.params["room_id"], context.node.store
    view = context.views.require(room_id, caller.user_id)
    include = request.query_one("include", "all")
    if include not in {"all", "participated"}:
        raise invalid("include must be all or participated")
    limit = max(1, query_integer(request, "limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT))
    start = place_of(context, request, "from", room_id, view.head)
    found = store.threads(room_id, before=start + 1, last=view.head, limit=limit + 1)
    roots = [store.entry_by_id(event_id) for event_id, _ in found[:limit]]
    visible = [root for root in roots if root is not None and root.room_id == room_id and view.shows(root)]
    events = client_events(context, caller, visible)
    if include == "participated":
        events = [event for event in events if _participated(event)]
    answer: JsonObject = {"chunk": events}
    if len(found) > limit:
        answer["next_batch"] = place_token(found[limit - 1][1] - 1)
    return json_response(answer)


def _participated(event: JsonObject) -> bool:
    thread = event["unsigned"].get("m.relations", {}).get("m.thread", {})
    return thread.get("current_user_participated") is True
