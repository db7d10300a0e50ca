"""What the store tells of rooms that depend on others: who is where, by the memberships that it keeps anyway.

Which room depends on which is read from the create events as they are appended.
"""

from __future__ import annotations

from typing import Protocol


class ParentStore(Protocol):
    """The part of ``Store`` for these."""

    def joined_count(self, room_id: str, *, at_most: int | None = None) -> int:
        """How many users have joined a room; counted no further than ``at_most``."""
        ...

    def dependants(self, room_id: str, *, limit: int) -> list[str]:
        """The rooms that depend on a room and are ordered here, oldest first."""
        ...

    def strayed(self, *, limit: int) -> list[str]:
        """Rooms ordered here in which somebody is (or is invited, or knocks) who has not joined the room that
        they depend on, oldest first.
        """
        ...
