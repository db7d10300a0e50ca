"""Relations in SQLite: beside the entries, since of most logs they are a small part."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from linearized.store.base import EntryRow
from linearized.store.relations import REDACTS, redacted_by, relation_of
from linearized.store.sqlite_keys import SEQ_BITS
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_rooms import entry_of

_RELATED = """
SELECT e.id & 4294967295, e.event_id, e.type, e.state_key, e.sender, e.origin_server_ts, e.epoch, e.pdu
FROM relations x JOIN entries e ON e.id = (?1 << 32) + x.seq
WHERE x.room_nr = ?1 AND x.parent = ?2 AND x.seq > ?3 AND x.seq < ?4 AND x.rel_type != ''
ORDER BY x.seq {} LIMIT ?5
"""
_OLDEST_FIRST = _RELATED.format("ASC")
_NEWEST_FIRST = _RELATED.format("DESC")
_RELATED_TO_ANY = """
SELECT e.id & 4294967295, e.event_id, e.type, e.state_key, e.sender, e.origin_server_ts, e.epoch, e.pdu
FROM relations x JOIN entries e ON e.id = (?1 << 32) + x.seq
WHERE x.room_nr = ?1 AND x.parent IN (SELECT value FROM json_each(?2)) AND x.seq < ?3 AND x.rel_type != ''
ORDER BY x.seq DESC LIMIT ?4
"""
_REDACTIONS = """
SELECT x.parent,
    e.id & 4294967295, e.event_id, e.type, e.state_key, e.sender, e.origin_server_ts, e.epoch, e.pdu
FROM relations x JOIN entries e ON e.id = (?1 << 32) + x.seq
WHERE x.room_nr = ?1 AND x.parent IN (SELECT value FROM json_each(?2)) AND x.rel_type = ''
ORDER BY x.seq LIMIT ?3
"""
# Of each thread the row of its latest entry.
_THREADS = """
SELECT x.parent, x.seq FROM relations x
WHERE x.room_nr = ?1 AND x.rel_type = 'm.thread' AND x.seq < ?2 AND x.seq <= ?3 AND NOT EXISTS (
    SELECT 1 FROM relations y WHERE y.room_nr = x.room_nr AND y.parent = x.parent
    AND y.rel_type = 'm.thread' AND y.seq > x.seq AND y.seq <= ?3
) ORDER BY x.seq DESC LIMIT ?4
"""


def put_relations(connection: sqlite3.Connection, entries: Iterable[tuple[int, bytes]]) -> None:
    """Note what entries, given by the integer keys they are stored under, redact or else relate to."""
    for key, pdu in entries:
        redacted = redacted_by(pdu)
        relation = relation_of(pdu) if redacted is None else (redacted, REDACTS)
        if relation is not None:
            connection.execute(
                "INSERT OR REPLACE INTO relations (room_nr, parent, seq, rel_type) VALUES (?, ?, ?, ?)",
                (key >> SEQ_BITS, relation[0], key & ((1 << SEQ_BITS) - 1), relation[1]),
            )


class RelationReads(Reader):
    """The reads of ``RelationStore``."""

    def related(
        self, room_id: str, event_id: str, *, after: int, before: int, newest_first: bool, limit: int
    ) -> list[EntryRow]:
        """Entries of a room that relate to an event, ``after < seq < before``."""
        sql = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        rows = self._query(sql, self._room_number(room_id), event_id, after, before, max(limit, 0))
        return [entry_of(room_id, row) for row in rows]

    def related_to_any(
        self, room_id: str, event_ids: Sequence[str], *, before: int, limit: int
    ) -> list[EntryRow]:
        """Entries of a room, ``seq < before``, that relate to one of the events, newest first."""
        ids = json.dumps(list(event_ids))
        rows = self._query(_RELATED_TO_ANY, self._room_number(room_id), ids, before, max(limit, 0))
        return [entry_of(room_id, row) for row in rows]

    def marked(self, room_id: str, event_ids: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Those of the events to which entries of the room relate, and those that it has redactions of."""
        rows = self._query(
            "SELECT DISTINCT parent, rel_type = '' FROM relations WHERE room_nr = ?"
            " AND parent IN (SELECT value FROM json_each(?))",
            self._room_number(room_id),
            json.dumps(list(event_ids)),
        )
        related = frozenset(parent for parent, redacts in rows if not redacts)
        return related, frozenset(parent for parent, redacts in rows if redacts)

    def redactions(self, room_id: str, event_ids: Sequence[str], *, limit: int) -> list[tuple[str, EntryRow]]:
        """Redactions in a room of these events, each with the event's ID, the oldest first."""
        ids = json.dumps(list(event_ids))
        rows = self._query(_REDACTIONS, self._room_number(room_id), ids, max(limit, 0))
        return [(row[0], entry_of(room_id, row[1:])) for row in rows]

    def relation_count(self, room_id: str, event_id: str, rel_type: str, *, last: int) -> int:
        """How many of the entries up to ``last`` relate to an event in this way."""
        count: int = self._query(
            "SELECT count(*) FROM relations WHERE room_nr = ? AND parent = ? AND rel_type = ? AND seq <= ?",
            self._room_number(room_id),
            event_id,
            rel_type,
            last,
        )[0][0]
        return count

    def threads(self, room_id: str, *, before: int, last: int, limit: int) -> list[tuple[str, int]]:
        """The events that threads start with, those with the latest entries first."""
        rows = self._query(_THREADS, self._room_number(room_id), before, last, max(limit, 0))
        return [(parent, seq) for parent, seq in rows]
