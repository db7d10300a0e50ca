"""Joining, knocking, leaving, inviting, kicking and banning: all of them ``m.room.member`` events."""

from __future__ import annotations

from typing import Final, Protocol

from linearized.exceptions import IdentifierError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import (
    is_room_id,
    is_server_name,
    parse_user_id,
    room_domain,
    user_domain,
)
from linearized.server import pseudonyms
from linearized.server.clients.aliases import room_named
from linearized.server.clients.auth import Caller
from linearized.server.clients.bridging import local_event
from linearized.server.clients.context import Context
from linearized.server.clients.faces import may_know_of
from linearized.server.clients.fields import invalid, optional_text, text
from linearized.server.clients.profiles import tell_room
from linearized.server.histories import MEMBER_TYPE
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.invited import has_copy
from linearized.server.room_aliases import Named

MAX_REASON: Final = 1024  # a paragraph; the event it goes into has to stay below 64 KiB
MAX_VIA: Final = 10  # servers tried for one join or knock, each of which may take its full deadline


def user_of(body: JsonObject, key: str = "user_id") -> str:
    """A user ID from a body.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    value = text(body, key)
    try:
        parse_user_id(value)
    except IdentifierError as error:
        raise invalid(f"{key}: {error}") from error
    return value


async def join(context: Context, request: Request, caller: Caller) -> Response:
    """``POST join/{roomIdOrAlias}`` and ``POST rooms/{roomId}/join``; joining again changes nothing."""
    rooms = context.node.rooms

    async def elsewhere(room_id: str, via: list[str], _reason: str | None, *, hidden: bool) -> None:
        enter = rooms.join_elsewhere if hidden else rooms.join_remote
        await enter(room_id, user_id=caller.user_id, via=via)

    return await _enter(context, request, caller, "join", elsewhere)


async def knock(context: Context, request: Request, caller: Caller) -> Response:
    """``POST knock/{roomIdOrAlias}``: asks to be invited; knocking again changes nothing."""
    rooms = context.node.rooms

    async def elsewhere(room_id: str, via: list[str], reason: str | None, *, hidden: bool) -> None:
        enter = rooms.knock_elsewhere if hidden else rooms.knock
        await enter(room_id, user_id=caller.user_id, via=via, reason=reason)

    return await _enter(context, request, caller, "knock", elsewhere)


class _Elsewhere(Protocol):
    """Enters a room through other servers."""

    async def __call__(self, room_id: str, via: list[str], reason: str | None, /, *, hidden: bool) -> None:
        """``hidden``: whatever copy we have, the user may not know of it."""


async def _enter(
    context: Context,
    request: Request,
    caller: Caller,
    membership: str,
    elsewhere: _Elsewhere,
) -> Response:
    """Take the caller's own membership in a room that they are not in.

    Args:
        elsewhere: how, if this server has no copy of the room, or none that the caller may know of.
    """
    reason = optional_text(await request.json(), "reason", limit=MAX_REASON)
    named = await room_named(context, caller, request.params["room_id"])
    room_id = named.room_id
    if not is_room_id(room_id):
        raise HttpError(404, "M_NOT_FOUND", "That is neither a room ID nor a room alias")
    await pseudonyms.require(context.node, caller.user_id, room_id)
    node, row = context.node, context.views.membership_row(room_id, caller.user_id)
    via = _via(request, named, own=node.identity.name)
    if caller.bridge is None and row is None and not may_know_of(context, caller, room_id):
        # The rules would refuse it, and after more work than it takes to find that there is no such room.
        # What there is of other servers' rooms their servers say, as if we had no copy.
        if room_domain(room_id) == node.identity.name:
            raise HttpError(403, "M_FORBIDDEN", f"There is no such room that you may {membership}")
        await elsewhere(room_id, via, reason, hidden=True)
        return await _entered(context, request, caller, room_id, membership)
    room = node.rooms.row(room_id)
    if room is not None and row is not None and row.membership == membership:
        return json_response({"room_id": room_id})
    bridged = user_domain(caller.user_id) in node.bridged_domains
    if room is None or (not bridged and not has_copy(room)):
        if bridged:
            raise HttpError(404, "M_NOT_FOUND", "This server does not know that room")
        await elsewhere(room_id, via, reason, hidden=False)
    else:
        await _change(
            context,
            request,
            caller,
            room_id=room_id,
            target=caller.user_id,
            membership=membership,
            reason=reason,
        )
    return await _entered(context, request, caller, room_id, membership)


async def _entered(
    context: Context, request: Request, caller: Caller, room_id: str, membership: str
) -> Response:
    if membership == "join":
        await tell_room(context, request, caller, room_id)
    return json_response({"room_id": room_id})


def _via(request: Request, named: Named, *, own: str) -> list[str]:
    """Servers to go through: those the client names, then those that go with the alias, then the one in the
    room ID; never ourselves.
    """
    wished = [*request.query.get("server_name", []), *request.query.get("via", [])]
    servers = [*wished, *named.servers, room_domain(named.room_id)]
    wanted = dict.fromkeys(server for server in servers if is_server_name(server) and server != own)
    return list(wanted)[:MAX_VIA]


async def leave(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/leave``: leaves, or declines an invitation; leaving again changes nothing."""
    room_id = request.params["room_id"]
    reason = optional_text(await request.json(), "reason", limit=MAX_REASON)
    row = context.views.membership_row(room_id, caller.user_id)
    if row is None:
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
    if row.membership != "leave":
        await _change(
            context,
            request,
            caller,
            room_id=room_id,
            target=caller.user_id,
            membership="leave",
            reason=reason,
        )
    return json_response({})


