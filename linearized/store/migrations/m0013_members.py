"""Large groups, and who their members are: codes, pseudonyms, leaves, account data."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0013_large_groups(db: Database) -> None:
    """Commits are found without reading the messages between them: those since a group was written out. What
    is for many devices is stored once: a Welcome with its tree.
    """
    db.execute("CREATE INDEX entries_commits ON entries (id) WHERE type = 'm.mls.commit'")
    db.execute("CREATE TABLE to_device_contents (number INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT")
    db.execute("ALTER TABLE to_device ADD COLUMN shared INTEGER")
    db.execute("CREATE INDEX to_device_shared ON to_device (shared) WHERE shared IS NOT NULL")
    db.execute(
        """
        CREATE TRIGGER to_device_last AFTER DELETE ON to_device
        WHEN old.shared IS NOT NULL AND NOT EXISTS (SELECT 1 FROM to_device WHERE shared = old.shared)
        BEGIN DELETE FROM to_device_contents WHERE number = old.shared; END
        """
    )


@migrations()
def m0014_join_codes(db: Database) -> None:
    """Joining codes, and whom they let in."""
    db.execute(
        """
        CREATE TABLE join_codes (
            room_id TEXT NOT NULL,
            digest BLOB NOT NULL,
            creator TEXT NOT NULL,
            uses_left INTEGER NOT NULL,
            expires_ts INTEGER NOT NULL,
            PRIMARY KEY (room_id, digest)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE admissions (
            room_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            creator TEXT NOT NULL,
            digest BLOB NOT NULL,
            member_event_id TEXT NOT NULL,
            expires_ts INTEGER NOT NULL,
            PRIMARY KEY (room_id, user_id)
        ) STRICT, WITHOUT ROWID
        """
    )


@migrations()
def m0015_pseudonyms(db: Database) -> None:
    """Whose a pseudonym is, and the room it is for."""
    db.execute(
        """
        CREATE TABLE pseudonyms (
            user_id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            room_id TEXT,
            created_ts INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX pseudonyms_owner ON pseudonyms (owner)")


@migrations()
def m0016_followed_groups(db: Database) -> None:
    """Whose the leaves of a followed room's group are, so that its users' memberships end."""
    db.execute(
        "CREATE TABLE followed_groups (room_nr INTEGER PRIMARY KEY REFERENCES rooms, leaves BLOB NOT NULL)"
        " STRICT"
    )


@migrations()
def m0017_account_data(db: Database) -> None:
    """What a user's clients keep with us, for the account and for its rooms."""
    db.execute(
        """
        CREATE TABLE account_data (
            user_id TEXT NOT NULL,
            room_id TEXT NOT NULL, -- empty: of the account
            type TEXT NOT NULL,
            content BLOB NOT NULL,
            position INTEGER NOT NULL,
            PRIMARY KEY (user_id, room_id, type)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE UNIQUE INDEX account_data_news ON account_data (user_id, position)")
