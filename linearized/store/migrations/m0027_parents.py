"""Rooms that depend on others."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0027_parents(db: Database) -> None:
    """What the create events of rooms say; the parent may be a room that is not here."""
    db.execute("CREATE TABLE parents (room_nr INTEGER PRIMARY KEY, parent TEXT NOT NULL) STRICT")
    db.execute("CREATE INDEX parents_parent ON parents (parent)")
