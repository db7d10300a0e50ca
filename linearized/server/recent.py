"""The newest entries of the rooms in which something happens, read once for all who are sent them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from linearized.store.base import EntryRow

# Of one room, at least, before the oldest go; and as many again until they do. A room in which a hundred
# events a second pass to a hundred followers runs some seconds late when the machine is busy with other
# things. If each follower then read its fifty from the database, it would not catch up.
KEPT_ENTRIES: Final = 512
# Bytes of events in all rooms together: those of a busy second, however large they are.
MAX_BYTES: Final = 16 * 1024 * 1024


class Recent:
    """What was appended lately, in order and without gaps, by room."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[str, list[EntryRow]] = OrderedDict()
        self._size = 0

    def add(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Note what was appended to a room."""
        kept = self._rooms.pop(room_id, [])
        if kept and entries and kept[-1].seq + 1 != entries[0].seq:
            self._size -= _size(kept)
            kept = []
        kept += entries
        self._size += _size(entries)
        if len(kept) > 2 * KEPT_ENTRIES:
            self._size -= _size(kept[:-KEPT_ENTRIES])
            del kept[:-KEPT_ENTRIES]
        self._rooms[room_id] = kept
        while self._size > MAX_BYTES:
            self._size -= _size(self._rooms.popitem(last=False)[1])

    def after(self, room_id: str, cursor: int, limit: int) -> list[EntryRow] | None:
        """The entries after ``cursor``, at most ``limit``; None if that is further back than they reach."""
        entries = self._rooms.get(room_id)
        if not entries or cursor + 1 < entries[0].seq:
            return None
        first = cursor + 1 - entries[0].seq
        return entries[first : first + limit]

    def forget(self, room_id: str) -> None:
        """A room has changed in another way."""
        self._size -= _size(self._rooms.pop(room_id, []))


def _size(entries: Sequence[EntryRow]) -> int:
    return sum(len(entry.pdu) for entry in entries)
