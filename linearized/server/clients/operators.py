"""What the operator sees of the rooms: how far each follower is behind, and who is in each MLS group.

Operators are the accounts in the settings. To everybody else these endpoints answer as for a room that is not
there; a member may look at the group of a room they are in, whose tree they have anyway.
"""

from __future__ import annotations

from typing import Final

import trio

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.leaf_changes import leaf_credentials
from linearized.protocol.canonical import JsonObject
from linearized.room.credentials import client_of
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import query_integer
from linearized.server.cursors import is_finished
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import FollowerRow, Role, RoomRow

# Rooms in one answer, those with the furthest follower first: what a person can look at.
MAX_ROOMS: Final = 500
# Clients in one answer: about a hundred bytes each.
MAX_MEMBERS: Final = 2_000
_MAX_LEAF: Final = 2**32 - 1  # RFC 9420: leaf indices are uint32


def is_operator(context: Context, caller: Caller) -> bool:
    """Whether the caller is an operator; a pseudonym of one is not, nor is a bridge that acts as one."""
    own = caller.bridge is None and caller.owner is None
    return own and caller.user_id in context.node.config.operators


def _require_operator(context: Context, caller: Caller) -> None:
    if not is_operator(context, caller):
        # What Views says of a room that is not there.
        raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")


async def rooms(context: Context, request: Request, caller: Caller) -> Response:
    """``GET operator/rooms``: the rooms of this server, those with the follower that is furthest behind
    first.
    """
    _require_operator(context, caller)
    limit = max(1, query_integer(request, "limit", default=MAX_ROOMS, maximum=MAX_ROOMS))
    lags: dict[str, list[int]] = {}
    known = {row.room_id: row for row in context.node.store.rooms()}
    for row in context.node.store.followers():
        follower = context.node.followers.progress.of(row)
        if follower.room_id in known and not is_finished(follower):
            lags.setdefault(follower.room_id, []).append(_lag(known[follower.room_id], follower))
    shown = sorted(known.values(), key=lambda room: max(lags.get(room.room_id, [-1])), reverse=True)
    return json_response(
        {
            "rooms": [
                {
                    **_described(room),
                    "followers": len(lags.get(room.room_id, ())),
                    "lag": max(lags.get(room.room_id, (0,))),
                }
                for room in shown[:limit]
            ],
            "total": len(shown),
        }
    )


async def room(context: Context, request: Request, caller: Caller) -> Response:
    """``GET operator/rooms/{roomId}``: one room and its followers, by provider.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``.
    """
    _require_operator(context, caller)
    row = _known(context, request.params["room_id"])
    followers = [
        _follower(context, row, context.node.followers.progress.of(follower))
        for follower in context.node.store.followers(row.room_id)
    ]
    found = sorted(followers, key=lambda each: (each["provider"], each["protocol"]))
    return json_response({**_described(row), "followers": found})


def _known(context: Context, room_id: str) -> RoomRow:
    row = context.node.store.room(room_id)
    if row is None:
        raise HttpError(404, "M_NOT_FOUND", "There is no such room")
    return row


def _described(room: RoomRow) -> JsonObject:
    described: JsonObject = {
        "room_id": room.room_id,
        "role": room.role.value,
        "hub": room.hub,
        "head_seq": room.head_seq,
    }
    if room.epoch is not None:
        described["epoch"] = room.epoch
    return described


def _lag(room: RoomRow, follower: FollowerRow) -> int:
    """Entries that a follower is to have and has not taken."""
    last = room.head_seq if follower.stop_seq is None else follower.stop_seq
    return max(0, last - follower.cursor)


def _follower(context: Context, room: RoomRow, follower: FollowerRow) -> JsonObject:
    lag = _lag(room, follower)
    described: JsonObject = {
        "provider": follower.provider,
        "protocol": follower.protocol,
        "cursor": follower.cursor,
        "lag": lag,
        "ends": follower.stop_seq is not None,
    }
    if lag:
        # Since when the first entry that it lacks has been there.
        for entry in context.node.store.entries(room.room_id, after=follower.cursor, limit=1):
            described["waiting_since_ts"] = entry.origin_server_ts
    return described


async def members(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/mls/members``: the clients in the room's group in its present epoch, by leaf index
    from ``from`` on; for members and operators. Without an ``epoch`` if the room has no group, or this server
    does not order the room, so that it keeps none.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``; to an operator, 404 ``M_NOT_FOUND``.
    """
    room_id = request.params["room_id"]
    if not is_operator(context, caller):
        context.views.require(room_id, caller.user_id, joined=True)
    first = query_integer(request, "from", default=0, maximum=_MAX_LEAF)
    limit = max(1, query_integer(request, "limit", default=MAX_MEMBERS, maximum=MAX_MEMBERS))
    group = context.node.groups.row(room_id) if _known(context, room_id).role is Role.HUB else None
    if group is None:
        return json_response({"total": 0, "members": []})
    # A tree of thousands of leaves takes a while to walk.
    leaves = await trio.to_thread.run_sync(leaf_credentials, group.ratchet_tree)
    shown = sorted(leaf for leaf in leaves if leaf >= first)
    answer: JsonObject = {
        "epoch": group.epoch,
        "total": len(leaves),
        "members": [_member(leaf, leaves[leaf]) for leaf in shown[:limit]],
    }
    if len(shown) > limit:
        answer["next"] = shown[limit]
    return json_response(answer)


def _member(leaf: int, credential: bytes) -> JsonObject:
    try:
        client = client_of(credential)
    except (IdentifierError, MimiDecodeError):  # of another kind than we read; a member all the same
        return {"leaf_index": leaf}
    return {"leaf_index": leaf, "user_id": client.user_id, "device_id": client.device_id}
