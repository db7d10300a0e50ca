"""What users show of themselves, and the rooms they want to hear no more of, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """A user's display name and the ``mxc:`` URI of their picture; None where they have none."""

    user_id: str
    displayname: str | None = None
    avatar_url: str | None = None


class ProfileStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_profile(self, profile: ProfileRow) -> None:
        """Insert or replace a user's profile."""
        ...

    async def put_forgotten(self, user_id: str, room_id: str, seq: int) -> None:
        """Note that a user forgets the membership set by entry ``seq``. StoreError if the room is unknown."""
        ...

    def profile(self, user_id: str) -> ProfileRow:
        """The user's profile; an empty one if none was ever set."""
        ...

    def forgotten(self, user_id: str, room_id: str) -> int | None:
        """The ``seq`` that was last noted, or None."""
        ...
