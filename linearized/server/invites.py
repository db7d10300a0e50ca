"""Invites to servers that are not in the room yet: the target's server is asked before the invite is
appended.

The draft has the hub append the event after the target's server has signed it. Another entry may take its
place in the log meanwhile, which would change what was signed; so we show the target's server the event as it
would be, append the invite when it agrees, and let its signature go (nobody checks it: "Do we ever validate
the target server's signature?", Invites). See docs/divergence.md.
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap, transfer_of
from linearized.server.endpoints import UNSTABLE
from linearized.server.exchange import HUB_EVENTS
from linearized.server.hub_chain import hub_events_of
from linearized.server.node import Node
from linearized.store.base import RoomRow

# "the following events SHOULD be included if present in the current room state itself" (Stripped State).
STRIPPED: Final = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
)
INVITE: Final = UNSTABLE + "/invite/{txn}"


def stripped_state(state: StateMap) -> list[JsonObject]:
    """The room's face for somebody outside: "MUST only have sender, type, state_key, and content"."""
    found = [state.get((event_type, "")) for event_type in STRIPPED]
    return [
        {
            "sender": event.sender,
            "type": event.type,
            "state_key": event.state_key,
            "content": event.content,
        }
        for event in found
        if event is not None
    ]


def is_outside(node: Node, row: RoomRow, target: str) -> bool:
    """Whether a user's server has to be asked: it is not ours and takes no part in the room yet."""
    server = user_domain(target)
    return server not in node.served_domains and not node.rooms.is_participant(row.room_id, server)


async def offer(node: Node, row: RoomRow, event: Event, state: StateMap) -> None:
    """Ask the target's server to take an invite.

    Raises:
        OutboundError: it refused (with its own code) or did not answer.
    """
    server = user_domain(event.state_key or "")
    body: JsonObject = {
        "event": event.pdu,
        "invite_room_state": stripped_state(state),
        "room_version": row.version,
    }
    if transfer_of(state) is not None:
        body[HUB_EVENTS] = hub_events_of(node.store, state)
    txn = encode_base64url(event.event_id.encode())
    await node.federation.request(server, "POST", INVITE.format(txn=txn), json=body)
