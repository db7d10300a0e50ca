"""``POST user_directory/search``: people by name, among those the caller shares a room with and no others."""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import integer, text
from linearized.server.histories import MEMBER_TYPE
from linearized.server.http import Request, Response, json_response
from linearized.server.redactions import told_content
from linearized.store.base import Store

DEFAULT_LIMIT: Final = 10  # "Defaults to 10"
MAX_LIMIT: Final = 50
MAX_TERM: Final = 255
# Memberships looked through: a person in more than that is asked to type names whole elsewhere.
MAX_SCANNED: Final = 20_000


async def search(context: Context, request: Request, caller: Caller) -> Response:
    """Those whose user ID holds the term, or whose display name does: of users of this server that of their
    profile, of others only what the room says can be shown.
    """
    body = await request.json()
    term = text(body, "search_term", limit=MAX_TERM).casefold().strip()
    limit = min(integer(body, "limit") if "limit" in body else DEFAULT_LIMIT, MAX_LIMIT)
    context.node.query_limit.take(caller.user_id)
    store = context.node.store
    rooms, complete = _people(store, caller.user_id)
    found: list[JsonObject] = []
    limited = not complete
    for user_id in sorted(rooms) if term else []:
        name = store.profile(user_id).displayname
        if term in user_id.casefold() or (name is not None and term in name.casefold()):
            if len(found) == limit:
                limited = True
                break
            found.append(_shown(store, user_id, rooms[user_id]))
    return json_response({"results": found, "limited": limited})


def _people(store: Store, user_id: str) -> tuple[dict[str, str], bool]:
    """Who shares a room with the user, each with one such room, and whether these are all."""
    found: dict[str, str] = {}
    scanned = 0
    for mine in store.rooms_of(user_id):
        if mine.membership != "join":
            continue
        members = store.memberships(mine.room_id)
        scanned += len(members)
        if scanned > MAX_SCANNED:
            return found, False
        for row in members:
            if row.membership == "join" and row.user_id != user_id:
                found.setdefault(row.user_id, mine.room_id)
    return found, True


def _shown(store: Store, user_id: str, room_id: str) -> JsonObject:
    profile, room = store.profile(user_id), store.room(room_id)
    names = {"displayname": profile.displayname, "avatar_url": profile.avatar_url}
    if room is not None and not any(names.values()):
        entry = store.state_entry(room_id, MEMBER_TYPE, user_id, seq=room.head_seq)
        content = told_content(store, entry) if entry is not None else {}
        names = {name: content.get(name) for name in names}
    shown = {"user_id": user_id, "display_name": names["displayname"], "avatar_url": names["avatar_url"]}
    return {name: value for name, value in shown.items() if isinstance(value, str)}
