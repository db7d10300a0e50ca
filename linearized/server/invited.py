"""Invites of our users to rooms of other hubs that we have no copy of: kept, shown, declined.

Such a room has a record and a membership and an empty log; the join fetches the rest.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import orjson

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hashing import event_id, lpdu_identity
from linearized.protocol.versions import get_version
from linearized.server.node import Node
from linearized.store.base import MembershipRow, Reply, Role, RoomAppend, RoomRow

# The stripped state of an invite: a reply of this scope, keyed "<room ID> <user ID>", its value a JSON list.
INVITE_STATE: Final = "invite state"
# Six types are asked for; more than this is not "context", and every client of the user has to take it.
MAX_STRIPPED: Final = 50
# "Stripped state events MUST only have sender, type, state_key, and content" (Stripped State).
_STRIPPED_FIELDS: Final = ("sender", "type", "state_key", "content")

UNSTABLE: Final = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02"


def has_copy(row: RoomRow) -> bool:
    """Whether we hold the room's log, or know it only from an invite.

    A room of a MIMI hub is there from its Welcome on, before anything was said in it.
    """
    return row.role is not Role.PARTICIPANT or row.head_seq > 0


async def note_invite(
    node: Node, event: Event, *, hub: str, version: str, stripped: list[JsonObject]
) -> None:
    """Keep a verified invite from a hub until its user answers it.

    In a room that we have a copy of, the invite arrives as an event of the log instead.
    """
    row = node.store.room(event.room_id)
    if row is not None and has_copy(row):
        return
    target = event.state_key or ""
    shown = [
        {name: item[name] for name in _STRIPPED_FIELDS if name in item} for item in stripped[:MAX_STRIPPED]
    ]
    invite = {name: event.pdu[name] for name in _STRIPPED_FIELDS}
    await node.store.append(
        RoomAppend(
            room_id=event.room_id,
            room=_row(event.room_id, hub, version),
            memberships=(_membership(event.room_id, target, "invite"),),
            replies=(
                Reply(
                    scope=INVITE_STATE,
                    key=f"{event.room_id} {target}",
                    value=orjson.dumps([*shown, invite]).decode(),
                ),
            ),
        )
    )
    node.notifier.users_changed([target])


async def decline(node: Node, row: RoomRow, user_id: str) -> str:
    """Turn an invite down at the room's hub (make_leave, send_leave); the event ID of the LPDU that did it.

    Raises:
        OutboundError: the hub refused or did not answer.
    """
    target = f"{quote(row.room_id, safe='')}/{quote(user_id, safe='')}"
    await node.federation.request(row.hub, "GET", f"/_matrix/federation/v1/make_leave/{target}")
    version = get_version(row.version)
    lpdu = build_lpdu(
        identity=node.identity,
        version=version,
        room_id=row.room_id,
        type="m.room.member",
        sender=user_id,
        content={"membership": "leave"},
        origin_server_ts=node.clock(),
        hub_server=row.hub,
        state_key=user_id,
    )
    txn = encode_base64url(lpdu_identity(lpdu, version).encode())
    await node.federation.request(row.hub, "POST", f"{UNSTABLE}/send_leave/{txn}", json=lpdu)
    await node.store.append(
        RoomAppend(room_id=row.room_id, memberships=(_membership(row.room_id, user_id, "leave"),))
    )
    node.notifier.users_changed([user_id])
    return event_id(lpdu, version)


def _row(room_id: str, hub: str, version: str) -> RoomRow:
    return RoomRow(room_id=room_id, version=version, role=Role.PARTICIPANT, hub=hub, head_seq=0, epoch=None)


def _membership(room_id: str, user_id: str, membership: str) -> MembershipRow:
    return MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=0)
