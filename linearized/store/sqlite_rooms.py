"""Reading rooms from SQLite: their logs, state, members, groups and followers."""

from __future__ import annotations

from typing import Any

from linearized.store.base import EntryRow, FollowerRow, GroupRow, MembershipRow, Role, RoomRow
from linearized.store.sqlite_keys import MAX_SEQ, SEQ_BITS, event_key
from linearized.store.sqlite_reader import Reader

# Queries are written out whole: SQLite's statement cache finds them by their text. 4294967295 is MAX_SEQ.
# The expression is that of the index ``memberships_server``.
# Named, as SQLite may think that it finds them as fast by the room alone.
_MEMBERS_OF = """SELECT user_id, membership, seq FROM memberships INDEXED BY memberships_server
WHERE room_nr = ?1 AND substr(user_id, instr(user_id, ':') + 1) = ?2"""
# One question, and one look-up in either table, whether there is such a room or not.
_MEMBERSHIP = """
SELECT membership, seq FROM memberships
WHERE room_nr = coalesce((SELECT room_nr FROM rooms WHERE room_id = ?1), 0) AND user_id = ?2
"""
_ROOM = "SELECT room_id, version, role, hub, head_seq, epoch FROM rooms WHERE room_id = ?"
_ROOMS = "SELECT room_id, version, role, hub, head_seq, epoch FROM rooms ORDER BY room_nr"
_ENTRIES = """
SELECT id & 4294967295, event_id, type, state_key, sender, origin_server_ts, epoch, pdu
FROM entries WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?
"""
_ENTRIES_BEFORE = """
SELECT id & 4294967295, event_id, type, state_key, sender, origin_server_ts, epoch, pdu
FROM entries WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?
"""
_ENTRY_BY_ID = """
SELECT r.room_id, e.id & 4294967295, e.event_id, e.type, e.state_key, e.sender, e.origin_server_ts, e.epoch,
e.pdu FROM entries e JOIN rooms r ON r.room_nr = e.id >> 32 WHERE e.event_key = ? AND e.event_id = ?
"""
_STATE_AT = """
SELECT e.id & 4294967295, e.event_id, e.type, e.state_key, e.sender, e.origin_server_ts, e.epoch, e.pdu
FROM entries e JOIN (
    SELECT (?1 << 32) + max(seq) AS id FROM state
    WHERE room_nr = ?1 AND seq <= ?2 AND (?3 OR type != 'm.room.member') GROUP BY type, state_key
) s ON e.id = s.id ORDER BY e.id
"""
_STATE_ENTRY = """
SELECT id & 4294967295, event_id, type, state_key, sender, origin_server_ts, epoch, pdu
FROM entries WHERE id = (
    SELECT (?1 << 32) + seq FROM state WHERE room_nr = ?1 AND type = ?2 AND state_key = ?3 AND seq <= ?4
    ORDER BY seq DESC LIMIT 1
)
"""
# The types are written out: only so does SQLite find the indexes on proposals and commits.
_PROPOSALS = """
SELECT id & 4294967295, event_id, type, state_key, sender, origin_server_ts, epoch, pdu
FROM entries WHERE type = 'm.mls.proposal' AND id BETWEEN ? AND ? ORDER BY id LIMIT ?
"""
_COMMITS = _PROPOSALS.replace("m.mls.proposal", "m.mls.commit")
_LAST_COMMIT = _COMMITS.replace("ORDER BY id", "ORDER BY id DESC")
_CHANGED_ROOMS = """
SELECT r.room_id, (
    SELECT s.first_seq FROM stream s WHERE s.room_nr = r.room_nr AND s.position > ?1 ORDER BY s.position LIMIT
    1
) FROM rooms r WHERE r.position > ?1
"""
_FOLLOWERS = """
SELECT r.room_id, f.provider, f.protocol, f.cursor, f.stop_seq
FROM followers f JOIN rooms r USING (room_nr) ORDER BY room_nr, provider, protocol
"""
_FOLLOWERS_OF_ROOM = """
SELECT r.room_id, f.provider, f.protocol, f.cursor, f.stop_seq
FROM followers f JOIN rooms r USING (room_nr) WHERE f.room_nr = ? ORDER BY provider, protocol
"""


