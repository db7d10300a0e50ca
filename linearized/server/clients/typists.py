"""Who is typing now, in memory (Client-Server API, Typing Notifications).

Each change of a room has a number. Numbers start at the time of day at which the server started, so that a
token from before a restart is behind all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

# Rooms remembered, each with the number of its last change: where more are busy at once than this, the oldest
# are forgotten, and clients end what they show by their own clocks.
MAX_ROOMS: Final = 10_000
# Of one room: nobody reads more names, and each is repeated in every answer.
MAX_TYPISTS: Final = 50


@dataclass(slots=True)
class _Room:
    """When each user's typing ends, by trio's clock, and the number of the latest change."""

    ends: dict[str, float] = field(default_factory=dict)
    number: int = 0


class Typists:
    """The users typing in each room.

    Args:
        first: the number before that of the first change.
    """

    def __init__(self, first: int) -> None:
        self._number = first
        self._rooms: OrderedDict[str, _Room] = OrderedDict()

    def start(self, room_id: str, user_id: str, seconds: float) -> bool:
        """A user types, for that long at most; True if others did not know it."""
        room = self._rooms.setdefault(room_id, _Room())
        self._end(room)
        known = user_id in room.ends
        if not known and len(room.ends) >= MAX_TYPISTS:
            return False
        room.ends[user_id] = trio.current_time() + seconds
        if not known:
            self._changed(room)
        self._rooms.move_to_end(room_id)
        while len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)
        return not known

    def stop(self, room_id: str, user_id: str) -> bool:
        """A user does not type any more; True if others did not know it."""
        room = self._rooms.get(room_id)
        if room is None or room.ends.pop(user_id, None) is None:
            return False
        self._changed(room)
        return True

    def news(self, room_id: str, *, after: int) -> tuple[int, list[str]] | None:
        """The number of a room's latest change and who types there, if that is news to whoever knows of all
        changes up to ``after``. To whoever knows of none (0) a room where nobody types is no news.
        """
        room = self._rooms.get(room_id)
        if room is None:
            return None
        self._end(room)
        if room.number <= after or not (after or room.ends):
            return None
        return room.number, sorted(room.ends)

    def seconds_to_next_end(self, room_ids: Iterable[str]) -> float:
        """Until somebody's typing in one of these rooms ends next; 0 if it is over, infinity without any."""
        rooms = [self._rooms[room_id] for room_id in room_ids if room_id in self._rooms]
        ends = [end for room in rooms for end in room.ends.values()]
        return max(0.0, min(ends, default=float("inf")) - trio.current_time())

    def _end(self, room: _Room) -> None:
        """Forget those whose time is up. Whoever reads first does it, so it is one change to everybody."""
        now = trio.current_time()
        over = [user_id for user_id, end in room.ends.items() if end <= now]
        for user_id in over:
            del room.ends[user_id]
        if over:
            self._changed(room)

    def _changed(self, room: _Room) -> None:
        self._number += 1
        room.number = self._number
