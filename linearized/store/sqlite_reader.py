"""What every family of reads shares: one connection, whole results, one kind of error."""

from __future__ import annotations

import sqlite3
from typing import Any

from linearized.exceptions import StoreError
from linearized.store.base import DeviceRow, FollowerRow, ServerKeyRow
from linearized.store.known import Known

# Rooms whose number is kept in memory: looking one up costs as much as reading an event. About 200 bytes
# each.
MAX_KNOWN_ROOMS = 50_000
# Rooms whose followers are kept in memory: some hundred bytes for each follower.
MAX_KNOWN_FOLLOWED = 2_000
# Devices that are kept in memory by their access tokens, half a kilobyte each.
MAX_KNOWN_TOKENS = 20_000
ALL_TOKENS = ""
"""Their key: a write of any device may be of any token."""
# Devices without messages that are kept in memory, some hundred bytes each: those of everybody who is online.
MAX_KNOWN_EMPTY = 20_000
# Servers whose keys are kept in memory, some hundred bytes each: every request of theirs asks twice.
MAX_KNOWN_SERVERS = 2_000


class Reader:
    """Runs queries on a connection that only reads; it belongs to the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection, *, alone: bool = False) -> None:
        """``alone``: nobody else writes the file, so that what changes rarely may be kept in memory."""
        self._reader = connection
        self._room_numbers: dict[str, int] = {}
        self._followed = Known[str, list[FollowerRow]](MAX_KNOWN_FOLLOWED if alone else 0)
        self._tokens = Known[str, dict[str, DeviceRow]](1 if alone else 0)
        self._server_keys = Known[str, list[ServerKeyRow]](MAX_KNOWN_SERVERS if alone else 0)
        self._empty = Known[tuple[str, str], bool](MAX_KNOWN_EMPTY if alone else 0)

    def _query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows at once: a cursor left open would pin the log and stop checkpoints."""
        try:
            return self._reader.execute(sql, parameters).fetchall()
        # The last two: an integer of more than 64 bits, a string with half a surrogate pair. Neither is in
        # the file.
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise StoreError(f"the read failed: {error}") from error

    def _room_number(self, room_id: str) -> int | None:
        number = self._room_numbers.get(room_id)
        if number is None and (rows := self._query("SELECT room_nr FROM rooms WHERE room_id = ?", room_id)):
            if len(self._room_numbers) >= MAX_KNOWN_ROOMS:
                self._room_numbers.clear()
            number = self._room_numbers[room_id] = rows[0][0]
        return number
