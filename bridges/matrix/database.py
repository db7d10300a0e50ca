"""Everything the bridge remembers, in one SQLite file.

Small synchronous statements, each its own transaction unless grouped with ``with database.together()``.
The file holds the MLS state of every bridged user, private keys included: it is created readable by its
owner only. The secrets of encrypted Matrix rooms and people's access tokens are encrypted in it
(``keyfile``).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridges.matrix.schema import SCHEMA
from linearized.exceptions import SchemaTooNew, StoreError


class DatabaseInUse(StoreError):  # noqa: N818 - names the fact
    """Another process has the bridge's database open."""


class Database:
    """The open file.

    Raises:
        DatabaseInUse: a bridge is running with it.
        SchemaTooNew: a newer version of the bridge wrote it.
        StoreError: it is not a database of ours.
    """

    def __init__(self, path: Path | str) -> None:
        self._lock: int | None = None
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(Path(path))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # What a transaction's 200 promised, and above all an MLS ratchet's state, must survive a power
            # cut.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise StoreError(f"{path}: {error}") from error

    @classmethod
    def reading(cls, path: Path) -> Database:
        """The file for reading only, beside the bridge that has it open.

        Raises:
            StoreError: there is none, or it is not of this version.
        """
        database = cls.__new__(cls)
        database._lock = None
        try:
            database._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            database._connection.row_factory = sqlite3.Row
            version = database.one("PRAGMA user_version")[0]
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error
        if version != len(SCHEMA):
            database.close()
            raise StoreError(f"{path} is of another version; run the bridge first")
        return database

    def _migrate(self) -> None:
        version = self.one("PRAGMA user_version")[0]
        if version > len(SCHEMA):
            self._connection.close()
            raise SchemaTooNew("the bridge's database was written by a newer version")
        for number, script in enumerate(SCHEMA[version:], version + 1):
            with self.together():
                for statement in script.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Everything inside happens, or nothing; may be nested."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # whatever it is, half of the work must not stay
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def run(self, sql: str, *values: object) -> int:
        """Execute a statement; returns the number of rows changed."""
        return self._connection.execute(sql, values).rowcount

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Every row of a query."""
        return self._connection.execute(sql, values).fetchall()

    def first(self, sql: str, *values: object) -> sqlite3.Row | None:
        """The first row of a query, if any."""
        row: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def one(self, sql: str, *values: object) -> sqlite3.Row:
        """The first row of a query that always has one."""
        row = self.first(sql, *values)
        if row is None:
            raise StoreError("a query that always has a row had none")
        return row


def _lock(path: Path) -> int:
    """Two processes that continue from one MLS state would use the same keys twice: there may be only one."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DatabaseInUse(f"{path} is in use by another process") from error
    return descriptor
