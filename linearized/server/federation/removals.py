"""What a hub tells us of a room that we have no copy of.

An invite of a user of ours was taken back, a knock denied, or the user banned.
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.identifiers import user_domain
from linearized.protocol.versions import get_version
from linearized.server.hub_chain import verify_sent
from linearized.server.node import Node
from linearized.store.base import MembershipRow, RoomAppend, RoomRow

MEMBER: Final = "m.room.member"
_WAITING: Final = frozenset({"invite", "knock"})
_GONE: Final = frozenset({"leave", "ban"})


async def take(node: Node, row: RoomRow, pdu: JsonObject, origin: str) -> None:
    """Take a hub's word that a user of ours waits no longer; anything else is skipped.

    "If the server is not participating in the room, the event is dropped/skipped" (draft, send).

    Raises:
        InvalidInput: it would be such an event, but its format, signatures or hashes are wrong.
    """
    if pdu.get("type") != MEMBER or origin != row.hub:
        return
    version = get_version(row.version)
    event = parse_pdu(pdu, version)
    user_id, membership = event.state_key or "", event.content.get("membership")
    known = _waiting(node, row, user_id)
    if (
        not known
        or membership not in _GONE
        or event.room_id != row.room_id
        or (event.hub_server or user_domain(event.sender)) != row.hub
    ):
        return
    await verify_sent(node, event, version)
    await _note(node, row, event, str(membership))


def _waiting(node: Node, row: RoomRow, user_id: str) -> bool:
    member = node.store.membership(row.room_id, user_id)
    return (
        member is not None
        and member.membership in _WAITING
        and user_id.partition(":")[2] in node.served_domains
    )


async def _note(node: Node, row: RoomRow, event: Event, membership: str) -> None:
    user_id = event.state_key or ""
    await node.store.append(
        RoomAppend(
            room_id=row.room_id,
            memberships=(MembershipRow(room_id=row.room_id, user_id=user_id, membership=membership, seq=0),),
        )
    )
    node.notifier.users_changed([user_id])
