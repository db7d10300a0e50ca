"""What is exchanged with other providers beside logs: pulls, past trees, replies, contacts."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


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
