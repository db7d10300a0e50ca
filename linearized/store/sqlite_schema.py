"""The SQLite schema, as a chain of migrations.

Each migration and its record commit together (``sqlite_utils.Migrations``), so a crash leaves the database
either before or after it. A database that records a migration this version does not know was written by a
newer version and is refused rather than guessed at.

Choices that the cost of an append depends on:

- a room's ID is written once; everything else carries its ``room_nr``, a small integer;
- an entry's primary key is ``room_nr << 32 | seq``, so a page of history is one contiguous range of the
  table;
- an event is found by ``event_key``, 48 bits of a hash of its ID, and confirmed by its full ID. Event IDs
  arrive in random order, so their index is the part of the file that stops fitting into the cache first: six
  bytes instead of forty-four keep it about a third of the size;
- only state entries are indexed by type and state key.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from linearized.exceptions import SchemaTooNew, StoreError
from linearized.store.sqlite_relations import put_relations

MIGRATION_SET = "linearized"

migrations = Migrations(MIGRATION_SET)


@migrations()
def m0001_rooms(db: Database) -> None:
    """Rooms, their logs, state, members, groups, and who follows them."""
    db.execute(
        """
        CREATE TABLE rooms (
            room_nr INTEGER PRIMARY KEY,
            room_id TEXT NOT NULL UNIQUE,
            version TEXT NOT NULL,
            role TEXT NOT NULL,
            hub TEXT NOT NULL,
            head_seq INTEGER NOT NULL,
            epoch INTEGER,
            position INTEGER NOT NULL
        ) STRICT
        """
    )
    # Finds the rooms that changed since a position, and the newest position, without reading the others.
    db.execute("CREATE INDEX rooms_position ON rooms (position)")
    db.execute(
        """
        CREATE TABLE entries (
            id INTEGER PRIMARY KEY,
            event_key INTEGER NOT NULL,
            event_id TEXT NOT NULL,
            type TEXT NOT NULL,
            state_key TEXT,
            sender TEXT NOT NULL,
            origin_server_ts INTEGER NOT NULL,
            epoch INTEGER,
            pdu BLOB NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX entries_event_key ON entries (event_key)")
    # For people: `sqlite-utils rows store.sqlite3 log --where "room_id = '...'"`.
    db.execute(
        """
        CREATE VIEW log AS
        SELECT r.room_id, e.id - (r.room_nr << 32) AS seq, e.event_id, e.type, e.state_key, e.sender,
            e.origin_server_ts, e.epoch, CAST(e.pdu AS TEXT) AS pdu
        FROM rooms r JOIN entries e ON e.id BETWEEN r.room_nr << 32 AND (r.room_nr << 32) + 4294967295
        """
    )
    db.execute(
        """
        CREATE TABLE state (
            room_nr INTEGER NOT NULL,
            type TEXT NOT NULL,
            state_key TEXT NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (room_nr, type, state_key, seq)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE stream (
            room_nr INTEGER NOT NULL,
            position INTEGER NOT NULL,
            first_seq INTEGER NOT NULL,
            PRIMARY KEY (room_nr, position)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE memberships (
            room_nr INTEGER NOT NULL,
            user_id TEXT NOT NULL,
            membership TEXT NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (room_nr, user_id)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX memberships_user ON memberships (user_id)")
    db.execute(
        """
        CREATE TABLE groups (
            room_nr INTEGER PRIMARY KEY,
            epoch INTEGER NOT NULL,
            snapshot BLOB NOT NULL,
            group_info BLOB NOT NULL,
            ratchet_tree BLOB NOT NULL,
            commit_event_id TEXT NOT NULL
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE followers (
            room_nr INTEGER NOT NULL,
            provider TEXT NOT NULL,
            protocol TEXT NOT NULL,
            cursor INTEGER NOT NULL,
            stop_seq INTEGER,
            PRIMARY KEY (room_nr, provider, protocol)
        ) STRICT, WITHOUT ROWID
        """
    )


@migrations()
def m0002_accounts(db: Database) -> None:
    """Local users and their devices, messages to devices, replies, remote servers' keys, media records."""
    db.execute(
        """
        CREATE TABLE replies (
            scope TEXT NOT NULL,
            key TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (scope, key)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.create_table(
        "users",
        {"user_id": str, "password_hash": str, "created_ts": int},
        pk="user_id",
        not_null={"user_id", "created_ts"},
        strict=True,
    )
    db.create_table(
        "devices",
        {"user_id": str, "device_id": str, "display_name": str, "token_hash": str},
        pk=("user_id", "device_id"),
        not_null={"user_id", "device_id"},
        strict=True,
    )
    db.execute("CREATE UNIQUE INDEX devices_token ON devices (token_hash) WHERE token_hash IS NOT NULL")
    # AUTOINCREMENT: a position must not come back after the newest message was delivered and deleted.
    db.execute(
        """
        CREATE TABLE to_device (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            type TEXT NOT NULL,
            sender TEXT NOT NULL,
            content BLOB NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX to_device_device ON to_device (user_id, device_id)")
    db.create_table(
        "server_keys",
        {"server_name": str, "key_id": str, "key": bytes, "valid_until_ts": int, "expired_ts": int},
        pk=("server_name", "key_id"),
        not_null={"server_name", "key_id", "key", "valid_until_ts"},
        strict=True,
    )
    db.create_table(
        "media",
        {
            "media_id": str,
            "uploader": str,
            "content_type": str,
            "filename": str,
            "size": int,
            "created_ts": int,
        },
        pk="media_id",
        not_null={"media_id", "uploader", "content_type", "size", "created_ts"},
        strict=True,
    )


@migrations()
def m0003_key_packages(db: Database) -> None:
    """Key packages waiting to be claimed, and the providers that other key packages live at."""
    db.execute(
        """
        CREATE TABLE key_packages (
            reference BLOB PRIMARY KEY,
            user_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            client_uri TEXT NOT NULL,
            key_package BLOB NOT NULL,
            ciphersuite INTEGER NOT NULL,
            last_resort INTEGER NOT NULL,
            not_after INTEGER NOT NULL,
            claimed_at INTEGER
        ) STRICT
        """
    )
    db.execute(
        "CREATE INDEX key_packages_device ON key_packages"
        " (user_id, device_id, claimed_at, last_resort, ciphersuite, not_after)"
    )
    db.execute("CREATE INDEX key_packages_expiry ON key_packages (not_after)")
    db.execute(
        """
        CREATE TABLE key_package_routes (
            reference BLOB PRIMARY KEY,
            provider TEXT NOT NULL,
            expires_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX key_package_routes_expiry ON key_package_routes (expires_ms)")


@migrations()
def m0004_device_objects(db: Database) -> None:
    """What devices say of themselves, signed: those of this server's users and of users they meet."""
    db.execute(
        """
        CREATE TABLE device_objects (
            user_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (user_id, device_id)
        ) STRICT, WITHOUT ROWID
        """
    )


@migrations()
def m0005_verifiable_history(db: Database) -> None:
    """Merkle tiles, audits of other hubs' logs, and what was found wrong with them."""
    db.execute(
        """
        CREATE TABLE tree (
            room_nr INTEGER NOT NULL,
            level INTEGER NOT NULL,
            position INTEGER NOT NULL,
            hash BLOB NOT NULL,
            PRIMARY KEY (room_nr, level, position)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE audits (
            room_nr INTEGER PRIMARY KEY,
            hub TEXT NOT NULL,
            anchor_seq INTEGER NOT NULL,
            anchor_size INTEGER NOT NULL,
            anchor_frontier BLOB NOT NULL,
            size INTEGER NOT NULL,
            frontier BLOB NOT NULL,
            checkpoint TEXT NOT NULL,
            key_id TEXT NOT NULL,
            checked_at INTEGER NOT NULL
        ) STRICT
        """
    )
    # By room ID and not by number: a finding outlives everything else about a room.
    db.execute(
        """
        CREATE TABLE findings (
            digest TEXT PRIMARY KEY,
            room_id TEXT NOT NULL,
            hub TEXT NOT NULL,
            proven INTEGER NOT NULL,
            reason TEXT NOT NULL,
            document TEXT NOT NULL,
            found_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX findings_room ON findings (room_id)")


@migrations()
def m0006_hub_transfers(db: Database) -> None:
    """Logs of rooms that this server is about to order."""
    db.execute(
        """
        CREATE TABLE staged (
            room_nr INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            event_key INTEGER NOT NULL,
            event_id TEXT NOT NULL,
            type TEXT NOT NULL,
            state_key TEXT,
            sender TEXT NOT NULL,
            origin_server_ts INTEGER NOT NULL,
            epoch INTEGER,
            pdu BLOB NOT NULL,
            PRIMARY KEY (room_nr, seq)
        ) STRICT, WITHOUT ROWID
        """
    )


@migrations()
def m0007_dismissed_findings(db: Database) -> None:
    """When the operator has dealt with a finding."""
    db.execute("ALTER TABLE findings ADD COLUMN dismissed_at INTEGER")


@migrations()
def m0008_proposals(db: Database) -> None:
    """Proposals are found without reading the messages between them: those of an epoch, when a room is
    loaded.
    """
    db.execute("CREATE INDEX entries_proposals ON entries (id) WHERE type = 'm.mls.proposal'")


@migrations()
def m0009_pull(db: Database) -> None:
    """Providers that fetch what they follow, and how far we have come with the hubs that we fetch from."""
    db.execute("CREATE TABLE pull_followers (provider TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
    db.execute("CREATE TABLE pull_cursors (hub TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID")
    # Finds one provider's cursors without reading everybody's.
    db.execute("CREATE INDEX followers_provider ON followers (provider)")


@migrations()
def m0010_past_trees(db: Database) -> None:
    """Group states that new members begin with."""
    db.execute(
        """
        CREATE TABLE past_trees (
            room_nr INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            group_info BLOB NOT NULL,
            ratchet_tree BLOB NOT NULL,
            waiting TEXT NOT NULL,
            PRIMARY KEY (room_nr, epoch)
        ) STRICT
        """
    )


@migrations()
def m0011_reply_days(db: Database) -> None:
    """The day on which each reply was given, so that it can be forgotten; none for those that last."""
    db.execute("CREATE TABLE reply_day (day INTEGER NOT NULL) STRICT")
    # The one place where the database's own clock is asked: the server's sets the day from its start on.
    db.execute("INSERT INTO reply_day (day) VALUES (CAST(strftime('%s', 'now') AS INTEGER) / 86400)")
    db.execute("ALTER TABLE replies ADD COLUMN day INTEGER")
    # What was stored so far has its meaning in its scope: facts, and answers to repeatable requests.
    db.execute(
        """
        UPDATE replies SET day = (SELECT day FROM reply_day)
        WHERE scope NOT LIKE 'import %' AND scope NOT LIKE 'client-filter%' AND scope NOT LIKE 'keys of %'
            AND scope NOT LIKE 'soft-failed %' AND scope NOT IN ('invite state', 'knock state')
        """
    )
    db.execute("CREATE INDEX replies_day ON replies (day) WHERE day IS NOT NULL")


@migrations()
def m0012_contacts(db: Database) -> None:
    """Abuse reports, consent between users of different providers, and by what users can be found."""
    # AUTOINCREMENT: an operator's note about report 7 must not come to mean another one.
    db.execute(
        """
        CREATE TABLE abuse_reports (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            digest TEXT NOT NULL UNIQUE,
            room_id TEXT NOT NULL,
            provider TEXT NOT NULL,
            reporter TEXT NOT NULL,
            abuser TEXT NOT NULL,
            reason_code INTEGER NOT NULL,
            note TEXT NOT NULL,
            report BLOB NOT NULL,
            event_id TEXT NOT NULL,
            verified INTEGER NOT NULL,
            received_at INTEGER NOT NULL,
            closed_at INTEGER
        ) STRICT
        """
    )
    db.execute("CREATE INDEX abuse_reports_open ON abuse_reports (provider) WHERE closed_at IS NULL")
    db.execute(
        """
        CREATE TABLE consents (
            requester TEXT NOT NULL,
            target TEXT NOT NULL,
            room_id TEXT NOT NULL,
            state TEXT NOT NULL,
            changed_at INTEGER NOT NULL,
            key_packages BLOB NOT NULL,
            PRIMARY KEY (requester, target, room_id)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX consents_target ON consents (target)")
    db.execute(
        """
        CREATE TABLE consent_required (
            user_id TEXT PRIMARY KEY,
            required INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE searchable (
            user_id TEXT NOT NULL,
            source INTEGER NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            folded TEXT NOT NULL,
            PRIMARY KEY (user_id, source, name, value)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX searchable_value ON searchable (value)")


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


def database(connection: sqlite3.Connection) -> Database:
    """``connection`` as sqlite-utils sees it, without loading plugins an operator may have installed."""
    return Database(connection, recursive_triggers=False, execute_plugins=False)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date.

    Raises:
        SchemaTooNew: the database holds a migration that this version does not know.
    """
    db = database(connection)
    _refuse_newer(db)
    migrations.apply(db)


def require_current(connection: sqlite3.Connection) -> None:
    """Check, without writing, that the schema is exactly ours.

    Raises:
        SchemaTooNew: it is newer.
        StoreError: it is older or not a database of ours; a server must open and migrate it first.
    """
    db = database(connection)
    _refuse_newer(db)
    if pending := migrations.pending(db):
        raise StoreError(
            f"the database lacks {pending[0].name}: start the server once to bring it up to date"
        )


def _refuse_newer(db: Database) -> None:
    # What is pending on an empty database is everything we know.
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    unknown = [applied.name for applied in migrations.applied(db) if applied.name not in known]
    if unknown:
        raise SchemaTooNew(
            f"the database was written by a newer version of linearized (it has {', '.join(unknown)});"
            " install that version or restore a backup"
        )
