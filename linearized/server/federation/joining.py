"""Joins, leaves and knocks from servers outside a room: make a template, take what came of it.

Draft, Make and Send Handshake.
"""

from __future__ import annotations

from linearized.protocol.authorization import authorize, select_auth_events
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import is_user_id, user_domain
from linearized.protocol.versions import get_version
from linearized.server.federation import lpdus
from linearized.server.federation.calls import Call, hub_room, not_found
from linearized.server.federation.events import auth_chain, join_pdus
from linearized.server.http import HttpError, Response, json_response
from linearized.server.invites import stripped_state
from linearized.store.base import EntryRow, RoomRow

MEMBER = "m.room.member"


async def make_join(call: Call) -> Response:
    """``GET /make_join/{roomId}/{userId}?ver=``."""
    return json_response(_make_versioned(call, "join"))


async def make_knock(call: Call) -> Response:
    """``GET /make_knock/{roomId}/{userId}?ver=``."""
    return json_response(_make_versioned(call, "knock"))


async def make_leave(call: Call) -> Response:
    """``GET /make_leave/{roomId}/{userId}``."""
    row = hub_room(call, call.param("room_id"))
    return json_response({"event": _template(call, row, "leave"), "room_version": row.version})


async def send_join(call: Call) -> Response:
    """``POST /send_join/{txnId}``: the state before the join, its auth chain, and the event it became."""
    row, entry = await _append(call, "join")
    before = call.node.store.state_at(row.room_id, seq=entry.seq - 1)
    chain = await auth_chain(call.node, before)
    parts = (
        b'{"state":',
        join_pdus(before),
        b',"auth_chain":',
        join_pdus(chain),
        b',"event":',
        entry.pdu,
        b"}",
    )
    return Response(body=b"".join(parts))


async def send_leave(call: Call) -> Response:
    """``POST /send_leave/{txnId}``: an empty object."""
    await _append(call, "leave")
    return json_response({})


async def send_knock(call: Call) -> Response:
    """``POST /send_knock/{txnId}``: what a user outside may know of the room."""
    row, _ = await _append(call, "knock")
    return json_response({"stripped_state": stripped_state(call.node.rooms.state(row.room_id))})


def _make_versioned(call: Call, membership: str) -> JsonObject:
    row = hub_room(call, call.param("room_id"))
    template = _template(call, row, membership)
    # "If the room version is not one of the ver strings the sender supplied, a 400 Bad Request HTTP status
    # code is returned alongside M_INCOMPATIBLE_ROOM_VERSION error code".
    if row.version not in call.request.query.get("ver", []):
        raise HttpError(
            400,
            "M_INCOMPATIBLE_ROOM_VERSION",
            f"The room has version {row.version}",
            room_version=row.version,
        )
    # The draft answers the bare template here and wraps it in make_leave; an existing peer wraps it
    # everywhere. Both find what they look for, and "the sending server SHOULD remove all other fields".
    return {**template, "event": template, "room_version": row.version}


def _template(call: Call, row: RoomRow, membership: str) -> JsonObject:
    """The partial LPDU of a membership change that the rules allow now.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` if the user is not the caller's.
        AuthorizationError: the rules forbid the change.
    """
    user_id = call.param("user_id")
    if not is_user_id(user_id):
        raise HttpError(400, "M_INVALID_PARAM", "That is no user ID")
    if user_domain(user_id) != call.origin:
        raise HttpError(403, "M_FORBIDDEN", "The user belongs to another server")
    now, hub = call.node.clock(), call.node.identity.name
    template: JsonObject = {
        "room_id": row.room_id,
        "type": MEMBER,
        "state_key": user_id,
        "sender": user_id,
        "origin_server_ts": now,
        "hub_server": hub,
        "content": {"membership": membership},
    }
    state = call.node.rooms.state(row.room_id)
    content: JsonObject = template["content"]
    version = get_version(row.version)
    chosen = select_auth_events(
        type=MEMBER, state_key=user_id, sender=user_id, content=content, state=state, version=version
    )
    future = Event(
        event_id="",
        room_id=row.room_id,
        type=MEMBER,
        state_key=user_id,
        sender=user_id,
        origin_server_ts=now,
        content=content,
        hub_server=hub,
        auth_events=tuple(chosen),
        prev_events=(),
        provenance=None,
        pdu=template,
        raw=b"",
    )
    authorize(future, state, version=version, first_commit_seen=row.epoch is not None)
    return template


async def _append(call: Call, membership: str) -> tuple[RoomRow, EntryRow]:
    """Append the LPDU of a membership change; the entry it became, the same one when it is sent again."""
    lpdu = call.body
    row = hub_room(call, lpdu.get("room_id"))
    content, sender = lpdu.get("content"), lpdu.get("sender")
    if (
        lpdu.get("type") != MEMBER
        or not isinstance(content, dict)
        or content.get("membership") != membership
        or lpdu.get("state_key") != sender
        or not is_user_id(sender)
    ):
        raise HttpError(400, "M_BAD_JSON", f"The body is not the {membership} of its sender")
    if user_domain(str(sender)) != call.origin:
        raise HttpError(403, "M_FORBIDDEN", "The user belongs to another server")
    event_id = await lpdus.submit(call.node, row, lpdu, call.origin)
    entry = call.node.store.entry_by_id(event_id)
    if entry is None:
        raise not_found()
    return row, entry
