"""What commits show of the groups of rooms that others order, kept while events keep coming."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import orjson

from linearized.room.departures import MAX_PENDING
from linearized.room.proposals import messages_of
from linearized.room.seen_roles import NOTHING_SEEN, SeenGroup, seen_group
from linearized.room.submissions import Rejected
from linearized.server.parts import content_of
from linearized.store.base import RoomRow, Store

# Rooms of which that is kept in memory; a participant list of 1,000 users takes some 300 KB.
MAX_KEPT: Final = 256


class SeenGroups:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[int, SeenGroup]] = OrderedDict()

    def of(self, row: RoomRow) -> SeenGroup:
        """What the last commit in our copy showed."""
        seq, seen = self._kept.get(row.room_id, (-1, NOTHING_SEEN))
        if seq != row.head_seq:
            last = self._store.commit_before(row.room_id, seq=row.head_seq + 1)
            seen = seen_group(content_of(self._store, last)) if last is not None else NOTHING_SEEN
            self.keep(row.room_id, row.head_seq, seen)
        return seen

    def pending(self, row: RoomRow) -> list[tuple[str, bytes]]:
        """The proposals in our copy since the last commit, MLSMessages, each with the sender of its entry."""
        last = self._store.commit_before(row.room_id, seq=row.head_seq + 1)
        found: list[tuple[str, bytes]] = []
        after = last.seq if last is not None else 0
        for entry in self._store.proposals(row.room_id, after=after, limit=MAX_PENDING):
            try:
                messages = messages_of(orjson.loads(entry.pdu)["content"])
            except Rejected:  # as when it was taken
                continue
            found += [(entry.sender, message) for message in messages]
        return found

    def keep(self, room_id: str, seq: int, seen: SeenGroup) -> None:
        """Note what was seen after entry ``seq``, which is stored."""
        self._kept[room_id] = (seq, seen)
        self._kept.move_to_end(room_id)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def forget(self, room_id: str) -> None:
        """Drop what is noted of a room."""
        self._kept.pop(room_id, None)
