"""Proofs about logs, rooms that change their hub, and proposals in logs."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


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
