"""``GET rooms/{roomId}/hierarchy``: a space and what is in it (Client-Server API, Spaces), as far as this
server has the rooms and the caller may know of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.faces import face_of
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.redactions import told_content
from linearized.store.base import EntryRow

CHILD: Final = "m.space.child"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100
MAX_DEPTH: Final = 10
# Rooms of one hierarchy, told or not: each takes some look-ups, and every page walks them from the start.
MAX_ROOMS: Final = 500
_PLACE: Final = re.compile("h(0|[1-9][0-9]{0,5})", re.ASCII)
# "order … consist of ASCII characters in the range \x20 (space) to \x7E (~), inclusive … not exceed 50".
_ORDER: Final = re.compile(r"[\x20-\x7e]{1,50}", re.ASCII)


async def hierarchy(context: Context, request: Request, caller: Caller) -> Response:
    """The rooms depth first, each once, in pages; a page's end is how many rooms were told before it."""
    limit = max(1, query_integer(request, "limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT))
    depth = query_integer(request, "max_depth", default=MAX_DEPTH, maximum=MAX_DEPTH)
    place = _PLACE.fullmatch(request.query_one("from") or "h0")
    if place is None:
        raise invalid("from is not a token of this server")
    start = int(place[1])
    suggested = request.query_one("suggested_only") == "true"
    rooms = list(_walk(context, caller, request.params["room_id"], depth, suggested_only=suggested))
    if not rooms:
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
    answer: JsonObject = {"rooms": rooms[start : start + limit]}
    if len(rooms) > start + limit:
        answer["next_batch"] = f"h{start + limit}"
    return json_response(answer)


def _walk(
    context: Context, caller: Caller, root: str, depth: int, *, suggested_only: bool
) -> Iterator[JsonObject]:
    seen: set[str] = set()
    waiting = [(root, 0)]
    while waiting and len(seen) < MAX_ROOMS:
        room_id, level = waiting.pop()
        if room_id in seen:
            continue
        seen.add(room_id)
        face = face_of(context, caller, room_id)
        if face is None:
            continue
        children = children_of(context, room_id, suggested_only=suggested_only)
        yield {**face, "children_state": [_stripped(context, child) for child in children]}
        if level < depth:
            waiting += [(child.state_key or "", level + 1) for child in reversed(children)]


def children_of(context: Context, room_id: str, *, suggested_only: bool = False) -> list[EntryRow]:
    """The events that say which rooms are in a space, in the order in which they are shown."""
    store = context.node.store
    room = store.room(room_id)
    assert room is not None  # noqa: S101 - it has a face
    found: list[tuple[tuple[bool, str, int, str], EntryRow]] = []
    for entry in store.state_at(room_id, seq=room.head_seq):
        if entry.type != CHILD:
            continue
        content = told_content(store, entry)
        # "If via is not present … or not an array, the child should be ignored".
        if not isinstance(content.get("via"), list) or not content["via"]:
            continue
        if not suggested_only or content.get("suggested") is True:
            found.append((_rank(entry, content), entry))
    return [entry for _, entry in sorted(found, key=lambda item: item[0])[:MAX_ROOMS]]


def _rank(entry: EntryRow, content: dict[str, Any]) -> tuple[bool, str, int, str]:
    """By ``order``, those without a valid one last, then by age, then by ID ("Ordering of children")."""
    order = content.get("order")
    valid = isinstance(order, str) and _ORDER.fullmatch(order) is not None
    return (
        not valid,
        order if valid and isinstance(order, str) else "",
        entry.origin_server_ts,
        entry.state_key or "",
    )


def _stripped(context: Context, entry: EntryRow) -> JsonObject:
    return {
        "content": told_content(context.node.store, entry),
        "origin_server_ts": entry.origin_server_ts,
        "sender": entry.sender,
        "state_key": entry.state_key,
        "type": entry.type,
    }
