"""By what outsiders may know of rooms."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations
from linearized.store.sqlite_ways_in import put_ways_in


@migrations()
def m0029_ways_in(db: Database) -> None:
    """See ``store.ways_in``; worked out for the rooms that there are."""
    db.execute(
        """
        CREATE TABLE ways_in (
            room_id TEXT NOT NULL, -- as clients ask: one look-up, of rooms that are not there too
            way TEXT NOT NULL,
            via TEXT NOT NULL, -- the other room, where the way is by membership of one
            PRIMARY KEY (room_id, way, via)
        ) STRICT, WITHOUT ROWID
        """
    )
    rows = db.execute(
        "SELECT r.room_id, e.type, e.state_key, e.pdu FROM state s"
        " JOIN rooms r ON r.room_nr = s.room_nr JOIN entries e ON e.id = (s.room_nr << 32) + s.seq"
        " WHERE s.type IN ('m.room.history_visibility', 'm.room.join_rules') AND s.state_key = ''"
        " ORDER BY e.id"
    ).fetchall()
    for room_id, *event in rows:
        put_ways_in(db.conn, room_id, [tuple(event)])
