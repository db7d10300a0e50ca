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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import trio

from linearized.exceptions import ConfigError, StoreError
from linearized.store import (
    sqlite_account_data,
    sqlite_append,
    sqlite_archive,
    sqlite_contacts,
    sqlite_devices,
    sqlite_directory,
    sqlite_expiry,
    sqlite_history,
    sqlite_joining,
    sqlite_key_packages,
    sqlite_moving,
    sqlite_past_trees,
    sqlite_profiles,
    sqlite_pseudonyms,
    sqlite_pulling,
    sqlite_receipts,
)
from linearized.store.account_data import AccountDataRow
from linearized.store.archive import ArchiveRecordRow, Kept
from linearized.store.base import (
    DeviceRow,
    EntryRow,
    FollowerRow,
    KeyPackageRow,
    MediaRow,
    NewToDevice,
    Reply,
    RoomAppend,
    ServerKeyRow,
    UserRow,
)
from linearized.store.contacts import ConsentRow, FieldRow, ReportRow
from linearized.store.directory import AliasRow
from linearized.store.history import AuditRow, FindingRow
from linearized.store.joining import AdmissionRow, JoinCodeRow
from linearized.store.moving import Adoption
from linearized.store.profiles import ProfileRow
from linearized.store.pseudonyms import PseudonymRow
from linearized.store.pulling import FanoutTokenRow, PullCursorRow
from linearized.store.receipts import ReceiptRow
from linearized.store.sqlite_account_data import AccountDataReads
from linearized.store.sqlite_archive import ArchiveReads
from linearized.store.sqlite_contacts import ContactReads
from linearized.store.sqlite_devices import DeviceReads
from linearized.store.sqlite_directory import DirectoryReads
from linearized.store.sqlite_history import HistoryReads
from linearized.store.sqlite_joining import JoinCodeReads
from linearized.store.sqlite_key_packages import KeyPackageReads
from linearized.store.sqlite_lock import ServerLock
from linearized.store.sqlite_moving import MovingReads
from linearized.store.sqlite_parents import ParentReads
from linearized.store.sqlite_past_trees import PastTreeReads
from linearized.store.sqlite_profiles import ProfileReads
from linearized.store.sqlite_pseudonyms import PseudonymReads
from linearized.store.sqlite_pulling import PullReads
from linearized.store.sqlite_reader import ALL_TOKENS
from linearized.store.sqlite_receipts import ReceiptReads
from linearized.store.sqlite_relations import RelationReads
from linearized.store.sqlite_rooms import RoomReads
from linearized.store.sqlite_schema import migrate, require_current
from linearized.store.sqlite_writer import GroupWriter, Operation

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
# What a write of a device changes of the devices by token.
OF_DEVICES = (ALL_TOKENS,)

