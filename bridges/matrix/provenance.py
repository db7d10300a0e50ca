"""Where what stands in a room's log came from."""

from __future__ import annotations

from linearized.client import Item, MembershipChanged, RoomEvent


def came_from(item: Item, domain: str) -> bool:
    """Whether an item is what somebody at this homeserver did there, which its bridge brought into the log.
    Other homeservers have bridges of their own.
    """
    if not isinstance(item, MembershipChanged | RoomEvent):
        return False
    match item.event.get("provenance"):
        case {"protocol": "matrix", "provider": str(provider)}:
            return provider == domain
    return False
