"""The providers that fetch what they follow: by the operator's settings, or because they asked to."""

from __future__ import annotations

from collections.abc import Collection

from linearized.protocol.signing import SigningKey
from linearized.server.cursors import MIMI, is_finished
from linearized.server.fanout import FrankOf, no_frank
from linearized.server.pull_cursors import CursorSeal
from linearized.server.pull_follower import PullFollower
from linearized.store.base import Store


class PullFollowers:
    """All of them.

    Args:
        key: authenticates cursors (see ``CursorSeal``).
        configured: providers that fetch by our settings, whatever they ask for.
        frank_of: gives the frank of an entry of ours.
    """

    def __init__(
        self,
        *,
        store: Store,
        key: SigningKey,
        configured: Collection[str] = (),
        frank_of: FrankOf = no_frank,
    ) -> None:
        self._frank_of = frank_of
        self._store = store
        self._seal = CursorSeal(key)
        self._configured = frozenset(configured)
        self._asked = set(store.pull_followers())
        self._active: dict[str, PullFollower] = {}

    def includes(self, provider: str) -> bool:
        """Whether a provider fetches what it follows; then nothing is pushed to it over MIMI."""
        return provider in self._configured or provider in self._asked

    def is_shown_moves(self, provider: str) -> bool:
        """Whether a pull follower said, when it last asked, that it goes along with rooms that move. Of one
        that has not asked since we started that is not known.
        """
        active = self._active.get(provider)
        return active is not None and active.moves

    def room_changed(self, provider: str, room_id: str) -> None:
        """A room that a pull follower is in has something new."""
        active = self._active.get(provider)
        if active is not None:  # else it reads its cursors when it first asks
            active.room_changed(room_id)

    def get(self, provider: str) -> PullFollower | None:
        """The pull follower; None if the provider is none."""
        if not self.includes(provider):
            return None
        follower = self._active.get(provider)
        if follower is None:
            follower = self._active[provider] = PullFollower(
                provider,
                store=self._store,
                seal=self._seal,
                rows=self._store.followed_by(provider),
                frank_of=self._frank_of,
            )
        return follower

    async def add(self, provider: str) -> bool:
        """Make a provider a pull follower at its own request; False, and nothing changed, if it takes part
        in no room of ours: names must not fill our store.
        """
        if self.includes(provider):
            return True
        rows = self._store.followed_by(provider)
        if not any(row.protocol == MIMI and not is_finished(row) for row in rows):
            return False
        await self._store.set_pull_follower(provider, pulls=True)
        self._asked.add(provider)
        return True

    async def remove(self, provider: str) -> bool:
        """Push to a provider again, at its own request; False if it fetches by our settings."""
        if provider in self._configured:
            return False
        await self._store.set_pull_follower(provider, pulls=False)
        self._asked.discard(provider)
        self._active.pop(provider, None)
        return True