T = TypeVar("T")


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
    ArchiveReads,
    JoinCodeReads,
    ReceiptReads,
    RelationReads,
    ProfileReads,
    DirectoryReads,
    ParentReads,
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
        super().__init__(reader, alone=writer is not None)
        self._connections = connections
        self._writer = writer
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
            # Writes hop between worker threads; the group writer lets one at a time use the connection.
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

    def _writes(self) -> GroupWriter:
        if self._writer is None:
            raise StoreError("the database was opened read-only")
        return self._writer

    async def _write(
        self,
        operation: Operation[T],
        *,
        followed: Sequence[str] = (),
        to_device: Sequence[NewToDevice] = (),
        tokens: Sequence[str] = (),
        servers: Sequence[str] = (),
    ) -> T:
        """Have ``operation`` done, which writes followers of the rooms ``followed``, these messages, and keys
        of ``servers``; and devices, if ``tokens`` are ``OF_DEVICES``.
        """
        devices = [(message.user_id, message.device_id) for message in to_device]
        changes = (
            (self._followed, followed),
            (self._empty, devices),
            (self._tokens, tokens),
            (self._server_keys, servers),
        )
        return await self._writes().submit(operation, changes)

    async def append(self, append: RoomAppend) -> None:
        """Append atomically; see ``sqlite_append.append`` for what is refused."""
        await self._write(
            partial(sqlite_append.append, change=append),
            followed=[row.room_id for row in append.followers],
            to_device=append.to_device,
        )

    async def put_follower(self, follower: FollowerRow) -> None:
        """Insert a follower, or move its cursor and stop. StoreError if the room is unknown."""
        operation = partial(sqlite_append.put_follower, follower=follower)
        await self._write(operation, followed=[follower.room_id])

    async def move_cursors(self, followers: Sequence[FollowerRow]) -> None:
        """Move followers' cursors forward, and leave their stops as they are."""
        if followers:
            operation = partial(sqlite_append.move_cursors, followers=followers)
            await self._write(operation, followed=[row.room_id for row in followers])

    async def put_user(self, user: UserRow) -> bool:
        """Create an account; False if it exists."""
        return await self._write(partial(sqlite_devices.put_user, user=user))

    async def put_device(self, device: DeviceRow) -> None:
        """Insert or replace a device."""
        await self._write(partial(sqlite_devices.put_device, device=device), tokens=OF_DEVICES)

    async def delete_device(self, user_id: str, device_id: str) -> None:
        """Forget a device, its key packages and its messages."""
        operation = partial(sqlite_devices.delete_device, user_id=user_id, device_id=device_id)
        await self._write(operation, tokens=OF_DEVICES)

    async def put_key_packages(self, packages: Sequence[KeyPackageRow]) -> None:
        """Store packages; those already stored stay as they are."""
        await self._write(partial(sqlite_key_packages.put_key_packages, packages=packages))

    async def claim_key_package(
        self, *, user_id: str, device_id: str, ciphersuites: Sequence[int], now_ms: int
    ) -> KeyPackageRow | None:
        """Hand out one package, preferring earlier ``ciphersuites``; see ``Store.claim_key_package``."""
        return await self._write(
            partial(
                sqlite_key_packages.claim_key_package,
                user_id=user_id,
                device_id=device_id,
                ciphersuites=ciphersuites,
                now_ms=now_ms,
            )
        )

    async def put_key_package_routes(
        self, routes: Mapping[bytes, str], expires_ms: int, *, room_id: str | None = None
    ) -> None:
        """Remember at which provider each KeyPackageRef lives, and for which room."""
        await self._write(
            partial(
                sqlite_key_packages.put_key_package_routes,
                routes=routes,
                expires_ms=expires_ms,
                room_id=room_id,
            )
        )

    async def put_room_routes(self, room_id: str, routes: Mapping[bytes, str], expires_ms: int) -> None:
        """Remember what another hub says of a room."""
        await self._write(
            partial(
                sqlite_key_packages.put_room_routes, room_id=room_id, routes=routes, expires_ms=expires_ms
            )
        )

    async def expire(self, now_ms: int) -> int:
        """Remove some of what has expired; see ``Store.expire``."""
        return await self._write(partial(sqlite_expiry.expire, now_ms=now_ms))

    async def put_to_device(self, messages: Sequence[NewToDevice], reply: Reply | None = None) -> None:
        """Store messages with the reply to their request; nothing if that reply is remembered already."""
        operation = partial(sqlite_devices.put_to_device, messages=messages, reply=reply)
        await self._write(operation, to_device=messages)

    async def delete_to_device(self, user_id: str, device_id: str, up_to: int) -> None:
        """Forget the device's messages with ``position <= up_to``."""
        await self._write(
            partial(sqlite_devices.delete_to_device, user_id=user_id, device_id=device_id, up_to=up_to)
        )

    async def put_device_object(self, user_id: str, device_id: str, value: bytes) -> None:
        """Insert or replace what a device says of itself."""
        await self._write(
            partial(sqlite_devices.put_device_object, user_id=user_id, device_id=device_id, value=value)
        )

    async def delete_device_objects(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Forget what devices say of themselves."""
        await self._write(
            partial(sqlite_devices.delete_device_objects, user_id=user_id, device_ids=device_ids)
        )

    async def put_reply(self, reply: Reply) -> None:
        """Remember a reply; the first one for its scope and key stays."""
        await self._write(partial(sqlite_devices.insert_reply, reply=reply))

    async def put_server_keys(self, keys: Sequence[ServerKeyRow]) -> None:
        """Insert or replace remote servers' keys."""
        operation = partial(sqlite_devices.put_server_keys, keys=keys)
        await self._write(operation, servers=[key.server_name for key in keys])

    async def put_media(self, media: MediaRow) -> None:
        """Record an uploaded file; StoreError if its ID exists."""
        await self._write(partial(sqlite_devices.put_media, media=media))

    async def put_tree_hashes(self, room_id: str, level: int, first: int, hashes: Sequence[bytes]) -> None:
        """Store neighbouring hashes of one tile level; those stored already stay."""
        await self._write(
            partial(sqlite_history.put_tree_hashes, room_id=room_id, level=level, first=first, hashes=hashes)
        )

    async def put_audit(self, audit: AuditRow) -> None:
        """Insert or replace the audit of a room."""
        await self._write(partial(sqlite_history.put_audit, audit=audit))

    async def put_finding(self, finding: FindingRow) -> bool:
        """Keep a finding; False if it is kept already."""
        return await self._write(partial(sqlite_history.put_finding, finding=finding))

    async def put_account_data(self, row: AccountDataRow, *, most_rows: int, most_bytes: int) -> bool:
        """Insert or replace account data; False if the user would have too much."""
        return await self._write(
            partial(sqlite_account_data.put_account_data, row=row, most_rows=most_rows, most_bytes=most_bytes)
        )

    async def put_archive(
        self,
        user_id: str,
        room_id: str,
        archive: bytes,
        records: Sequence[ArchiveRecordRow],
        *,
        most_records: int,
        most_bytes: int,
    ) -> Kept:
        """Add records to an archive."""
        return await self._write(
            partial(
                sqlite_archive.put_archive,
                user_id=user_id,
                room_id=room_id,
                archive=archive,
                records=records,
                most_records=most_records,
                most_bytes=most_bytes,
            )
        )

    async def release_archive(
        self, user_id: str, archive: bytes, releases: Sequence[tuple[bytes, bytes]]
    ) -> int:
        """Drop the content of records by tag; of how many."""
        return await self._write(
            partial(sqlite_archive.release_archive, user_id=user_id, archive=archive, releases=releases)
        )

    async def remove_archive(self, user_id: str, archive: bytes | None, *, limit: int) -> int:
        """Remove some records of one archive, or of all of a user's; how many."""
        return await self._write(
            partial(sqlite_archive.remove_archive, user_id=user_id, archive=archive, limit=limit)
        )

    async def put_receipts(self, rows: Sequence[ReceiptRow], *, most_threads: int) -> bool:
        """Move receipts forward; whether any moved."""
        return await self._write(partial(sqlite_receipts.put_receipts, rows=rows, most_threads=most_threads))

    async def put_profile(self, profile: ProfileRow) -> None:
        """Insert or replace a user's profile."""
        await self._write(partial(sqlite_profiles.put_profile, profile=profile))

    async def put_forgotten(self, user_id: str, room_id: str, seq: int) -> None:
        """Note which membership a user forgets."""
        await self._write(partial(sqlite_profiles.put_forgotten, user_id=user_id, room_id=room_id, seq=seq))

    async def put_alias(self, row: AliasRow, *, most: int) -> str | None:
        """Keep an alias; the room it stands for now, or None if the room has too many."""
        return await self._write(partial(sqlite_directory.put_alias, row=row, most=most))

    async def delete_alias(self, alias: str) -> None:
        """Forget an alias, if there is one."""
        await self._write(partial(sqlite_directory.delete_alias, alias=alias))

    async def set_published(self, room_id: str, published: bool, *, most: int) -> bool:
        """Show a room to everybody here, or no more; False if too many are shown."""
        return await self._write(
            partial(sqlite_directory.set_published, room_id=room_id, published=published, most=most)
        )

    async def put_report(self, report: ReportRow) -> int | None:
        """Keep a report; its number, or None if it is kept already."""
        return await self._write(partial(sqlite_contacts.put_report, report=report))

    async def close_report(self, number: int, closed_at: int) -> bool:
        """Mark an open report as dealt with; False if there is none."""
        return await self._write(partial(sqlite_contacts.close_report, number=number, closed_at=closed_at))

    async def put_consent(self, consent: ConsentRow) -> None:
        """Insert or replace what is known for a requester, a target and a room."""
        await self._write(partial(sqlite_contacts.put_consent, consent=consent))

    async def delete_consent(self, requester: str, target: str, room_id: str) -> None:
        """Forget a consent."""
        await self._write(
            partial(sqlite_contacts.delete_consent, requester=requester, target=target, room_id=room_id)
        )

    async def take_key_packages(self, requester: str, target: str, room_id: str) -> bytes:
        """Hand out what came with a grant, once."""
        return await self._write(
            partial(sqlite_contacts.take_key_packages, requester=requester, target=target, room_id=room_id)
        )

    async def put_consent_required(self, user_id: str, *, required: bool) -> None:
        """Remember whether a user's key packages are for those alone who were granted them."""
        await self._write(partial(sqlite_contacts.put_consent_required, user_id=user_id, required=required))

    async def put_fields(self, user_id: str, fields: Sequence[FieldRow]) -> None:
        """Replace the fields a user may be found by."""
        await self._write(partial(sqlite_contacts.put_fields, user_id=user_id, fields=fields))

    async def put_pseudonym(self, pseudonym: PseudonymRow, device_id: str) -> bool:
        """Make a pseudonym with a device of that name."""
        operation = partial(sqlite_pseudonyms.put_pseudonym, pseudonym=pseudonym, device_id=device_id)
        return await self._write(operation, tokens=OF_DEVICES)

    async def bind_pseudonym(self, user_id: str, room_id: str) -> bool:
        """Use a pseudonym for a room; False for any but the first."""
        return await self._write(partial(sqlite_pseudonyms.bind_pseudonym, user_id=user_id, room_id=room_id))

    async def delete_pseudonym(self, user_id: str) -> None:
        """Forget whose a pseudonym is, and its devices."""
        await self._write(partial(sqlite_pseudonyms.delete_pseudonym, user_id=user_id), tokens=OF_DEVICES)

    async def put_join_code(self, code: JoinCodeRow, *, most: int) -> bool:
        """Add a joining code, unless the room has too many."""
        return await self._write(partial(sqlite_joining.put_join_code, code=code, most=most))

    async def remove_join_code(self, room_id: str, digest: bytes) -> bool:
        """Revoke a joining code, and the admissions it gave."""
        return await self._write(partial(sqlite_joining.remove_join_code, room_id=room_id, digest=digest))

    async def admit(self, admission: AdmissionRow, *, now_ms: int) -> bool:
        """Use a joining code for a user."""
        return await self._write(partial(sqlite_joining.admit, admission=admission, now_ms=now_ms))

    async def set_pull_follower(self, provider: str, *, pulls: bool) -> None:
        """Note that a provider fetches what it follows, or that it no longer does."""
        await self._write(partial(sqlite_pulling.set_pull_follower, provider=provider, pulls=pulls))

    async def put_pull_cursor(self, row: PullCursorRow) -> None:
        """Insert or replace the cursor of a hub we fetch from."""
        await self._write(partial(sqlite_append.put_pull_cursor, row=row))

    async def put_fanout_tokens(
        self, room_id: str, provider: str, tokens: tuple[FanoutTokenRow, ...]
    ) -> None:
        """Replace the tokens of a provider's clients in a room."""
        await self._write(
            partial(sqlite_pulling.put_fanout_tokens, room_id=room_id, provider=provider, tokens=tokens)
        )

    async def forget_past_tree(self, room_id: str, epoch: int, reference: bytes) -> None:
        """A new member has joined; the last one's group state is forgotten."""
        await self._write(
            partial(sqlite_past_trees.forget_past_tree, room_id=room_id, epoch=epoch, reference=reference)
        )

    async def dismiss_findings(self, digests: Sequence[str], now_ms: int) -> None:
        """Note when the operator was done with findings."""
        await self._write(partial(sqlite_history.dismiss_findings, digests=digests, now_ms=now_ms))

    async def delete_audit(self, room_id: str) -> None:
        """Forget how far a room was checked."""
        await self._write(partial(sqlite_history.delete_audit, room_id=room_id))

    async def stage_entries(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Append entries to a room's staged log."""
        await self._write(partial(sqlite_moving.stage_entries, room_id=room_id, entries=entries))

    async def drop_staged(self, room_id: str) -> None:
        """Forget a room's staged log."""
        await self._write(partial(sqlite_moving.drop_staged, room_id=room_id))

    async def adopt(self, adoption: Adoption) -> None:
        """Put the staged log in the place of our copy."""
        operation = partial(sqlite_moving.adopt, adoption=adoption)
        await self._write(operation, followed=[adoption.room.room_id])


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
