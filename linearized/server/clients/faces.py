"""What somebody may know of a room before they are in it: its face (Client-Server API, Spaces)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.aliases import room_named
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.redactions import told_content
from linearized.store.base import RoomRow, Store
from linearized.store.ways_in import ASKING, MEMBERSHIP, READING

_OPEN: Final = frozenset({(READING, ""), (ASKING, "")})
_TEXTS: Final = (
    ("m.room.name", "name", "name"),
    ("m.room.topic", "topic", "topic"),
    ("m.room.avatar", "url", "avatar_url"),
    ("m.room.canonical_alias", "alias", "canonical_alias"),
    ("m.room.encryption", "algorithm", "encryption"),
)


async def summary(context: Context, request: Request, caller: Caller) -> Response:
    """``GET room_summary/{roomId}``: of rooms this server has a copy of."""
    room_id = (await room_named(context, caller, request.params["room_id"])).room_id
    face = face_of(context, caller, room_id)
    if face is None:
        raise HttpError(404, "M_NOT_FOUND", "There is no such room that you may know of")
    row = context.views.membership_row(room_id, caller.user_id)
    return json_response({**face, **({"membership": row.membership} if row is not None else {})})


def may_know_of(context: Context, caller: Caller | None, room_id: str) -> bool:
    """Whether somebody may know of a room: one has to be in it, invited, able to join or to knock, or it has
    to be world-readable. For a room that is not there the store is asked the same.

    Args:
        caller: None for everybody.
    """
    store = context.node.store
    row = store.membership(room_id, caller.user_id) if caller is not None else None
    ways = store.ways_in(room_id)
    if (row is not None and row.membership in {"join", "invite"}) or not ways.isdisjoint(_OPEN):
        return True
    if caller is None:
        return False
    others = {via for way, via in ways if way == MEMBERSHIP}
    # Read whether there are such or not, so that nobody sees from outside that there are.
    joined = {each.room_id for each in store.rooms_of(caller.user_id) if each.membership == "join"}
    return not others.isdisjoint(joined)


def face_of(context: Context, caller: Caller, room_id: str) -> JsonObject | None:
    """A room's face, or None, whether there is no such room or the caller may not know of it."""
    return _face(context, room_id, caller)


def public_face(context: Context, room_id: str) -> JsonObject | None:
    """The face of a room that anybody may know of; None if not everybody may, or there is no such room."""
    return _face(context, room_id, None)


def _face(context: Context, room_id: str, caller: Caller | None) -> JsonObject | None:
    if not may_know_of(context, caller, room_id):
        return None
    store = context.node.store
    room = store.room(room_id)
    if room is None or room.head_seq == 0:
        return None
    rule = _content(store, room, "m.room.join_rules")
    visibility = _content(store, room, "m.room.history_visibility").get("history_visibility")
    create = _content(store, room, "m.room.create")
    guests = _content(store, room, "m.room.guest_access").get("guest_access") == "can_join"
    face: JsonObject = {
        "room_id": room_id,
        "num_joined_members": store.joined_count(room_id),
        "world_readable": visibility == "world_readable",
        "guest_can_join": guests,
        "join_rule": _text(rule, "join_rule") or "invite",
        "room_version": room.version,
    }
    found = {name: _text(_content(store, room, kind), key) for kind, key, name in _TEXTS}
    found["room_type"] = _text(create, "type")
    return face | {name: value for name, value in found.items() if value is not None}


def _content(store: Store, room: RoomRow, event_type: str) -> JsonObject:
    entry = store.state_entry(room.room_id, event_type, "", seq=room.head_seq)
    return told_content(store, entry) if entry is not None else {}


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) and value else None
