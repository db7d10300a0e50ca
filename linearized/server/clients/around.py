"""Finding a place in a room: what stands around an event, and what was said at a time."""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.room.admission import COMMIT_PART
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.history import DEFAULT_PAGE, MAX_PAGE_BYTES, filter_of, visible_event
from linearized.server.clients.projection import client_events, single_event, state_events
from linearized.server.clients.room_members import only_of
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import View, fitting
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, Store

MAX_AROUND: Final = 100  # some screens on each side; the rest is paged
# Entries looked at, from where the search ends, for one that the caller may see.
_NEAR: Final = 50
_LATEST_TS: Final = 2**53 - 1  # the largest integer JSON carries without loss


async def event_context(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/context/{eventId}``: "The limit applies to the sum of the events_before and
    events_after arrays"; the event itself always comes.
    """
    view = context.views.require(request.params["room_id"], caller.user_id)
    store, middle = context.node.store, visible_event(context, request, view)
    limit = query_integer(request, "limit", default=DEFAULT_PAGE, maximum=MAX_AROUND)
    wanted = filter_of(request)
    half = limit // 2
    before = fitting(view.before(store, before=middle.seq, after=0, limit=half), MAX_PAGE_BYTES // 2)
    after = fitting(
        view.after(store, after=middle.seq, before=view.head + 1, limit=limit - half), MAX_PAGE_BYTES // 2
    )
    first = before[-1].seq if before else middle.seq
    last = after[-1].seq if after else middle.seq
    sides = [[each for each in side if wanted.allows(each)] for side in (before, after)]
    state = store.state_at(view.room.room_id, seq=last)
    if wanted.lazy_members:
        state = only_of(state, {entry.sender for entry in (middle, *sides[0], *sides[1])})
    answer: JsonObject = {
        "event": single_event(context, caller, middle),
        "events_before": client_events(context, caller, sides[0]),
        "events_after": client_events(context, caller, sides[1]),
        "state": state_events(context, caller, state),
        "start": place_token(first - 1),
        "end": place_token(last),
    }
    return json_response(answer)


async def timestamp_to_event(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/timestamp_to_event``: the first entry at or after ``ts``, or the last at or before
    it, in the order of the log.

    A log is in the order in which its hub took its entries, so it is searched as if its timestamps rose. An
    entry whose sender's clock was wrong by hours may be passed over; the answer is right beside the others.
    """
    view = context.views.require(request.params["room_id"], caller.user_id)
    if request.query_one("ts") is None:
        raise HttpError(400, "M_MISSING_PARAM", "ts is missing")
    timestamp = query_integer(request, "ts", default=0, maximum=_LATEST_TS)
    direction = request.query_one("dir")
    if direction not in {"b", "f"}:
        raise invalid("dir must be b or f")
    found = _at(context.node.store, view, timestamp, forwards=direction == "f")
    if found is None:
        raise HttpError(404, "M_NOT_FOUND", "You may read no event of that time")
    return json_response({"event_id": found.event_id, "origin_server_ts": found.origin_server_ts})


def _at(store: Store, view: View, timestamp: int, *, forwards: bool) -> EntryRow | None:
    low, high = 1, view.head + 1  # what is searched for: the first entry that is not before the timestamp
    while low < high:
        middle = (low + high) // 2
        page = store.entries(view.room.room_id, after=middle - 1, limit=1)
        if page and page[0].origin_server_ts < timestamp:
            low = middle + 1
        else:
            high = middle
    if forwards:
        near = view.after(store, after=low - 1, before=view.head + 1, limit=_NEAR)
        right = [entry for entry in near if entry.origin_server_ts >= timestamp]
    else:
        # Behind it there may be others of the very millisecond.
        same = view.after(store, after=low - 1, before=view.head + 1, limit=_NEAR)
        exact = [entry for entry in same if entry.origin_server_ts == timestamp]
        near = [*reversed(exact), *view.before(store, before=low, after=0, limit=_NEAR)]
        right = [entry for entry in near if entry.origin_server_ts <= timestamp]
    whole = [entry for entry in right if entry.type != COMMIT_PART]  # clients know no parts of commits
    return next(iter(shown(store, whole)), None)
