"""The policies of rooms that others order, as their commits show them, kept while events keep coming."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from linearized.room.policy import RoomPolicy
from linearized.room.seen_roles import seen_policy
from linearized.server.parts import content_of
from linearized.store.base import EntryRow, RoomRow, Store

# Rooms whose policy is kept in memory; a participant list of 1,000 users takes some 200 KB.
MAX_KEPT: Final = 256
# Commits read at a time while looking for the last.
_PAGE: Final = 200


class SeenPolicies:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[int, RoomPolicy | None]] = OrderedDict()

    def of(self, row: RoomRow) -> RoomPolicy | None:
        """The policy after the last commit in our copy; None without one."""
        seq, policy = self._kept.get(row.room_id, (-1, None))
        if seq != row.head_seq:
            last = self._last_commit(row)
            policy = seen_policy(content_of(self._store, last)) if last is not None else None
            self.keep(row.room_id, row.head_seq, policy)
        return policy

    def keep(self, room_id: str, seq: int, policy: RoomPolicy | None) -> None:
        """Note the policy after entry ``seq``, which is stored."""
        self._kept[room_id] = (seq, policy)
        self._kept.move_to_end(room_id)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def forget(self, room_id: str) -> None:
        """Drop what is noted of a room."""
        self._kept.pop(room_id, None)

    def _last_commit(self, row: RoomRow) -> EntryRow | None:
        # Once for each room and start of the server; commits are found by an index of their own.
        last: EntryRow | None = None
        while page := self._store.commit_entries(
            row.room_id, after=last.seq if last is not None else 0, limit=_PAGE
        ):
            last = page[-1]
        return last
