"""Redactions, to be found by what they redact."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations
from linearized.store.sqlite_relations import put_relations


@migrations()
def m0022_redactions(db: Database) -> None:
    """They stand among the relations, as a kind that no relation has."""
    db.execute("DELETE FROM relations WHERE rel_type = ''")
    put_relations(
        db.conn, db.execute("SELECT id, pdu FROM entries WHERE type = 'm.room.redaction' ORDER BY id")
    )
