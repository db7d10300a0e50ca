"""The first tables: rooms and their logs, accounts, key packages, devices."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


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
