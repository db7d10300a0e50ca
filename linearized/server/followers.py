"""Followers: every provider that takes part in a room we order is a cursor into its log, and one task moves
them.

There is no outbox. A worker per provider reads the range after each cursor, sends it, and moves the cursor
when the provider has accepted it (``progress``); an outage of any length is caught up the same way, and a
slow provider delays nobody else. Linearized Matrix servers get the events of all their rooms together, fifty
at a time, and what is appended while they wait for their turn (``pacing``).

A follower whose last user was removed gets the log up to there and then stays as it is, finished: its row is
what a delivery under way at that moment finds, it costs a few bytes, and nothing is read or sent for it any
more.

A MIMI provider may fetch what it follows instead (``pulls``); then nothing is sent to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from linearized.server.batches import EDUS
from linearized.server.cursors import MIMI, is_finished
from linearized.server.delivering import Worker
from linearized.server.fanout import FrankOf, no_frank
from linearized.server.outbound import FederationClient
from linearized.server.pacing import Pace
from linearized.server.progress import Progress
from linearized.server.providers.client import ProviderClient
from linearized.server.pull_followers import PullFollowers
from linearized.server.recent import Recent
from linearized.store.base import EntryRow, FollowerRow, Store


class Followers:
    """All workers.

    Args:
        own_name: this server.
        frank_of: gives the frank of an entry of ours.
        pulls: the providers that fetch.
        jitter: gives a number in [0, 1); injected so that tests are deterministic.
    """

    def __init__(
        self,
        *,
        own_name: str,
        store: Store,
        providers: ProviderClient,
        federation: FederationClient,
        nursery: trio.Nursery,
        pulls: PullFollowers,
        frank_of: FrankOf = no_frank,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.pulls = pulls
        self._own_name = own_name
        self._store = store
        self._providers = providers
        self._federation = federation
        self._nursery = nursery
        self._frank_of = frank_of
        self._jitter = jitter
        self.progress = Progress(store)
        self._pace = Pace()
        self._recent = Recent()
        self._workers: dict[str, Worker] = {}

    def start(self) -> None:
        """Continue every delivery that was under way when the server stopped."""
        self._nursery.start_soon(self.progress.run)
        self._wake(self._store.followers())
        for address in self._store.to_device_addresses(EDUS):
            self.units_waiting(address.partition(":")[2])

    def appended(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Wake the workers of the room's followers: these entries are the newest of its log."""
        self._recent.add(room_id, entries)
        self._wake(self._store.followers(room_id))

    def room_changed(self, room_id: str) -> None:
        """Wake the workers of the room's followers, whatever has happened."""
        self._recent.forget(room_id)
        self._wake(self._store.followers(room_id))

    def units_waiting(self, server: str) -> None:
        """Wake the worker of a server that has ephemeral units waiting (``batches.queued_units``)."""
        self._worker(server).changed(EDUS)

    async def push_again(self, provider: str) -> bool:
        """Notify a pull follower from now on; False if our settings say that it fetches."""
        removed = await self.pulls.remove(provider)
        if removed:
            self._worker(provider).stay_away(0)
            self._wake(self._store.followed_by(provider))
        return removed

    def await_fetching(self, provider: str, seconds: float) -> None:
        """Send a provider nothing for a while: it is said to fetch, and has to register for that."""
        self._worker(provider).stay_away(seconds)

    def contacted(self, provider: str) -> None:
        """A provider has been heard from: do not wait out a pause it did not ask for."""
        worker = self._workers.get(provider)
        if worker is not None:
            worker.hurry()

    def _wake(self, followers: list[FollowerRow]) -> None:
        for follower in followers:
            if follower.stop_seq is not None and is_finished(self.progress.of(follower)):
                continue  # how far one is that runs on does not matter here
            if follower.protocol == MIMI and self.pulls.includes(follower.provider):
                self.pulls.room_changed(follower.provider, follower.room_id)
            else:
                self._worker(follower.provider).changed(follower.room_id)

    def _worker(self, provider: str) -> Worker:
        worker = self._workers.get(provider)
        if worker is None:
            worker = self._workers[provider] = Worker(
                own_name=self._own_name,
                provider=provider,
                store=self._store,
                progress=self.progress,
                providers=self._providers,
                federation=self._federation,
                frank_of=self._frank_of,
                pace=self._pace,
                recent=self._recent,
                jitter=self._jitter,
                pulls=self.pulls.includes,
            )
            self._nursery.start_soon(worker.run)
        return worker
