"""The tables of the bridge's database: each text brings a database one version further."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = (
    """
    CREATE TABLE transactions (
        number INTEGER PRIMARY KEY, txn_id TEXT NOT NULL, digest BLOB NOT NULL, UNIQUE (txn_id, digest)
    );
    CREATE TABLE incoming (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL UNIQUE,
        event TEXT,
        state TEXT NOT NULL DEFAULT 'waiting',
        reason TEXT
    );
    CREATE INDEX incoming_waiting ON incoming (position) WHERE state = 'waiting';
    CREATE TABLE rooms (
        matrix_room_id TEXT PRIMARY KEY,
        room_id TEXT UNIQUE,
        phase TEXT NOT NULL,
        walk_token TEXT,
        walked INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE history (
        matrix_room_id TEXT NOT NULL,
        age INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        event TEXT,
        state TEXT NOT NULL DEFAULT 'waiting',
        reason TEXT,
        PRIMARY KEY (matrix_room_id, age),
        UNIQUE (matrix_room_id, event_id)
    ) WITHOUT ROWID;
    CREATE TABLE messages (
        matrix_event_id TEXT PRIMARY KEY,
        matrix_room_id TEXT NOT NULL,
        log_event_id TEXT,
        message_id BLOB,
        sender TEXT NOT NULL,
        in_reply_to BLOB,
        part INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX messages_by_message ON messages (message_id) WHERE message_id IS NOT NULL;
    CREATE INDEX messages_by_log ON messages (log_event_id) WHERE log_event_id IS NOT NULL;
    CREATE TABLE outgoing (
        matrix_event_id TEXT PRIMARY KEY, payload BLOB NOT NULL, message_id BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX outgoing_by_message ON outgoing (message_id);
    CREATE TABLE ghosts (user_id TEXT PRIMARY KEY, display_name TEXT) WITHOUT ROWID;
    CREATE TABLE devices (user_id TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE media (source TEXT PRIMARY KEY, copy TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE set_aside (
        number INTEGER PRIMARY KEY,
        matrix_room_id TEXT NOT NULL,
        event_id TEXT NOT NULL UNIQUE,
        reason TEXT NOT NULL
    );
    CREATE INDEX set_aside_by_room ON set_aside (matrix_room_id, number)
    """,
    """
    CREATE INDEX media_by_copy ON media (copy)
    """,
    """
    ALTER TABLE ghosts ADD COLUMN avatar TEXT
    """,
    """
    CREATE TABLE crypto_accounts (
        user_id TEXT PRIMARY KEY,
        device_id TEXT NOT NULL,
        account TEXT NOT NULL,
        master TEXT NOT NULL,
        self_signing TEXT NOT NULL,
        user_signing TEXT NOT NULL,
        published INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE crypto_users (
        user_id TEXT PRIMARY KEY, outdated INTEGER NOT NULL -- 0: no, 1: yes, 2: being asked for
    ) WITHOUT ROWID;
    CREATE TABLE crypto_devices (
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        curve25519 TEXT NOT NULL,
        ed25519 TEXT NOT NULL,
        cross_signed INTEGER NOT NULL,
        gone INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (user_id, device_id)
    ) WITHOUT ROWID;
    CREATE TABLE olm_sessions (
        number INTEGER PRIMARY KEY,
        own_user TEXT NOT NULL,
        peer_key TEXT NOT NULL,
        session_id TEXT NOT NULL,
        pickle TEXT NOT NULL,
        used INTEGER NOT NULL,
        UNIQUE (own_user, peer_key, session_id)
    );
    CREATE TABLE megolm_inbound (
        number INTEGER PRIMARY KEY,
        room_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        sender TEXT NOT NULL,
        sender_key TEXT NOT NULL,
        ed25519 TEXT NOT NULL,
        first_index INTEGER NOT NULL,
        pickle TEXT NOT NULL,
        UNIQUE (room_id, session_id)
    );
    CREATE INDEX megolm_inbound_by_sender ON megolm_inbound (room_id, sender_key, number);
    CREATE TABLE megolm_seen (
        room_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        message_index INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        PRIMARY KEY (room_id, session_id, message_index)
    ) WITHOUT ROWID;
    CREATE TABLE megolm_outbound (
        room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        pickle TEXT NOT NULL,
        created INTEGER NOT NULL,
        PRIMARY KEY (room_id, user_id)
    ) WITHOUT ROWID;
    CREATE TABLE megolm_shared (
        room_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        curve25519 TEXT NOT NULL,
        message_index INTEGER,
        PRIMARY KEY (room_id, session_id, user_id, device_id)
    ) WITHOUT ROWID;
    CREATE TABLE to_device (number INTEGER PRIMARY KEY AUTOINCREMENT, message TEXT NOT NULL);
    CREATE TABLE to_device_seen (number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE);
    CREATE TABLE encrypted_rooms (
        room_id TEXT PRIMARY KEY,
        algorithm TEXT NOT NULL,
        rotation_ms INTEGER NOT NULL,
        rotation_messages INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE closed_rooms (room_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE undecrypted (
        event_id TEXT PRIMARY KEY,
        room_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        event TEXT NOT NULL,
        since INTEGER NOT NULL,
        said INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX undecrypted_by_session ON undecrypted (room_id, session_id);
    CREATE TABLE crypto_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
    """,
    """
    CREATE TABLE doubles (
        user_id TEXT PRIMARY KEY,
        uri TEXT NOT NULL,
        token BLOB,
        chat TEXT NOT NULL,
        code TEXT NOT NULL,
        until INTEGER NOT NULL,
        linked INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX doubles_by_uri ON doubles (uri) WHERE linked = 1;
    CREATE TABLE sayings (
        log_event_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        matrix_room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        redacts TEXT,
        begun INTEGER NOT NULL,
        event_id TEXT,
        PRIMARY KEY (log_event_id, number)
    ) WITHOUT ROWID;
    CREATE INDEX sayings_by_event ON sayings (event_id) WHERE event_id IS NOT NULL;
    CREATE INDEX sayings_by_redacted ON sayings (redacts) WHERE redacts IS NOT NULL;
    CREATE TABLE readings (
        matrix_room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        PRIMARY KEY (matrix_room_id, user_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE key_requests (
        number INTEGER PRIMARY KEY,
        room_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        sender_key TEXT NOT NULL,
        request_id TEXT, -- none: the user said that the key will not come
        came INTEGER NOT NULL DEFAULT 0,
        UNIQUE (room_id, session_id)
    )
    """,
    """
    -- How often it was asked for, and when it is next, in milliseconds
    ALTER TABLE key_requests ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE key_requests ADD COLUMN again INTEGER
    """,
    """
    CREATE TABLE expirations (
        log_event_id TEXT PRIMARY KEY,
        matrix_room_id TEXT NOT NULL,
        sender TEXT NOT NULL,
        at INTEGER NOT NULL, -- milliseconds since the Unix epoch
        state TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX expirations_due ON expirations (at) WHERE state = 'said'
    """,
    """
    CREATE TABLE heads (
        matrix_room_id TEXT PRIMARY KEY, event_id TEXT NOT NULL, ts INTEGER NOT NULL, suspect TEXT
    ) WITHOUT ROWID;
    CREATE TABLE kept (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        matrix_room_id TEXT NOT NULL,
        log_event_id TEXT NOT NULL UNIQUE,
        message_id BLOB NOT NULL,
        sender TEXT NOT NULL,
        ts INTEGER NOT NULL,
        since INTEGER NOT NULL,
        payload BLOB NOT NULL,
        gone INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX kept_by_room ON kept (matrix_room_id, number);
    CREATE INDEX kept_by_message ON kept (message_id);
    CREATE TABLE restored (
        matrix_room_id TEXT PRIMARY KEY, looked INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
    """
    -- Matrix rooms that were replaced, and by which
    CREATE TABLE replaced (matrix_room_id TEXT PRIMARY KEY, by TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX replaced_by ON replaced (by)
    """,
)
