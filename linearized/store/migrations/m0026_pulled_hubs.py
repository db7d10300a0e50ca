"""Hubs that we fetch from because a room moved there."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0026_pulled_hubs(db: Database) -> None:
    """By name; those in the settings are not here."""
    db.execute("CREATE TABLE pulled_hubs (hub TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
