"""What one sync covers: for each of a user's rooms, a run of new entries that no other sync of that device
covers.

The store writes while we read, so the end of a sync is fixed first: ``target`` is a global position, and a
room's last entry at ``target`` lies right before its first entry after ``target``. Reading the heads between
the two answers makes that exact: what is not yet in a head is after ``target``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from linearized.store.base import MembershipRow, Store

# Rooms one answer tells about. With a page of timeline each, a few megabytes; the rest follows in the next
# sync.
MAX_ROOMS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWindow:
    """New entries ``first`` to ``last`` (none if ``last < first``) of a room, and the user's latest
    membership.
    """

    row: MembershipRow
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Everything new to a user up to ``target``."""

    target: int
    rooms: tuple[RoomWindow, ...]


def read_window(
    store: Store,
    *,
    user_id: str,
    since: int,
    wanted: Callable[[str], bool],
    unchanged: bool = False,
    max_rooms: int = MAX_ROOMS,
) -> Window:
    """Find what is new to a user after position ``since``.

    Args:
        since: 0 for everything.
        wanted: whether the client's filter lets a room through.
        unchanged: whether joined rooms without news belong to the window, too, with no new entries.
        max_rooms: with more rooms than this the window ends earlier, where it holds at most that many.
    """
    target = store.position()
    mine = {row.room_id: row for row in store.rooms_of(user_id) if wanted(row.room_id)}
    changed = {room_id: first for room_id, first in store.changed_rooms(since).items() if room_id in mine}
    if len(changed) > max_rooms:
        target = _earlier_target(store, changed, since=since, target=target, max_rooms=max_rooms)
    asked = mine if unchanged else changed
    heads = {room_id: room.head_seq for room_id in asked if (room := store.room(room_id)) is not None}
    later = store.changed_rooms(target)
    rooms = [
        RoomWindow(
            row=mine[room_id],
            first=first,
            last=min(heads[room_id], later.get(room_id, heads[room_id] + 1) - 1),
        )
        for room_id, first in changed.items()
        if room_id in heads and _in_window(first, later.get(room_id), heads[room_id])
    ]
    told = {room.row.room_id for room in rooms}
    for room_id, head in heads.items():
        if unchanged and room_id not in told and mine[room_id].membership == "join":
            last = min(head, later.get(room_id, head + 1) - 1)
            rooms.append(RoomWindow(row=mine[room_id], first=last + 1, last=last))
    return Window(target=target, rooms=tuple(rooms))


def _in_window(first: int, later: int | None, head: int) -> bool:
    """Whether a room changed before the target: by an entry, or (``first > head``) by a membership without
    one.
    """
    return later is None or later > first or first > head


def _earlier_target(
    store: Store, changed: Mapping[str, int], *, since: int, target: int, max_rooms: int
) -> int:
    """The latest position by which at most ``max_rooms`` of the changed rooms had changed.

    Appends that were committed together share a position, so a window may still hold more rooms than that; it
    never holds fewer than those of one position, and so every sync advances.
    """

    def rooms_by(position: int) -> int:
        later = store.changed_rooms(position)
        return sum(later.get(room_id, first + 1) > first for room_id, first in changed.items())

    low, high = since + 1, target
    while low < high:
        middle = (low + high + 1) // 2
        if rooms_by(middle) <= max_rooms:
            low = middle
        else:
            high = middle - 1
    return low
