"""How far followers are, a moment before the database knows.

A cursor moves with every request that is answered, for each follower many times a second. What has moved is
written together, some times a second. If we are stopped in between, followers are sent again what they took
in that moment, and know it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import structlog
import trio

from linearized.exceptions import StoreError
from linearized.server.telemetry import describe
from linearized.store.base import FollowerRow, Store

log = structlog.get_logger("linearized.progress")

# Seconds between writes. Five commits a second are nothing beside those of the events, and after a crash a
# busy room's followers are sent some twenty events again.
WRITE_SECONDS: Final = 0.2
CLOSE_SECONDS: Final = 5.0  # for the last write, when the server stops: a disk that hangs must not hold it up

_Key = tuple[str, str, str]


class Progress:
    """Cursors that have moved, of all followers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ahead: dict[_Key, FollowerRow] = {}
        self._moved = trio.Event()

    def of(self, row: FollowerRow) -> FollowerRow:
        """A row of the database, with the cursor where it is by now."""
        ahead = self._ahead.get(_key(row))
        return row if ahead is None or ahead.cursor <= row.cursor else replace(row, cursor=ahead.cursor)

    def move(self, row: FollowerRow, cursor: int) -> None:
        """A follower has taken everything up to ``cursor``."""
        self._ahead[_key(row)] = replace(row, cursor=cursor)
        self._moved.set()

    async def run(self) -> None:
        """Write what has moved, for ever, and a last time when cancelled."""
        try:
            while True:
                await self._moved.wait()
                await trio.sleep(WRITE_SECONDS)
                await self._write()
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._write()

    async def _write(self) -> None:
        self._moved = trio.Event()
        moved = list(self._ahead.values())
        try:
            await self._store.move_cursors(moved)
        except StoreError as error:  # a full disk, say: what could not be written is written next time
            log.error("cursors_not_written", cursors=len(moved), **describe(error))
            self._moved.set()
            return
        for row in moved:
            if self._ahead.get(_key(row)) is row:
                del self._ahead[_key(row)]


def _key(row: FollowerRow) -> _Key:
    return row.room_id, row.provider, row.protocol
