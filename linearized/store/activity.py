"""When something last happened in a user's rooms, as the store has received it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from linearized.store.base import MembershipRow, RoomRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRoom:
    """A room that a user has or had a membership in.

    Attributes:
        row: the membership, which belongs to the end of the log that ``room`` tells of.
        position: the global position of what was last received in the room; of one that the user is not
            joined to, of their membership.
        set_by: whose entry the membership was set by; None where no entry did.
    """

    row: MembershipRow
    room: RoomRow
    position: int
    set_by: str | None


class ActivityStore(Protocol):
    """The part of ``Store`` for these."""

    def rooms_by_activity(self, user_id: str) -> list[ActiveRoom]:
        """The user's rooms, whatever their membership, the most recently active first."""
        ...

    def last_of_types(self, room_id: str, types: Collection[str], *, until: int, depth: int) -> int:
        """The global position at which the latest entry of one of the types was received, among the
        ``depth`` entries up to ``until``; 0 if there is none.
        """
        ...
