"""What the store keeps of deliveries by another way than ``notify``: who fetches from us, how far we have
come with the hubs that we fetch from, and by what tokens a room's messages go as fan-out requests.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutTokenRow:
    """The token that a provider gave us for one of its clients in a room; ``client`` is the client's URI."""

    client: str
    token: bytes


class PullStore(Protocol):
    """The part of ``Store`` for these."""

    async def set_pull_follower(self, provider: str, *, pulls: bool) -> None:
        """Note that a provider fetches what it follows, or that it no longer does."""
        ...

    async def put_pull_cursor(self, row: PullCursorRow) -> None:
        """Insert or replace the cursor of a hub. ``RoomAppend.pulled`` does it together with entries."""
        ...

    async def set_pulled_hub(self, hub: str, *, pulled: bool) -> None:
        """Note that we fetch from a hub that the settings do not name, or that we no longer do."""
        ...

    async def put_fanout_tokens(
        self, room_id: str, provider: str, tokens: tuple[FanoutTokenRow, ...]
    ) -> None:
        """Keep these tokens of a provider's clients in a room, and none of those before."""
        ...

    def fanout_tokens(self, room_id: str, provider: str) -> list[FanoutTokenRow]:
        """The tokens of a provider's clients in a room, by client."""
        ...

    def pull_followers(self) -> list[str]:
        """The providers that fetch what they follow, in order."""
        ...

    def pulled_hubs(self) -> list[str]:
        """The hubs that we fetch from beside those in the settings, in order."""
        ...

    def pull_cursor(self, hub: str) -> str | None:
        """The cursor that came with what we last took from a hub, or None."""
        ...

    def followed_by(self, provider: str) -> list[FollowerRow]:
        """A provider's cursors in all rooms, oldest room first."""
        ...
