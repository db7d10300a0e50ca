"""Names of rooms, and the rooms that are shown to everybody here."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0025_directory(db: Database) -> None:
    """Both by room ID: an alias may be older than the room's first entry here."""
    db.execute(
        "CREATE TABLE aliases (alias TEXT PRIMARY KEY, room_id TEXT NOT NULL, creator TEXT NOT NULL)"
        " STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE INDEX aliases_room ON aliases (room_id)")
    db.execute("CREATE TABLE published (room_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
