"""Segments of the rooms this server orders: packed when first asked for, and kept as files.

The files are derived: they can be deleted at any time and are made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import trio

from linearized.room.segments import SEGMENT, pack, span
from linearized.server.whole_files import write_whole
from linearized.store.base import Store

PAGE: Final = 128  # entries read before others get their turn: a millisecond or two
# One segment is packed at a time: sixty-four megabytes of the largest events, a few milliseconds of ordinary
# ones.
PACKERS: Final = 1
_DIRECTORY_CHARS: Final = 32  # of a hash of the room ID: 128 bits, and safe in any file system


class Segments:
    """The segments of the rooms in a store, in files under ``directory``."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._packers = trio.CapacityLimiter(PACKERS)

    async def read(self, room_id: str, number: int) -> bytes:
        """A complete segment, packed; its entries must be in the log."""
        path = self._path(room_id, number)
        try:
            return await trio.Path(path).read_bytes()
        except OSError:  # not there, or not to be read: it can be made from the log
            async with self._packers:
                pdus = await self._pdus(room_id, number)
                return await trio.to_thread.run_sync(_make, path, pdus)

    def _path(self, room_id: str, number: int) -> Path:
        """Named after its last entry too, which stands for all before it: what a log was rewritten to, when
        its room was taken over from us, is never confused with what it was.
        """
        _, last = span(number)
        (event_id,) = self._store.event_ids(room_id, after=last - 1, limit=1)
        room = hashlib.sha256(room_id.encode()).hexdigest()[:_DIRECTORY_CHARS]
        return self._directory / room / f"{number}{event_id}.jsonl.zst"

    async def _pdus(self, room_id: str, number: int) -> list[bytes]:
        first, last = span(number)
        pdus: list[bytes] = []
        while len(pdus) < SEGMENT:
            after = first - 1 + len(pdus)
            rows = self._store.entries(room_id, after=after, limit=min(PAGE, last - after))
            pdus.extend(row.pdu for row in rows)
            await trio.lowlevel.checkpoint()
        return pdus


def _make(path: Path, pdus: list[bytes]) -> bytes:
    """Pack and keep a segment, whole or not at all; a full disk only means that it is packed again."""
    data = pack(pdus)
    try:
        write_whole(path, data)
    except OSError:
        return data
    return data
