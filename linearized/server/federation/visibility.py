"""How much of a room another server may see.

The draft leaves this open ("Describe. (when can a server see an event?)"). Here: a server with a joined user
sees the room; one whose last user has left sees it up to that user's leaving; a world-readable room is seen
by everybody. For anybody else the room does not exist.
"""

from __future__ import annotations

from linearized.protocol.identifiers import user_domain
from linearized.server.node import Node
from linearized.store.base import MembershipRow, RoomRow

MEMBER = "m.room.member"
MAX_STEPS = 8  # membership changes after leaving (ban, unban, invite …) we look behind to find a join


def visible_until(node: Node, row: RoomRow, server: str) -> int | None:
    """The ``seq`` of the last entry a server may see; None if it may see none."""
    members = [m for m in node.store.memberships(row.room_id) if user_domain(m.user_id) == server]
    if any(member.membership == "join" for member in members) or _world_readable(node, row):
        return row.head_seq
    return max((left for member in members if (left := _left_at(node, member)) is not None), default=None)


def _world_readable(node: Node, row: RoomRow) -> bool:
    rule = node.rooms.state(row.room_id).get(("m.room.history_visibility", ""))
    return rule is not None and rule.content.get("history_visibility") == "world_readable"


def _left_at(node: Node, member: MembershipRow) -> int | None:
    """The entry by which a user who once was joined ceased to be; None if they never were."""
    seq = member.seq
    for _ in range(MAX_STEPS):
        before = node.rooms.state(member.room_id, seq=seq - 1).get((MEMBER, member.user_id))
        if before is None:
            return None
        if before.content.get("membership") == "join":
            return seq
        entry = node.store.entry_by_id(before.event_id)
        if entry is None:
            return None
        seq = entry.seq
    return None
