"""Profiles (Client-Server API, Profiles): one of the account, repeated in its memberships of rooms."""

from __future__ import annotations

from typing import Final

import orjson
import trio

from linearized.exceptions import IdentifierError, LinearizedError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.server.clients.auth import Caller
from linearized.server.clients.bridging import local_event
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, optional_text
from linearized.server.deciding import Overloaded
from linearized.server.histories import MEMBER_TYPE
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.outbound import OutboundError
from linearized.server.providers.client import ProviderError
from linearized.store.base import Role
from linearized.store.profiles import ProfileRow

MAX_NAME: Final = 256  # characters, as homeservers have it
MAX_AVATAR: Final = 1_000  # of an mxc: URI: a server name of 255 and an ID
# Rooms told of a new name at once, and the seconds after which no further one is: the client waits meanwhile.
# The others learn it when the user joins or is next renamed.
MAX_ROOMS: Final = 200
PROPAGATION_SECONDS: Final = 20.0
_FIELDS: Final = ("displayname", "avatar_url")


def _profile_of(context: Context, request: Request) -> ProfileRow:
    user_id = request.params["user_id"]
    try:
        domain = user_domain(user_id)
    except IdentifierError as error:
        raise invalid(str(error)) from error
    if domain not in context.node.served_domains or context.node.store.user(user_id) is None:
        raise HttpError(404, "M_NOT_FOUND", "No such user here")
    return context.node.store.profile(user_id)


def as_object(profile: ProfileRow) -> JsonObject:
    """What a profile holds, under the names that profiles and memberships have for it."""
    fields = {"displayname": profile.displayname, "avatar_url": profile.avatar_url}
    return {name: value for name, value in fields.items() if value is not None}


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET profile/{userId}``."""
    del caller
    return json_response(as_object(_profile_of(context, request)))


async def get_field(context: Context, request: Request, caller: Caller) -> Response:
    """``GET profile/{userId}/{displayname|avatar_url}``."""
    del caller
    name, fields = _field(request), as_object(_profile_of(context, request))
    if name not in fields:
        raise HttpError(404, "M_NOT_FOUND", f"The user has no {name}")
    return json_response({name: fields[name]})


async def put_field(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT profile/{userId}/{displayname|avatar_url}``; an empty or null value takes it away."""
    name = _field(request)
    if request.params["user_id"] != caller.user_id:
        raise HttpError(403, "M_FORBIDDEN", "The profile of another user is none of yours to change")
    value = optional_text(await request.json(), name, limit=MAX_NAME if name == _FIELDS[0] else MAX_AVATAR)
    if name == "avatar_url" and value and not value.startswith("mxc://"):
        raise invalid("avatar_url must be an mxc: URI")
    async with context.in_flight.alone(f"profile {caller.user_id}"):
        fields = {**as_object(_profile_of(context, request)), name: value or None}
        await context.node.store.put_profile(ProfileRow(user_id=caller.user_id, **fields))
        await _propagate(context, request, caller)
    return json_response({})


def _field(request: Request) -> str:
    name = request.params["field"]
    if name not in _FIELDS:
        raise HttpError(404, "M_UNRECOGNIZED", "Profiles here have a displayname and an avatar_url")
    return name


async def _propagate(context: Context, request: Request, caller: Caller) -> None:
    """Renew the user's memberships. A room that does not take it, or cannot now, keeps the old ones: the
    profile itself is changed.
    """
    deadline = trio.current_time() + PROPAGATION_SECONDS
    rows = context.node.store.rooms_of(caller.user_id)
    joined = [row.room_id for row in rows if row.membership == "join"]
    for room_id in joined[:MAX_ROOMS]:
        if trio.current_time() >= deadline:
            return
        await tell_room(context, request, caller, room_id)


async def tell_room(context: Context, request: Request, caller: Caller, room_id: str) -> None:
    """Make the membership of a caller who is joined to a room show their profile, if the room lets it."""
    store = context.node.store
    room = store.room(room_id)
    if room is None or room.role is Role.FOLLOWER:
        return  # in rooms of MIMI hubs memberships have no names
    entry = store.state_entry(room_id, MEMBER_TYPE, caller.user_id, seq=room.head_seq)
    before: JsonObject = orjson.loads(entry.pdu)["content"] if entry is not None else {}
    if before.get("membership") != "join":
        return
    content = {name: value for name, value in before.items() if name not in (*_FIELDS, "reason")}
    content |= as_object(store.profile(caller.user_id))
    if content == {name: value for name, value in before.items() if name != "reason"}:
        return
    event = local_event(
        context,
        request,
        caller,
        room_id=room_id,
        event_type=MEMBER_TYPE,
        content=content,
        state_key=caller.user_id,
    )
    try:
        await context.node.rooms.send(room_id, event)
    # The room's rules, its hub, or its load are against it: see above.
    except (LinearizedError, OutboundError, ProviderError, Overloaded, trio.TooSlowError):
        return