async def invite(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/invite``. A user of another server is invited through it."""
    room_id = request.params["room_id"]
    body = await request.json()
    target, reason = user_of(body), optional_text(body, "reason", limit=MAX_REASON)
    context.views.require(room_id, caller.user_id, joined=True)
    if user_domain(caller.user_id) in context.node.bridged_domains:
        await _change(
            context, request, caller, room_id=room_id, target=target, membership="invite", reason=reason
        )
    else:
        await context.node.rooms.invite(room_id, sender=caller.user_id, target=target, reason=reason)
    return json_response({})


async def kick(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/kick``."""
    return await _sanction(context, request, caller, "leave", only_if=frozenset({"join", "invite", "knock"}))


async def ban(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/ban``."""
    return await _sanction(context, request, caller, "ban", only_if=None)


async def unban(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/unban``."""
    return await _sanction(context, request, caller, "leave", only_if=frozenset({"ban"}))


async def _sanction(
    context: Context, request: Request, caller: Caller, membership: str, *, only_if: frozenset[str] | None
) -> Response:
    room_id = request.params["room_id"]
    body = await request.json()
    target, reason = user_of(body), optional_text(body, "reason", limit=MAX_REASON)
    context.views.require(room_id, caller.user_id, joined=True)
    row = context.views.membership_row(room_id, target)
    current = row.membership if row is not None else "leave"
    # The same event both kicks and unbans; asked for one, we must not do the other.
    if only_if is not None and current not in only_if:
        raise HttpError(403, "M_FORBIDDEN", f"{target} has the membership {current}")
    await _change(
        context, request, caller, room_id=room_id, target=target, membership=membership, reason=reason
    )
    return json_response({})


async def _change(
    context: Context,
    request: Request,
    caller: Caller,
    *,
    room_id: str,
    target: str,
    membership: str,
    reason: str | None,
) -> None:
    content: JsonObject = {"membership": membership}
    if reason is not None:
        content["reason"] = reason
    event = local_event(
        context, request, caller, room_id=room_id, event_type=MEMBER_TYPE, content=content, state_key=target
    )
    await context.node.rooms.send(room_id, event)


async def joined_rooms(context: Context, request: Request, caller: Caller) -> Response:
    """``GET joined_rooms``."""
    del request
    rows = context.node.store.rooms_of(caller.user_id)
    return json_response({"joined_rooms": [row.room_id for row in rows if row.membership == "join"]})
