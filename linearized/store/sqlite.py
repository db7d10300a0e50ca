"""The embedded store: one SQLite file, one writer, group commit.

Start the writer in the server's nursery and write from any task::

    store = SqliteStore.open(Path("linearized.sqlite3"))
    await nursery.start(store.run)
    await store.append(...)          # durable on return
    store.entries(room_id, after=0, limit=100)
    await store.aclose()
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import trio

from linearized.exceptions import ConfigError, StoreError
from linearized.store.sqlite_account_data import AccountDataReads, AccountDataWrites
from linearized.store.sqlite_activity import ActivityReads
from linearized.store.sqlite_append import RoomWrites
from linearized.store.sqlite_archive import ArchiveReads, ArchiveWrites
from linearized.store.sqlite_contacts import ContactReads, ContactWrites
from linearized.store.sqlite_devices import DeviceReads, DeviceWrites
from linearized.store.sqlite_directory import DirectoryReads, DirectoryWrites
from linearized.store.sqlite_expiry import ExpiryWrites
from linearized.store.sqlite_history import HistoryReads, HistoryWrites
from linearized.store.sqlite_joining import JoinCodeReads, JoinCodeWrites
from linearized.store.sqlite_key_packages import KeyPackageReads, KeyPackageWrites
from linearized.store.sqlite_lock import ServerLock
from linearized.store.sqlite_moving import MovingReads, MovingWrites
from linearized.store.sqlite_parents import ParentReads
from linearized.store.sqlite_past_trees import PastTreeReads, PastTreeWrites
from linearized.store.sqlite_profiles import ProfileReads, ProfileWrites
from linearized.store.sqlite_pseudonyms import PseudonymReads, PseudonymWrites
from linearized.store.sqlite_pulling import PullReads, PullWrites
from linearized.store.sqlite_receipts import ReceiptReads, ReceiptWrites
from linearized.store.sqlite_relations import RelationReads
from linearized.store.sqlite_rooms import RoomReads
from linearized.store.sqlite_schema import migrate, require_current
from linearized.store.sqlite_ways_in import WayReads
from linearized.store.sqlite_writer import GroupWriter

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
# Pages in the write-ahead log at which a commit itself copies them back: 64 MiB of 4 KiB pages. The writer
# asks for background checkpoints long before; this bounds the log when they cannot keep up.
WAL_AUTOCHECKPOINT_PAGES = 16_384
# The writer's page cache: enough for the event-ID index of two million events, the only pages it meets at
# random. (The reader's would be thrown away at every commit; it relies on the operating system's.)
WRITER_CACHE_KIB = 64 * 1024
# A log that outgrew this (bytes) is cut back once it is empty.
JOURNAL_SIZE_LIMIT = 128 * 1024 * 1024
# Seconds to wait for a lock: another process may be copying the file or running a checkpoint.
_BUSY_TIMEOUT = 10.0
_PRIVATE = 0o600


class SqliteStore(
    RoomReads,
    DeviceReads,
    KeyPackageReads,
    HistoryReads,
    MovingReads,
    PastTreeReads,
    PullReads,
    ContactReads,
    PseudonymReads,
    AccountDataReads,
    ActivityReads,
    ArchiveReads,
    JoinCodeReads,
    ReceiptReads,
    RelationReads,
    ProfileReads,
    DirectoryReads,
    ParentReads,
    WayReads,
    AccountDataWrites,
    RoomWrites,
    ArchiveWrites,
    ContactWrites,
    DeviceWrites,
    DirectoryWrites,
    ExpiryWrites,
    HistoryWrites,
    JoinCodeWrites,
    KeyPackageWrites,
    MovingWrites,
    PastTreeWrites,
    ProfileWrites,
    PseudonymWrites,
    PullWrites,
    ReceiptWrites,
):
    """A ``Store`` in one SQLite file; made by ``open`` or ``open_readonly``."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        *,
        connections: Sequence[sqlite3.Connection] = (),
        writer: GroupWriter | None = None,
        lock: ServerLock | None = None,
    ) -> None:
        super().__init__(reader, writer)
        self._connections = connections
        self._lock = lock

    @classmethod
    def open(cls, path: Path, *, synchronous: str = "FULL", in_thread: bool = True) -> Self:
        """Open the database for a server: create it if missing, bring its schema up to date, take its lock.

        Args:
            path: the database file; its directory must exist.
            synchronous: SQLite's setting. FULL and EXTRA survive a power cut, NORMAL may lose the latest
            writes in
                one but stays consistent and survives a crash of the process, OFF is for tests.
            in_thread: False commits on the loop's thread, for tests under a mock clock.

        Raises:
            ConfigError: ``synchronous`` is none of SQLite's values.
            SchemaTooNew: a newer version wrote the file.
            StoreError: another server uses it, or it is not usable.
        """
        if synchronous.upper() not in SYNCHRONOUS:
            raise ConfigError(
                f"store.synchronous is {synchronous!r}; it must be one of {', '.join(SYNCHRONOUS)}"
            )
        lock = ServerLock(path)
        connections: list[sqlite3.Connection] = []
        try:
            _create_private(path)
            # The group writer uses it in its thread, and is opened and closed here.
            writer = _connect(path, check_same_thread=False)
            connections.append(writer)
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute(f"PRAGMA synchronous = {synchronous}")
            writer.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}")
            writer.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}")
            writer.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            # Savepoints keep a copy of each page they change; in memory, not in a temporary file.
            writer.execute("PRAGMA temp_store = MEMORY")
            migrate(writer)
            checkpointer = _connect(path, check_same_thread=False)
            connections.append(checkpointer)
            checkpointer.execute(f"PRAGMA synchronous = {synchronous}")
            reader = _connect(path)
            connections.append(reader)
            reader.execute("PRAGMA query_only = ON")
        except BaseException as error:
            _close(connections)
            lock.release()
            if isinstance(error, sqlite3.Error | OSError):
                raise StoreError(f"cannot open the database {path}: {error}") from error
            raise
        return cls(
            reader,
            connections=(reader, checkpointer, writer),
            writer=GroupWriter(writer, checkpointer=checkpointer, in_thread=in_thread),
            lock=lock,
        )

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """Open the database to look at it, also while a server uses it; every write raises StoreError.

        Raises:
            SchemaTooNew: a newer version wrote the file.
            StoreError: there is no such database, or its schema is older than this version's.
        """
        try:
            reader = _connect(path, mode="ro")
        except sqlite3.Error as error:
            raise StoreError(f"cannot open the database {path}: {error}") from error
        try:
            require_current(reader)
        except BaseException as error:
            reader.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"cannot read the database {path}: {error}") from error
            raise
        return cls(reader, connections=(reader,))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Execute writes until ``aclose``; start it once, in the server's nursery.

        When cancelled, it first commits what was submitted.
        """
        await self._writes().run(task_status=task_status)

    @property
    def commits(self) -> int:
        """Transactions committed since the store was opened."""
        return self._writes().commits

    @property
    def writes(self) -> int:
        """Writes in them: ``writes / commits`` is the mean size of a group."""
        return self._writes().writes

    async def aclose(self) -> None:
        """Finish the writes submitted so far, then close; later calls raise StoreError. Twice is fine."""
        if self._writer is not None:
            await self._writer.aclose()
        _close(self._connections)
        if self._lock is not None:
            self._lock.release()


def _create_private(path: Path) -> None:
    """The file holds password hashes: a new one is for its owner only; SQLite's other files follow it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE))


def _connect(path: Path, *, mode: str = "rw", check_same_thread: bool = True) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,  # transactions begin where the writer says so
        check_same_thread=check_same_thread,
    )


def _close(connections: Sequence[sqlite3.Connection]) -> None:
    for connection in connections:
        # Closing the last one tidies the log away; if that fails the log is read at the next start.
        with suppress(sqlite3.Error):
            connection.close()
