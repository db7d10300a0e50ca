"""The rooms that their people show to everybody here (Client-Server API, Listing rooms)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.aliases import CANONICAL
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.faces import public_face
from linearized.server.clients.fields import (
    integer,
    invalid,
    optional_object,
    optional_text,
    query_integer,
    text,
)
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.powers import may_set_state

# Rooms that may be shown. All are looked at for each listing, since the largest come first.
MAX_PUBLISHED: Final = 500
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
MAX_TERM: Final = 255
MAX_TYPES: Final = 20
# Rooms looked at before others get a turn, some tens of microseconds each.
_AT_ONCE: Final = 20

_SEARCHED: Final = ("name", "topic", "canonical_alias")


async def visibility(context: Context, request: Request) -> Response:
    """``GET directory/list/room/{roomId}``: what nobody published is private, if it exists or not."""
    shown = request.params["room_id"] in context.node.store.published()
    return json_response({"visibility": "public" if shown else "private"})


async def set_visibility(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT directory/list/room/{roomId}``: by who may say which alias is the room's."""
    room_id = request.params["room_id"]
    wanted = text({"visibility": "public", **await request.json()}, "visibility")
    if wanted not in {"public", "private"}:
        raise invalid("visibility must be public or private")
    view = context.views.require(room_id, caller.user_id, joined=True)
    if not may_set_state(context.node.store, room_id, caller.user_id, CANONICAL, seq=view.head):
        raise HttpError(403, "M_FORBIDDEN", "You may not publish this room")
    if not await context.node.store.set_published(room_id, wanted == "public", most=MAX_PUBLISHED):
        raise too_many()
    return json_response({})


def too_many() -> HttpError:
    """Why a room cannot be published."""
    return HttpError(403, "M_FORBIDDEN", f"{MAX_PUBLISHED} rooms are published already")


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET publicRooms``."""
    limit = query_integer(request, "limit", default=DEFAULT_LIMIT, maximum=MAX_LIMIT)
    return await _listing(context, request, caller, _Wish(limit=limit, since=request.query_one("since")))


async def search(context: Context, request: Request, caller: Caller) -> Response:
    """``POST publicRooms``: with a search in names, topics and aliases, and for types of rooms."""
    body = await request.json()
    limit = min(integer(body, "limit"), MAX_LIMIT) if "limit" in body else DEFAULT_LIMIT
    wanted = optional_object(body, "filter")
    term = optional_text(wanted, "generic_search_term", limit=MAX_TERM) or ""
    types = wanted.get("room_types")
    if types is not None:
        if not isinstance(types, list) or not all(each is None or isinstance(each, str) for each in types):
            raise HttpError(400, "M_BAD_JSON", "room_types must be a list of types and null")
        if len(types) > MAX_TYPES:
            raise invalid(f"room_types holds more than {MAX_TYPES} types")
    since = optional_text(body, "since")
    return await _listing(
        context, request, caller, _Wish(limit=limit, since=since, term=term.casefold(), types=types)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """Which rooms, and how many; ``since`` is how many came before. Type None is that of ordinary rooms."""

    limit: int
    since: str | None
    term: str = ""
    types: list[str | None] | None = None

    def holds(self, face: JsonObject) -> bool:
        if self.types is not None and face.get("room_type") not in self.types:
            return False
        return not self.term or any(self.term in face.get(name, "").casefold() for name in _SEARCHED)


async def _listing(context: Context, request: Request, caller: Caller, wish: _Wish) -> Response:
    """The largest rooms first."""
    server = request.query_one("server")
    if server is not None and server != context.node.identity.name:
        raise HttpError(404, "M_NOT_FOUND", "This server lists no rooms of other servers")
    start, limit = _start(wish.since), max(1, wish.limit)
    context.node.query_limit.take(caller.user_id)
    found: list[JsonObject] = []
    for number, room_id in enumerate(context.node.store.published()):
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        face = public_face(context, room_id)
        if face is not None and wish.holds(face):
            found.append(face)
    found.sort(key=lambda face: (-face["num_joined_members"], face["room_id"]))
    end = start + limit
    answer: JsonObject = {"chunk": found[start:end], "total_room_count_estimate": len(found)}
    if end < len(found):
        answer["next_batch"] = str(end)
    if start:
        answer["prev_batch"] = str(max(0, start - limit))
    return json_response(answer)


def _start(since: str | None) -> int:
    if since is None:
        return 0
    if not (since.isascii() and since.isdigit() and int(since) <= MAX_PUBLISHED):
        raise invalid("since is no token of this list")
    return int(since)
