"""What users' devices keep of messages for devices to come."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0023_archives(db: Database) -> None:
    """Archives of sealed records, each about an entry of a room."""
    db.execute(
        """
        CREATE TABLE archives (
            archive_nr INTEGER PRIMARY KEY,
            user_id TEXT NOT NULL,
            room_id TEXT NOT NULL,
            archive BLOB NOT NULL,
            records INTEGER NOT NULL, -- numbered from 1 to this
            bytes INTEGER NOT NULL,
            UNIQUE (user_id, archive)
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE archive_records (
            archive_nr INTEGER NOT NULL,
            number INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            event_id TEXT NOT NULL,
            tag BLOB NOT NULL,
            expires_ts INTEGER,
            stub BLOB NOT NULL,
            sealed BLOB, -- NULL once it expired or was released
            release BLOB,
            PRIMARY KEY (archive_nr, number)
        ) STRICT
        """
    )
    db.execute("CREATE INDEX archive_records_tags ON archive_records (archive_nr, tag)")
    db.execute(
        "CREATE INDEX archive_records_expiry ON archive_records (expires_ts)"
        " WHERE expires_ts IS NOT NULL AND sealed IS NOT NULL"
    )
