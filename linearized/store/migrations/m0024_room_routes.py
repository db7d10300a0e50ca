"""Key packages by the room they were handed out for."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0024_room_routes(db: Database) -> None:
    """At which provider the key packages live that were handed out for a room: they move with it."""
    db.execute(
        """
        CREATE TABLE room_routes (
            room_id TEXT NOT NULL,
            reference BLOB NOT NULL,
            provider TEXT NOT NULL,
            expires_ms INTEGER NOT NULL,
            PRIMARY KEY (room_id, reference)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX room_routes_expiry ON room_routes (expires_ms)")
