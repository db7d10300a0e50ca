"""Activity of rooms in SQLite."""

from __future__ import annotations

from collections.abc import Collection

import orjson

from linearized.store.activity import ActiveRoom
from linearized.store.base import MembershipRow, Role, RoomRow
from linearized.store.sqlite_keys import SEQ_BITS
from linearized.store.sqlite_reader import Reader

# A membership that no entry set came with the append whose entries, if any, are those behind it.
_ROOMS = """
SELECT r.room_id, r.version, r.role, r.hub, r.head_seq, r.epoch, m.membership, m.seq,
    CASE m.membership WHEN 'join' THEN r.position ELSE coalesce((
        SELECT s.position FROM stream s WHERE s.room_nr = r.room_nr
        AND s.first_seq <= m.seq + (r.role = 'follower' OR r.head_seq = 0) ORDER BY s.position DESC LIMIT 1
    ), 0) END AS active,
    (SELECT e.sender FROM entries e WHERE e.id = (r.room_nr << 32) + m.seq
        AND e.type = 'm.room.member' AND e.state_key = m.user_id)
FROM memberships m CROSS JOIN rooms r ON r.room_nr = m.room_nr WHERE m.user_id = ?1
ORDER BY active DESC, r.room_id
"""
_LAST_OF_TYPES = """
SELECT s.position FROM stream s WHERE s.room_nr = ?1 AND s.first_seq <= (
    SELECT id & 4294967295 FROM entries WHERE id BETWEEN ?2 AND ?3
    AND type IN (SELECT value FROM json_each(?4)) ORDER BY id DESC LIMIT 1
) ORDER BY s.position DESC LIMIT 1
"""


class ActivityReads(Reader):
    """The reads of ``ActivityStore``."""

    def rooms_by_activity(self, user_id: str) -> list[ActiveRoom]:
        """The user's rooms, whatever their membership, the most recently active first."""
        return [
            ActiveRoom(
                row=MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=seq),
                room=RoomRow(
                    room_id=room_id, version=version, role=Role(role), hub=hub, head_seq=head, epoch=epoch
                ),
                position=position,
                set_by=set_by,
            )
            for (
                room_id,
                version,
                role,
                hub,
                head,
                epoch,
                membership,
                seq,
                position,
                set_by,
            ) in self._query(_ROOMS, user_id)
        ]

    def last_of_types(self, room_id: str, types: Collection[str], *, until: int, depth: int) -> int:
        """The position of the latest entry of one of the types, or 0."""
        number = self._room_number(room_id)
        if number is None or until <= 0:
            return 0
        base, kinds = number << SEQ_BITS, orjson.dumps(sorted(types)).decode()
        rows = self._query(_LAST_OF_TYPES, number, base + max(1, until - depth + 1), base + until, kinds)
        return rows[0][0] if rows else 0
