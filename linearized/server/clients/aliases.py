"""Room aliases: names that people give to rooms at this server (Client-Server API, Room aliases)."""

from __future__ import annotations

import re
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import MAX_IDENTIFIER_CHARS, is_server_name
from linearized.server.clients.auth import Caller, authenticate
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, text
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.powers import may_set_state
from linearized.server.room_aliases import Named, servers_of, unknown_alias
from linearized.store.directory import AliasRow

CANONICAL: Final = "m.room.canonical_alias"
# Of one room: as many as anybody can tell apart, and nothing to fill a disk with.
MAX_ALIASES: Final = 50
# All that is Unicode, "except : and NUL" (Appendices, Room Aliases).
_LOCALPART: Final = re.compile(r"[^:\0\ud800-\udfff]+")


async def resolve(context: Context, request: Request) -> Response:
    """``GET directory/room/{roomAlias}``: for anybody, as its owner has told the name to everybody. Another
    server is asked for who is logged in.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``, 401 as ``authenticate``, 429 ``M_LIMIT_EXCEEDED``.
        OutboundError: the other server does not say.
    """
    alias = request.params["room_alias"]
    if _is_elsewhere(context, alias):
        named = await room_named(context, authenticate(context, request), alias)
    else:
        named = _named_here(context, alias)
    return json_response({"room_id": named.room_id, "servers": named.servers})


async def create(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT directory/room/{roomAlias}``: by who is in the room.

    Raises:
        HttpError: 409 ``M_UNKNOWN`` if the alias exists, 403 ``M_FORBIDDEN``, 400 ``M_INVALID_PARAM``.
    """
    alias = check_own(context, request.params["room_alias"])
    room_id = text(await request.json(), "room_id")
    context.views.require(room_id, caller.user_id, joined=True)
    if not await keep(context, caller, alias, room_id):
        raise HttpError(409, "M_UNKNOWN", "The alias is taken")
    return json_response({})


async def keep(context: Context, caller: Caller, alias: str, room_id: str) -> bool:
    """Give a room an alias; False if it is taken, if by the room itself.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` if the room has too many.
    """
    store = context.node.store
    async with context.in_flight.alone(f"alias {alias}"):
        if store.alias(alias) is not None:
            return False
        row = AliasRow(alias=alias, room_id=room_id, creator=caller.user_id)
        if await store.put_alias(row, most=MAX_ALIASES) is None:
            raise HttpError(403, "M_FORBIDDEN", f"The room has {MAX_ALIASES} aliases")
    return True


async def delete(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE directory/room/{roomAlias}``: by who made it, or who may say which alias is the room's.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``, 403 ``M_FORBIDDEN``.
    """
    store, alias = context.node.store, request.params["room_alias"]
    row = store.alias(alias)
    if row is None:
        raise unknown_alias()
    if row.creator != caller.user_id:
        view = context.views.require(row.room_id, caller.user_id, joined=True)
        if not may_set_state(store, row.room_id, caller.user_id, CANONICAL, seq=view.head):
            raise HttpError(403, "M_FORBIDDEN", "The alias is another user's")
    await store.delete_alias(alias)
    return json_response({})


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/aliases``: to who may read the room now."""
    context.views.require(request.params["room_id"], caller.user_id)
    return json_response({"aliases": context.node.store.aliases(request.params["room_id"])})


def check_own(context: Context, alias: str) -> str:
    """An alias that this server can give.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``.
    """
    if not _is_alias(alias):
        raise invalid("That is no room alias")
    if _is_elsewhere(context, alias):
        raise invalid(f"Aliases here end with :{context.node.identity.name}")
    return alias


def check_canonical(context: Context, room_id: str, content: JsonObject) -> None:
    """What a room says its aliases are has to be true, as far as they are of this server.

    Raises:
        HttpError: 400 ``M_BAD_ALIAS``: "The room alias … does not point to the room".
    """
    others = content.get("alt_aliases")
    for alias in (content.get("alias"), *(others if isinstance(others, list) else ())):
        if not isinstance(alias, str) or alias.partition(":")[2] != context.node.identity.name:
            continue
        row = context.node.store.alias(alias)
        if row is None or row.room_id != room_id:
            raise HttpError(400, "M_BAD_ALIAS", f"{alias} does not stand for this room")


async def room_named(context: Context, caller: Caller, name: str) -> Named:
    """The room that a room ID or an alias names, whatever server's; what is neither, is given back.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for an alias of no room, 429 ``M_LIMIT_EXCEEDED``.
        OutboundError: the alias is another server's, which does not say.
    """
    if not name.startswith("#"):
        return Named(room_id=name, servers=())
    if not _is_elsewhere(context, name):
        return _named_here(context, name)
    found = await context.remote_aliases.find(caller.user_id, name)
    if found is None:
        raise unknown_alias()
    return found


def _named_here(context: Context, alias: str) -> Named:
    row = context.node.store.alias(alias)
    if row is None:
        raise unknown_alias()
    return Named(room_id=row.room_id, servers=tuple(servers_of(context.node, row)))


def _is_alias(text: str) -> bool:
    localpart, _, domain = text[1:].partition(":")
    well_formed = text.startswith("#") and _LOCALPART.fullmatch(localpart) and is_server_name(domain)
    return bool(well_formed) and len(text.encode()) <= MAX_IDENTIFIER_CHARS


def _is_elsewhere(context: Context, alias: str) -> bool:
    return _is_alias(alias) and alias.partition(":")[2] != context.node.identity.name
