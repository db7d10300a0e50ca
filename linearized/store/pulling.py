"""What the store keeps of deliveries that the follower fetches: who fetches from us, and how far we have come
with the hubs that we fetch from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from linearized.store.base import FollowerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PullCursorRow:
    """The cursor, opaque to us, that came with what we last took from a hub."""

    hub: str
    cursor: str


class PullStore(Protocol):
    """The part of ``Store`` that pull followers need, on both sides."""

    async def set_pull_follower(self, provider: str, *, pulls: bool) -> None:
        """Note that a provider fetches what it follows, or that it no longer does."""
        ...

    async def put_pull_cursor(self, row: PullCursorRow) -> None:
        """Insert or replace the cursor of a hub. ``RoomAppend.pulled`` does it together with entries."""
        ...

    def pull_followers(self) -> list[str]:
        """The providers that fetch what they follow, in order."""
        ...

    def pull_cursor(self, hub: str) -> str | None:
        """The cursor that came with what we last took from a hub, or None."""
        ...

    def followed_by(self, provider: str) -> list[FollowerRow]:
        """A provider's cursors in all rooms, oldest room first."""
        ...
