"""What every family of reads shares: one connection, whole results, one kind of error."""

from __future__ import annotations

import sqlite3
from typing import Any

from linearized.exceptions import StoreError

# Rooms whose number is kept in memory: looking one up costs as much as reading an event. About 200 bytes
# each.
MAX_KNOWN_ROOMS = 50_000


class Reader:
    """Runs queries on a connection that only reads; it belongs to the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._reader = connection
        self._room_numbers: dict[str, int] = {}

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
