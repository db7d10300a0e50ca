"""Fan-out by tokens; and what clients read: receipts, relations, profiles, sessions that are renewed."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations
from linearized.store.sqlite_relations import put_relations


@migrations()
def m0018_fanout_tokens(db: Database) -> None:
    """By what tokens a room's messages go to a provider's clients as fan-out requests."""
    db.execute(
        """
        CREATE TABLE fanout_tokens (
            room_id TEXT NOT NULL,
            provider TEXT NOT NULL,
            client TEXT NOT NULL,
            token BLOB NOT NULL,
            PRIMARY KEY (room_id, provider, client)
        ) STRICT, WITHOUT ROWID
        """
    )


@migrations()
def m0019_receipts(db: Database) -> None:
    """How far each user has read each room."""
    db.execute(
        """
        CREATE TABLE receipts (
            room_nr INTEGER NOT NULL,
            user_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            thread_id TEXT NOT NULL, -- empty: of the whole room
            event_id TEXT NOT NULL,
            seq INTEGER NOT NULL,
            ts INTEGER NOT NULL,
            position INTEGER NOT NULL,
            PRIMARY KEY (room_nr, user_id, kind, thread_id)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE UNIQUE INDEX receipts_position ON receipts (position)")
    db.execute("CREATE INDEX receipts_news ON receipts (room_nr, position)")


@migrations()
def m0020_relations(db: Database) -> None:
    """Which entries relate to which, to be found from the other end."""
    db.execute(
        """
        CREATE TABLE relations (
            room_nr INTEGER NOT NULL,
            parent TEXT NOT NULL,
            seq INTEGER NOT NULL,
            rel_type TEXT NOT NULL,
            PRIMARY KEY (room_nr, parent, seq)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX relations_threads ON relations (room_nr, seq) WHERE rel_type = 'm.thread'")
    put_relations(db.conn, db.execute("SELECT id, pdu FROM entries ORDER BY id"))


@migrations()
def m0021_profiles(db: Database) -> None:
    """What users show of themselves, the rooms they forgot, and sessions that are renewed."""
    db.execute(
        "CREATE TABLE profiles (user_id TEXT PRIMARY KEY, displayname TEXT, avatar_url TEXT)"
        " STRICT, WITHOUT ROWID"
    )
    db.execute(
        """
        CREATE TABLE forgotten (
            user_id TEXT NOT NULL,
            room_nr INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (user_id, room_nr)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("ALTER TABLE devices ADD COLUMN expires_ts INTEGER")
    for name in ("refresh_hash", "spent_refresh_hash", "spent_token_hash"):
        db.execute(f"ALTER TABLE devices ADD COLUMN {name} TEXT")
        db.execute(f"CREATE INDEX devices_{name} ON devices ({name}) WHERE {name} IS NOT NULL")
