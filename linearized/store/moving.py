"""What the store keeps of a room that this server is about to order: the hub's whole log, until it is ours.

A participant's copy begins with its join and counts from there. The hub of a room needs its log from the
first entry on, with the hub's sequence numbers. So the log is staged beside our copy, in pieces, and takes
its place in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from linearized.store.base import EntryRow, FollowerRow, GroupRow, RoomRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A staged log that takes the place of our copy, with what a hub keeps beside a log.

    ``room`` gives version, role, hub and epoch; its ``head_seq`` is not used. Memberships are derived from
    the log.
    """

    room: RoomRow
    group: GroupRow | None = None
    followers: tuple[FollowerRow, ...] = ()


class MovingStore(Protocol):
    """The part of ``Store`` that hub transfers need."""

    async def stage_entries(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Append entries to a room's staged log.

        Raises:
            AppendConflict: they do not continue it.
            StoreError: the room is unknown.
        """
        ...

    async def drop_staged(self, room_id: str) -> None:
        """Forget a room's staged log."""
        ...

    async def adopt(self, adoption: Adoption) -> None:
        """Put the staged log in the place of our copy; both end with the same event.

        Positions that clients were given in our copy are moved along with its last entries.

        Raises:
            StoreError: they do not, or the room is unknown.
        """
        ...

    def staged(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Staged entries with ``seq > after``, ascending."""
        ...

    def staged_head(self, room_id: str) -> int:
        """The ``seq`` of the last staged entry; 0 without any."""
        ...
