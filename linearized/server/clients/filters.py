"""The part of a Matrix filter this server applies: which rooms, which timeline events, how many, and left
rooms.

What it does not apply only narrows what a client gets, so ignoring it never withholds anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from linearized.exceptions import CanonicalJsonError
from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json, parse_json_object
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, invalid, optional_object
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import EntryRow, Reply

DEFAULT_TIMELINE: Final = 20  # a screenful
MAX_TIMELINE: Final = 500  # more is read faster from /messages, in pages
MAX_FILTER_BYTES: Final = 16 * 1024  # room for hundreds of room IDs, and still nothing to fill a disk with
# Every entry of a page is held against all of them.
MAX_NAMES: Final = 500
MAX_PATTERNS: Final = 20
_FILTER_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``types``/``not_types`` and the like: None allows everything; ``not_`` wins; types may hold ``*``."""

    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()

    def allows(self, value: str) -> bool:
        """Whether the filter lets a value through."""
        if self.never and _named(value, self.never):
            return False
        return self.only is None or _named(value, self.only)


def _named(value: str, patterns: tuple[str, ...]) -> bool:
    return value in patterns or any("*" in pattern and _matches(value, pattern) for pattern in patterns)


def _matches(value: str, pattern: str) -> bool:
    """``*`` stands for anything, and nothing else for anything but itself; no regular expression, which could
    be made slow.
    """
    first, *middle, last = pattern.split("*")
    position, end = len(first), len(value) - len(last)
    if position > end or not (value.startswith(first) and value.endswith(last)):
        return False
    for part in middle:
        found = value.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter as applied to sync; ``timeline_limit`` is entries per room."""

    rooms: Choice = Choice()
    types: Choice = Choice()
    senders: Choice = Choice()
    timeline_limit: int = DEFAULT_TIMELINE
    include_leave: bool = False

    def allows(self, entry: EntryRow) -> bool:
        """Whether an entry belongs into the filtered timeline."""
        return self.types.allows(entry.type) and self.senders.allows(entry.sender)


def _strings(body: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_json(f"{key} must be a list of strings")
    if len(value) > MAX_NAMES or sum("*" in item for item in value) > MAX_PATTERNS:
        raise invalid(f"{key} holds more than {MAX_NAMES} names or {MAX_PATTERNS} patterns")
    return tuple(value)


def _choice(body: Mapping[str, Any], name: str) -> Choice:
    return Choice(only=_strings(body, name), never=_strings(body, f"not_{name}") or ())


def parse_filter(body: JsonObject) -> Filter:
    """Read a filter definition.

    Raises:
        HttpError: 400 ``M_BAD_JSON``.
    """
    room = optional_object(body, "room")
    timeline = optional_object(room, "timeline")
    limit = timeline.get("limit", DEFAULT_TIMELINE)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise bad_json("timeline.limit must be a whole number")
    include_leave = room.get("include_leave", False)
    if not isinstance(include_leave, bool):
        raise bad_json("include_leave must be true or false")
    return Filter(
        rooms=_choice(room, "rooms"),
        types=_choice(timeline, "types"),
        senders=_choice(timeline, "senders"),
        timeline_limit=min(limit, MAX_TIMELINE),
        include_leave=include_leave,
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
