"""The newest entries of the rooms in which something happens, read once for all who are sent them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from linearized.store.base import EntryRow

# Of one room. Whoever is further behind is sent them fifty at a time, and one query for fifty is no matter.
MAX_ENTRIES: Final = 64
# Bytes of events in all rooms together: those of a busy second, however large they are.
MAX_BYTES: Final = 16 * 1024 * 1024


class Recent:
    """What was appended lately, in order and without gaps, by room."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[str, list[EntryRow]] = OrderedDict()
        self._size = 0

    def add(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Note what was appended to a room."""
        known = self._rooms.pop(room_id, [])
        self._size -= _size(known)
        if known and entries and known[-1].seq + 1 != entries[0].seq:
            known = []
        kept = [*known, *entries][-MAX_ENTRIES:]
        self._rooms[room_id] = kept
        self._size += _size(kept)
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