class RoomReads(Reader):
    """Reads about rooms."""

    def room(self, room_id: str) -> RoomRow | None:
        """The room, or None."""
        rows = self._query(_ROOM, room_id)
        return _room(rows[0]) if rows else None

    def rooms(self) -> list[RoomRow]:
        """All rooms, oldest first."""
        return [_room(row) for row in self._query(_ROOMS)]

    def entries(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq > after``, ascending, at most ``limit``."""
        return self._entries(_ENTRIES, room_id, max(after, 0) + 1, MAX_SEQ, limit)

    def entries_before(self, room_id: str, *, before: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq < before``, descending, at most ``limit``."""
        return self._entries(_ENTRIES_BEFORE, room_id, 1, min(before - 1, MAX_SEQ), limit)

    def proposals(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """The ``m.mls.proposal`` entries with ``seq > after``, ascending, at most ``limit``."""
        return self._entries(_PROPOSALS, room_id, max(after, 0) + 1, MAX_SEQ, limit)

    def commit_before(self, room_id: str, *, seq: int) -> EntryRow | None:
        """The last ``m.mls.commit`` entry before entry ``seq``, or None."""
        found = self._entries(_LAST_COMMIT, room_id, 1, seq - 1, 1)
        return found[0] if found else None

    def commit_entries(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """The ``m.mls.commit`` entries with ``seq > after``, ascending, at most ``limit``."""
        return self._entries(_COMMITS, room_id, max(after, 0) + 1, MAX_SEQ, limit)

    def _entries(self, sql: str, room_id: str, first: int, last: int, limit: int) -> list[EntryRow]:
        number = self._room_number(room_id)
        if number is None or first > last or limit <= 0:
            return []
        base = number << SEQ_BITS
        rows = self._query(sql, base + first, base + last, limit)
        return [entry_of(room_id, row) for row in rows]

    def entry_by_id(self, event_id: str) -> EntryRow | None:
        """The entry with this event ID, in whichever room."""
        rows = self._query(_ENTRY_BY_ID, event_key(event_id), event_id)
        return entry_of(rows[0][0], rows[0][1:]) if rows else None

    def state_at(self, room_id: str, *, seq: int, members: bool = True) -> list[EntryRow]:
        """The state entries in force after entry ``seq``, in log order; without memberships if not
        ``members``.
        """
        number = self._room_number(room_id)
        if number is None:
            return []
        rows = self._query(_STATE_AT, number, seq, members)
        return [entry_of(room_id, row) for row in rows]

    def state_entry(self, room_id: str, event_type: str, state_key: str, *, seq: int) -> EntryRow | None:
        """The state entry of one type and key in force after entry ``seq``, or None."""
        rows = self._query(_STATE_ENTRY, self._room_number(room_id), event_type, state_key, seq)
        return entry_of(room_id, rows[0]) if rows else None

    def memberships(self, room_id: str) -> list[MembershipRow]:
        """Everybody who has or had a membership in the room."""
        number = self._room_number(room_id)
        rows = self._query("SELECT user_id, membership, seq FROM memberships WHERE room_nr = ?", number)
        return [
            MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=seq)
            for user_id, membership, seq in rows
        ]

    def members_of(self, room_id: str, server: str) -> list[MembershipRow]:
        """The same for the users of one server."""
        rows = self._query(_MEMBERS_OF, self._room_number(room_id), server)
        return [
            MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=seq)
            for user_id, membership, seq in rows
        ]

    def membership(self, room_id: str, user_id: str) -> MembershipRow | None:
        """The user's in the room, or None if they never had one."""
        rows = self._query(_MEMBERSHIP, room_id, user_id)
        for membership, seq in rows:
            return MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=seq)
        return None

    def rooms_of(self, user_id: str) -> list[MembershipRow]:
        """The user's memberships, whatever they are, in all rooms."""
        rows = self._query(
            "SELECT r.room_id, m.membership, m.seq FROM memberships m JOIN rooms r USING (room_nr)"
            " WHERE m.user_id = ? ORDER BY room_nr",
            user_id,
        )
        return [
            MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=seq)
            for room_id, membership, seq in rows
        ]

    def followed_group(self, room_id: str) -> bytes | None:
        """What ``RoomAppend.followed`` last set for the room, or None."""
        rows = self._query("SELECT leaves FROM followed_groups WHERE room_nr = ?", self._room_number(room_id))
        return rows[0][0] if rows else None

    def group(self, room_id: str) -> GroupRow | None:
        """The room's MLS group, or None."""
        rows = self._query(
            "SELECT epoch, snapshot, group_info, ratchet_tree, commit_event_id FROM groups WHERE room_nr = ?",
            self._room_number(room_id),
        )
        for epoch, snapshot, group_info, ratchet_tree, commit_event_id in rows:
            return GroupRow(
                room_id=room_id,
                epoch=epoch,
                snapshot=snapshot,
                group_info=group_info,
                ratchet_tree=ratchet_tree,
                commit_event_id=commit_event_id,
            )
        return None

    def position(self) -> int:
        """The global position of the newest change of a room."""
        position: int = self._query("SELECT coalesce(max(position), 0) FROM rooms")[0][0]
        return position

    def changed_rooms(self, since: int) -> dict[str, int]:
        """Rooms changed after global position ``since``, each with its first new ``seq``.

        A room whose memberships were set without an entry counts, with the ``seq`` its next entry will have.
        """
        return dict(self._query(_CHANGED_ROOMS, since))

    def followers(self, room_id: str | None = None) -> list[FollowerRow]:
        """The followers of one room, or of all."""
        if room_id is None:
            return [_follower(row) for row in self._query(_FOLLOWERS)]
        found = self._followed.get(room_id)
        if found is None:
            rows = self._query(_FOLLOWERS_OF_ROOM, self._room_number(room_id))
            found = [_follower(row) for row in rows]
            self._followed.keep(room_id, found)
        return list(found)

    def cursors(self, room_id: str, provider: str) -> list[FollowerRow]:
        """A provider's cursors in a room, one for each protocol it followed by."""
        return [row for row in self.followers(room_id) if row.provider == provider]


def _follower(row: tuple[Any, ...]) -> FollowerRow:
    room_id, provider, protocol, cursor, stop_seq = row
    return FollowerRow(
        room_id=room_id, provider=provider, protocol=protocol, cursor=cursor, stop_seq=stop_seq
    )


def _room(row: tuple[Any, ...]) -> RoomRow:
    room_id, version, role, hub, head_seq, epoch = row
    return RoomRow(room_id=room_id, version=version, role=Role(role), hub=hub, head_seq=head_seq, epoch=epoch)


def entry_of(room_id: str, row: tuple[Any, ...]) -> EntryRow:
    """An entry from its columns, ``seq`` to ``pdu``."""
    seq, event_id, type_, state_key, sender, origin_server_ts, epoch, pdu = row
    return EntryRow(
        room_id=room_id,
        seq=seq,
        event_id=event_id,
        type=type_,
        state_key=state_key,
        sender=sender,
        origin_server_ts=origin_server_ts,
        epoch=epoch,
        pdu=pdu,
    )
