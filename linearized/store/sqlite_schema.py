"""The SQLite schema, as a chain of migrations (``store.migrations``).

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

from linearized.exceptions import SchemaTooNew, StoreError
from linearized.store.migrations import migrations


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
