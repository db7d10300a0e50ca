"""What clients keep with us for themselves: account data and tags (Client-Server API, Client Config and Room
Tagging). It never leaves this server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, invalid
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.account_data import GLOBAL, AccountDataRow

# Types and rooms of one user: two or three for each of a thousand rooms.
MAX_ROWS: Final = 4_000
# One of them; as large as an event, which the same content may become part of.
MAX_CONTENT_BYTES: Final = 65_536
MAX_USER_BYTES: Final = 8 * 1024 * 1024  # all of a user's: what a first sync brings at once
MAX_TYPE_BYTES: Final = 255  # as the type of an event
# "A tag is a string of length no greater than 255 bytes."
MAX_TAG_BYTES: Final = 255
MAX_TAGS: Final = 200  # of one room: more than anybody gives by hand

TAGS: Final = "m.tag"
# "This type of account data is controlled by the server; it cannot be modified by clients" (405).
MANAGED: Final = frozenset({"m.fully_read", "m.push_rules"})


def _require_self(request: Request, caller: Caller) -> None:
    if request.params["user_id"] != caller.user_id:
        raise HttpError(403, "M_FORBIDDEN", "Account data of other users is none of yours")


def _room_of(context: Context, request: Request, caller: Caller) -> str:
    """The room that is meant, or ``GLOBAL``. One that the caller never had to do with is as one that is not
    there.
    """
    room_id = request.params.get("room_id", GLOBAL)
    if room_id != GLOBAL and context.views.membership_row(room_id, caller.user_id) is None:
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
    return room_id


def _type_of(request: Request) -> str:
    kind = request.params["type"]
    if not kind or len(kind.encode()) > MAX_TYPE_BYTES:
        raise invalid(f"A type has at most {MAX_TYPE_BYTES} bytes")
    return kind


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET user/{userId}[/rooms/{roomId}]/account_data/{type}``."""
    _require_self(request, caller)
    room_id = _room_of(context, request, caller)
    content = context.node.store.account_datum(caller.user_id, room_id, _type_of(request))
    if content is None:
        raise HttpError(404, "M_NOT_FOUND", "There is no such account data")
    return Response(body=content)


async def put(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT user/{userId}[/rooms/{roomId}]/account_data/{type}``."""
    _require_self(request, caller)
    room_id, kind = _room_of(context, request, caller), _type_of(request)
    body = await request.any_json()
    if kind in MANAGED:
        raise HttpError(405, "M_BAD_JSON", f"{kind} cannot be set by this means")
    if room_id != GLOBAL and kind == TAGS:
        _check_tags(body)
    await keep(context, caller, room_id, kind, body)
    return json_response({})


async def tags(context: Context, request: Request, caller: Caller) -> Response:
    """``GET user/{userId}/rooms/{roomId}/tags``."""
    _require_self(request, caller)
    return json_response({"tags": _tags(context, caller, _room_of(context, request, caller))})


async def put_tag(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT user/{userId}/rooms/{roomId}/tags/{tag}``."""
    _require_self(request, caller)
    room_id, tag = _room_of(context, request, caller), request.params["tag"]
    content = {"tags": {**_tags(context, caller, room_id), tag: await request.any_json()}}
    _check_tags(content)
    await keep(context, caller, room_id, TAGS, content)
    return json_response({})


async def delete_tag(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE user/{userId}/rooms/{roomId}/tags/{tag}``; one that is not there is gone already."""
    _require_self(request, caller)
    room_id = _room_of(context, request, caller)
    known = _tags(context, caller, room_id)
    if known.pop(request.params["tag"], None) is not None:
        await keep(context, caller, room_id, TAGS, {"tags": known})
    return json_response({})


def _tags(context: Context, caller: Caller, room_id: str) -> JsonObject:
    content = context.node.store.account_datum(caller.user_id, room_id, TAGS)
    found: JsonObject = orjson.loads(content)["tags"] if content is not None else {}
    return found


def _check_tags(content: JsonObject) -> None:
    found = content.get("tags")
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise bad_json("tags must be an object of objects")
    if len(found) > MAX_TAGS:
        raise invalid(f"A room has at most {MAX_TAGS} tags")
    for tag, value in found.items():
        if len(tag.encode()) > MAX_TAG_BYTES:
            raise invalid(f"A tag has at most {MAX_TAG_BYTES} bytes")
        order = value.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
            raise bad_json("order must be a number")


async def keep(context: Context, caller: Caller, room_id: str, kind: str, body: JsonObject) -> None:
    """Store one piece of the caller's account data and end the waits of the caller's devices.

    Raises:
        HttpError: 413 ``M_TOO_LARGE``, or 400 ``M_LIMIT_EXCEEDED`` if the user would have too much.
    """
    content = orjson.dumps(body)
    if len(content) > MAX_CONTENT_BYTES:
        raise HttpError(413, "M_TOO_LARGE", f"Account data may take {MAX_CONTENT_BYTES} bytes")
    row = AccountDataRow(user_id=caller.user_id, room_id=room_id, type=kind, content=content)
    if not await context.node.store.put_account_data(row, most_rows=MAX_ROWS, most_bytes=MAX_USER_BYTES):
        raise HttpError(400, "M_LIMIT_EXCEEDED", "There is no room for more account data")
    context.node.notifier.users_changed([caller.user_id])


def as_events(rows: Iterable[AccountDataRow]) -> list[JsonObject]:
    """Account data as ``/sync`` tells it."""
    return [{"type": row.type, "content": orjson.loads(row.content)} for row in rows]


def by_room(rows: Iterable[AccountDataRow]) -> dict[str, list[AccountDataRow]]:
    """Account data by room, that of the account under ``GLOBAL``."""
    found: dict[str, list[AccountDataRow]] = {}
    for row in rows:
        found.setdefault(row.room_id, []).append(row)
    return found
