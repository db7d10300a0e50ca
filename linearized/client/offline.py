"""Rooms' logs kept for reading without a server: one SQLite file for any number of rooms.

Only what was checked is put in, in order, from the first entry on. A transaction holds a run of entries with
the cursor after it, so that what was broken off goes on with what is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson

from linearized.client.errors import StateFileError
from linearized.protocol.events import Event

# "LNRH": tells our files from other programs' (SQLite, PRAGMA application_id).
APPLICATION_ID: Final = 0x4C4E5248
SCHEMA_VERSION: Final = 1
# Rows read at a time, so that reading a room takes no more memory than a few megabytes.
PAGE: Final = 1_000
# How long to wait for another process that writes, seconds.
BUSY_SECONDS: Final = 10

_SCHEMA: Final = """
CREATE TABLE rooms (
  room_id TEXT PRIMARY KEY,
  hub TEXT NOT NULL,
  entries INTEGER NOT NULL,
  root BLOB NOT NULL,
  signed_entries INTEGER NOT NULL DEFAULT 0,
  checkpoint TEXT
) STRICT;
CREATE TABLE entries (
  room_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  type TEXT NOT NULL,
  state_key TEXT,
  sender TEXT NOT NULL,
  origin_server_ts INTEGER NOT NULL,
  pdu BLOB NOT NULL,
  PRIMARY KEY (room_id, seq)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRoom:
    """How much of a room there is: ``entries`` is the cursor, ``root`` the Merkle root over them, and
    ``checkpoint`` the hub's signed statement about the first ``signed_entries``.
    """

    room_id: str
    hub: str
    entries: int
    root: bytes
    signed_entries: int = 0
    checkpoint: str | None = None


class HistoryStore:
    """An open file. One connection, used by one task or thread at a time; WAL, so that others may read it.

    Raises:
        StateFileError: the file is none of ours, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise StateFileError(f"{path} cannot be used: {error}") from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
            return
        if tables:
            raise StateFileError("the file is no history of this version")
        self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def rooms(self) -> list[KeptRoom]:
        """Every room, by ID."""
        rows = self._connection.execute("SELECT * FROM rooms ORDER BY room_id").fetchall()
        return [
            KeptRoom(
                room_id=row[0],
                hub=row[1],
                entries=row[2],
                root=row[3],
                signed_entries=row[4],
                checkpoint=row[5],
            )
            for row in rows
        ]

    def room(self, room_id: str) -> KeptRoom | None:
        """One room."""
        return next((room for room in self.rooms() if room.room_id == room_id), None)

    def page(self, room_id: str, after: int) -> list[bytes]:
        """The next canonical PDUs behind number ``after``, at most ``PAGE``."""
        rows = self._connection.execute(
            "SELECT pdu FROM entries WHERE room_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (room_id, after, PAGE),
        ).fetchall()
        return [pdu for (pdu,) in rows]

    def pdus(self, room_id: str) -> Iterator[bytes]:
        """The canonical PDUs, oldest first."""
        after = 0
        while page := self.page(room_id, after):
            yield from page
            after += len(page)

    def append(self, kept: KeptRoom, events: Sequence[Event]) -> None:
        """Add checked entries; ``kept.entries`` is the number of the last.

        Raises:
            StateFileError: they do not follow what is there, or cannot be written.
        """
        first = kept.entries - len(events) + 1
        rows = [(kept.room_id, seq, *_columns(event)) for seq, event in enumerate(events, first)]
        try:
            with self._connection:
                known = self.room(kept.room_id)
                if (known.entries if known is not None else 0) != first - 1:
                    raise StateFileError(f"{kept.room_id} is being written by somebody else")
                self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                self._connection.execute(
                    "INSERT INTO rooms (room_id, hub, entries, root) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (room_id) DO UPDATE SET hub = excluded.hub, entries = excluded.entries,"
                    " root = excluded.root",
                    (kept.room_id, kept.hub, kept.entries, kept.root),
                )
        except sqlite3.Error as error:
            raise StateFileError(f"the history cannot be written: {error}") from error

    def sign(self, room_id: str, entries: int, checkpoint: str) -> None:
        """Keep the hub's checkpoint of the first ``entries``."""
        with self._connection:
            self._connection.execute(
                "UPDATE rooms SET signed_entries = ?, checkpoint = ? WHERE room_id = ?",
                (entries, checkpoint, room_id),
            )

    def forget(self, room_id: str) -> None:
        """Drop a room, so that it is fetched from the beginning."""
        with self._connection:
            self._connection.execute("DELETE FROM entries WHERE room_id = ?", (room_id,))
            self._connection.execute("DELETE FROM rooms WHERE room_id = ?", (room_id,))

    def close(self) -> None:
        """Give up the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _columns(event: Event) -> tuple[str, str, str | None, str, int, bytes]:
    return (
        event.event_id,
        event.type,
        event.state_key,
        event.sender,
        event.origin_server_ts,
        event.raw,
    )


def export_jsonl(store: HistoryStore, room_id: str, target: Path) -> int:
    """Write a room as JSON Lines, one canonical PDU each; how many."""
    count = 0
    with target.open("wb") as file:
        for pdu in store.pdus(room_id):
            file.write(pdu + b"\n")
            count += 1
    return count


def export_sqlite(store: HistoryStore, room_id: str, target: Path) -> int:
    """Write a room into a new SQLite file, table ``events``; how many.

    Raises:
        FileExistsError: the file exists.
    """
    if target.exists():
        raise FileExistsError(target)
    with closing(sqlite3.connect(target)) as connection, connection:
        connection.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, state_key TEXT,"
            " sender TEXT NOT NULL, origin_server_ts INTEGER NOT NULL, pdu TEXT NOT NULL) STRICT"
        )
        rows = (_row(seq, pdu) for seq, pdu in enumerate(store.pdus(room_id), start=1))
        return connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount


def _row(seq: int, pdu: bytes) -> tuple[int, str, str | None, str, int, str]:
    event = orjson.loads(pdu)
    return (
        seq,
        event["type"],
        event.get("state_key"),
        event["sender"],
        event["origin_server_ts"],
        pdu.decode(),
    )
