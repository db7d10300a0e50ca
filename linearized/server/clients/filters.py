"""Filters of ``/sync``: which rooms, which events of each part of the answer, how many, and left rooms; and
keeping them.

What is not applied (``event_fields``, ``event_format``, counts by thread) only narrows what a client gets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import orjson

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json, parse_json_object
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.event_filters import (
    ALL_EVENTS,
    EVERYTHING,
    Choice,
    EventFilter,
    parse_choice,
    parse_event_filter,
)
from linearized.server.clients.fields import boolean, optional_object
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import Reply

MAX_FILTER_BYTES: Final = 16 * 1024  # room for hundreds of room IDs, and still nothing to fill a disk with
_FILTER_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter as applied to sync.

    Attributes:
        rooms: which rooms are told of at all.
        timeline, state, ephemeral, room_account_data: what of each room.
        account_data: what of the account's own.
    """

    rooms: Choice = EVERYTHING
    timeline: EventFilter = ALL_EVENTS
    state: EventFilter = ALL_EVENTS
    ephemeral: EventFilter = ALL_EVENTS
    room_account_data: EventFilter = ALL_EVENTS
    account_data: EventFilter = ALL_EVENTS
    include_leave: bool = False


def parse_filter(body: JsonObject) -> Filter:
    """Read a filter definition.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    room = optional_object(body, "room")
    parts = {
        name: parse_event_filter(optional_object(room, name))
        for name in ("timeline", "state", "ephemeral", "account_data")
    }
    return Filter(
        rooms=parse_choice(room, "rooms"),
        timeline=parts["timeline"],
        state=parts["state"],
        ephemeral=parts["ephemeral"],
        room_account_data=parts["account_data"],
        account_data=parse_event_filter(optional_object(body, "account_data")),
        include_leave=boolean(room, "include_leave"),
    )


def _scope(user_id: str) -> str:
    return f"client-filter\x1f{user_id}"


def requested_filter(context: Context, request: Request, caller: Caller) -> Filter:
    """The filter of a request: inline JSON ("If it starts with { it is JSON"), or the ID of an uploaded one.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` or ``M_BAD_JSON``.
    """
    value = request.query_one("filter")
    if value is None:
        return Filter()
    if not value.startswith("{"):
        stored = context.node.store.reply(_scope(caller.user_id), value)
        if stored is None:
            raise HttpError(400, "M_INVALID_PARAM", "Unknown filter")
        return parse_filter(orjson.loads(stored))
    try:
        return parse_filter(parse_json_object(value.encode()))
    except CanonicalJsonError as error:
        raise HttpError(400, "M_INVALID_PARAM", f"filter: {error}") from error


def _require_self(request: Request, caller: Caller) -> None:
    if request.params["user_id"] != caller.user_id:
        raise HttpError(403, "M_FORBIDDEN", "Filters of other users are none of yours")


async def upload_filter(context: Context, request: Request, caller: Caller) -> Response:
    """``POST user/{userId}/filter``. The ID is the filter's hash: the same filter is stored once."""
    _require_self(request, caller)
    body = await request.json()
    parse_filter(body)
    encoded = canonical_json(body)
    if len(encoded) > MAX_FILTER_BYTES:
        raise HttpError(413, "M_TOO_LARGE", f"A filter may take {MAX_FILTER_BYTES} bytes")
    filter_id = encode_base64url(hashlib.sha256(encoded).digest()[:_FILTER_ID_BYTES])
    scope = _scope(caller.user_id)
    if context.node.store.reply(scope, filter_id) is None:
        await context.node.store.put_reply(
            Reply(scope=scope, key=filter_id, value=encoded.decode(), lasting=True)
        )
    return json_response({"filter_id": filter_id})


async def get_filter(context: Context, request: Request, caller: Caller) -> Response:
    """``GET user/{userId}/filter/{filterId}``."""
    _require_self(request, caller)
    stored = context.node.store.reply(_scope(caller.user_id), request.params["filter_id"])
    if stored is None:
        raise HttpError(404, "M_NOT_FOUND", "Unknown filter")
    return Response(body=stored.encode())
