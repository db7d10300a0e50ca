"""``rooms/{roomId}/segments``: a room's history in files that never change, for clients that read all of it.

A segment is served to whoever may read the whole of it; what lies at the borders, and the newest entries,
come by ``log``. Only the server that orders a room has its log from the first entry on.
"""

from __future__ import annotations

from typing import Final

from linearized.room.segments import SEGMENT
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.views import View
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.ranges import respond
from linearized.store.base import Role

CONTENT_TYPE: Final = "application/zstd"
HEADERS: Final = (("cache-control", "private, max-age=31536000, immutable"),)
_MAX_DIGITS: Final = 9  # of a segment's number: more entries than a room can have


async def index(context: Context, request: Request, caller: Caller) -> Response:
    """Which segments there are for the caller: ``segments`` are pairs of the first and the last of
    neighbouring ones, ``head_seq`` is the last entry the caller may know of.
    """
    view = _view(context, request, caller)
    runs = readable(view)
    return json_response({"entries": SEGMENT, "head_seq": view.head, "segments": runs})


async def segment(context: Context, request: Request, caller: Caller) -> Response:
    """One segment, in whole or in part."""
    view = _view(context, request, caller)
    asked = request.params["number"]
    number = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= _MAX_DIGITS else -1
    if not any(first <= number <= last for first, last in readable(view)):
        raise HttpError(404, "M_NOT_FOUND", "There is no such segment for you")
    data = await context.node.segments.read(view.room.room_id, number)
    return respond(request, data, content_type=CONTENT_TYPE, headers=HEADERS)


def readable(view: View) -> list[tuple[int, int]]:
    """The complete segments of which a view shows every entry, as runs of numbers."""
    runs: list[tuple[int, int]] = []
    for first, last in view.runs:
        begin = -(-(first - 1) // SEGMENT)
        end = min(last, view.head) // SEGMENT - 1
        if begin <= end:
            runs.append((begin, end))
    return runs


def _view(context: Context, request: Request, caller: Caller) -> View:
    view = context.views.require(request.params["room_id"], caller.user_id)
    if view.room.role is not Role.HUB:
        raise HttpError(404, "M_NOT_FOUND", "This server does not order that room")
    return view
