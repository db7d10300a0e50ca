"""Reading a room: pages of messages, single events, state, members."""

from __future__ import annotations

from typing import Final

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.canonical import JsonObject, parse_json_object
from linearized.protocol.visibility import END
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.event_filters import ALL_EVENTS, EventFilter, parse_event_filter
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.projection import client_events, single_event, state_events
from linearized.server.clients.room_members import senders_of
from linearized.server.clients.tokens import parse_place, place_token
from linearized.server.clients.views import View, fitting
from linearized.server.histories import MEMBER_TYPE, membership_of
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.redactions import told_content
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, Role

DEFAULT_PAGE: Final = 10  # "defaults to 10" (Client-Server API, /messages)
MAX_PAGE: Final = 1000  # what homeservers commonly clamp to
# Bytes of events in one page: a thousand ordinary ones fit easily, a thousand of the largest would be 64 MB.
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024

_MEMBERSHIPS: Final = frozenset({"join", "invite", "leave", "ban", "knock"})


def _not_found() -> HttpError:
    return HttpError(404, "M_NOT_FOUND", "No such event in what you may read")


async def messages(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/messages``: ``end`` is there as long as there is more in that direction."""
    room_id, store = request.params["room_id"], context.node.store
    view = context.views.require(room_id, caller.user_id)
    direction = request.query_one("dir", "f")
    if direction not in {"b", "f"}:
        raise invalid("dir must be b or f")
    limit = max(1, query_integer(request, "limit", default=DEFAULT_PAGE, maximum=MAX_PAGE))
    wanted = filter_of(request)
    start = place_of(context, request, "from", room_id, view.head if direction == "b" else 0)
    if direction == "b":
        stop = place_of(context, request, "to", room_id, 0)
        entries = view.before(store, before=min(start, view.head) + 1, after=stop, limit=limit + 1)
        page = fitting(entries[:limit], MAX_PAGE_BYTES)
        more, entries = len(entries) > len(page), page
        end = entries[-1].seq - 1 if entries else stop
    else:
        stop = place_of(context, request, "to", room_id, END - 1)
        entries = view.after(store, after=start, before=stop + 1, limit=limit)
        entries = fitting(entries, MAX_PAGE_BYTES)
        # Forwards there may always be more tomorrow, but a client stops at a missing "end": it syncs from
        # there.
        more = bool(entries) and entries[-1].seq < min(view.head, stop)
        end = entries[-1].seq if entries else start
    chosen = [entry for entry in entries if wanted.allows(entry)]
    answer: JsonObject = {
        "chunk": client_events(context, caller, chosen),
        "start": place_token(start),
        "state": state_events(context, caller, senders_of(store, chosen)) if wanted.lazy_members else [],
    }
    if more:
        answer["end"] = place_token(end)
    return json_response(answer)


def place_of(context: Context, request: Request, name: str, room_id: str, default: int) -> int:
    """The place in a room that a query parameter names. Raises HttpError as ``parse_place``."""
    value = request.query_one(name)
    if not value:
        return default
    return parse_place(value, store=context.node.store, room_id=room_id)


def filter_of(request: Request) -> EventFilter:
    """The event filter of a request.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` or ``M_BAD_JSON``.
    """
    value = request.query_one("filter")
    if not value:
        return ALL_EVENTS
    try:
        return parse_event_filter(parse_json_object(value.encode()))
    except CanonicalJsonError as error:
        raise invalid(f"filter: {error}") from error


async def event(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/event/{eventId}``."""
    view = context.views.require(request.params["room_id"], caller.user_id)
    return json_response(single_event(context, caller, visible_event(context, request, view)))


def visible_event(context: Context, request: Request, view: View) -> EntryRow:
    """The entry that a path names. Raises HttpError as ``event_for``."""
    return event_for(context, view, request.params["event_id"])


def event_for(context: Context, view: View, event_id: str) -> EntryRow:
    """The entry of this ID, in a room and as far as the caller may read.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``, whether it does not exist or may not be read.
    """
    entry = context.node.store.entry_by_id(event_id)
    if entry is None or entry.room_id != view.room.room_id or entry.seq > view.head:
        raise _not_found()
    if not view.shows(entry) or not shown(context.node.store, [entry]):
        raise _not_found()
    return entry


async def state(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/state``: now, or as it was when the caller left."""
    view = context.views.require(request.params["room_id"], caller.user_id)
    return json_response(state_events(context, caller, _state(context, view)))


async def state_content(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/state/{eventType}[/{stateKey}]``: the content, or the event with
    ``?format=event``.
    """
    view = context.views.require(request.params["room_id"], caller.user_id)
    entry = context.node.store.state_entry(
        view.room.room_id, request.params["event_type"], request.params.get("state_key", ""), seq=view.head
    )
    if entry is None:
        raise HttpError(404, "M_NOT_FOUND", "The room has no such state")
    if request.query_one("format") == "event":
        return json_response(single_event(context, caller, entry))
    return json_response(told_content(context.node.store, entry))


async def members(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/members``, filtered by ``membership``/``not_membership``, as of ``at`` if
    given.
    """
    room_id = request.params["room_id"]
    view = context.views.require(room_id, caller.user_id)
    only, never = (_membership_filter(request, name) for name in ("membership", "not_membership"))
    seq = min(place_of(context, request, "at", room_id, view.head), view.head)
    found = [
        entry
        for entry in context.node.store.state_at(room_id, seq=seq)
        if entry.type == MEMBER_TYPE
        and (only is None or membership_of(entry) == only)
        and (never is None or membership_of(entry) != never)
    ]
    return json_response({"chunk": state_events(context, caller, found)})


def _membership_filter(request: Request, name: str) -> str | None:
    value = request.query_one(name)
    if value is not None and value not in _MEMBERSHIPS:
        raise invalid(f"{name} must be a membership")
    return value


async def joined_members(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/joined_members``: profiles by user ID; "only for joined members"."""
    room_id = request.params["room_id"]
    view = context.views.require(room_id, caller.user_id, joined=True)
    if view.room.role is Role.FOLLOWER:
        # Who else is in the room stands in the MLS group, which only members can read; these are our own
        # users.
        rows = context.node.store.memberships(room_id)
        return json_response({"joined": {row.user_id: {} for row in rows if row.membership == "join"}})
    joined = {
        entry.state_key: _profile(told_content(context.node.store, entry))
        for entry in _state(context, view)
        if entry.type == MEMBER_TYPE and membership_of(entry) == "join"
    }
    return json_response({"joined": joined})


def _profile(content: JsonObject) -> JsonObject:
    """Display name and avatar of a membership event, each only if it is there."""
    found = {"display_name": content.get("displayname"), "avatar_url": content.get("avatar_url")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _state(context: Context, view: View) -> list[EntryRow]:
    return context.node.store.state_at(view.room.room_id, seq=view.head)
