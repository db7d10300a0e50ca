"""Followers: every provider that takes part in a room we order is a cursor into its log, and one task moves
them.

There is no outbox. A worker per provider reads the range after each cursor, sends it, and moves the cursor
when the provider has accepted it; an outage of any length is caught up the same way, and a slow provider
delays nobody else.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Final

import orjson
import structlog
import trio

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.identifiers import room_uri
from linearized.server.cursors import MIMI
from linearized.server.fanout import next_notification
from linearized.server.outbound import FederationClient, OutboundError
from linearized.server.providers.client import ProviderClient, ProviderError
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, FollowerRow, Store

log = structlog.get_logger("linearized.followers")

# "There MUST NOT be more than 50 entries in pdus" (Linearized Matrix, send).
MAX_PDUS: Final = 50
# Entries read for one notification; the byte limit usually cuts first.
NOTIFY_PAGE: Final = 200
# Welcomes read for one notification.
WELCOME_PAGE: Final = 50
# First and longest pause after a failed delivery, seconds; doubled in between, with jitter so that many hubs
# do not come back to a recovering provider at the same moment.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
ACCEPTED: Final = frozenset({200, 201, 202})

LM_SEND: Final = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02/send/{txn}"


class Followers:
    """All workers.

    Args:
        jitter: gives a number in [0, 1); injected so that tests are deterministic.
    """

    def __init__(
        self,
        *,
        store: Store,
        providers: ProviderClient,
        federation: FederationClient,
        nursery: trio.Nursery,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._providers = providers
        self._federation = federation
        self._nursery = nursery
        self._jitter = jitter
        self._workers: dict[str, _Worker] = {}

    def start(self) -> None:
        """Continue every delivery that was under way when the server stopped."""
        for follower in self._store.followers():
            self._worker(follower.provider).wake.set()

    def room_changed(self, room_id: str) -> None:
        """Wake the workers of the room's followers."""
        for follower in self._store.followers(room_id):
            self._worker(follower.provider).changed(room_id)

    def contacted(self, provider: str) -> None:
        """A provider has been heard from: do not wait out its pause."""
        worker = self._workers.get(provider)
        if worker is not None:
            worker.hurry.set()

    def _worker(self, provider: str) -> _Worker:
        worker = self._workers.get(provider)
        if worker is None:
            worker = self._workers[provider] = _Worker(
                provider, self._store, self._providers, self._federation, self._jitter
            )
            self._nursery.start_soon(worker.run)
        return worker


class _Worker:
    """Delivers to one provider, one request at a time, all its rooms in turn."""

    def __init__(
        self,
        provider: str,
        store: Store,
        providers: ProviderClient,
        federation: FederationClient,
        jitter: Callable[[], float],
    ) -> None:
        self._provider = provider
        self._store = store
        self._providers = providers
        self._federation = federation
        self._jitter = jitter
        self._rooms: set[str] = {row.room_id for row in store.followers() if row.provider == provider}
        self.wake = trio.Event()  # there is something to deliver
        self.hurry = trio.Event()  # the pause after a failure need not be waited out

    def changed(self, room_id: str) -> None:
        """Note a room with something new."""
        self._rooms.add(room_id)
        self.wake.set()

    async def run(self) -> None:
        """Deliver whenever woken; after a failure pause, longer each time."""
        pause = FIRST_PAUSE
        while True:
            await self.wake.wait()
            self.wake = trio.Event()
            try:
                await self._deliver_all()
                pause = FIRST_PAUSE
            except (ProviderError, OutboundError) as error:
                asked = getattr(error, "retry_after_s", None)
                wait = min(asked, LONGEST_PAUSE) if asked else pause * (0.5 + self._jitter())
                log.warning(
                    "delivery_failed", provider=self._provider, error=str(error), retry_in_s=round(wait, 2)
                )
                self.hurry = trio.Event()
                with trio.move_on_after(wait):
                    await self.hurry.wait()
                self.wake.set()
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _deliver_all(self) -> None:
        while self._rooms:
            room_id = min(self._rooms)
            if not await self._deliver(room_id):
                self._rooms.discard(room_id)

    async def _deliver(self, room_id: str) -> bool:
        """Send a room's next range; False if there was nothing left."""
        follower = next(
            (row for row in self._store.followers(room_id) if row.provider == self._provider), None
        )
        if follower is None:
            return False
        limit = NOTIFY_PAGE if follower.protocol == MIMI else MAX_PDUS
        entries = self._store.entries(room_id, after=follower.cursor, limit=limit)
        if follower.stop_seq is not None:
            entries = [entry for entry in entries if entry.seq <= follower.stop_seq]
        if follower.protocol == MIMI:
            return await self._notify(follower, entries)
        return await self._send(follower, entries)

    async def _notify(self, follower: FollowerRow, entries: list[EntryRow]) -> bool:
        address = provider_address(self._provider)
        welcomes = self._store.to_device(address, follower.room_id, after=0, limit=WELCOME_PAGE)
        notification = next_notification(cursor=follower.cursor, entries=entries, welcomes=welcomes)
        if notification is None:
            return False
        if notification.body:
            answer = await self._providers.post(
                self._provider, "notify", room_uri(follower.room_id), notification.body
            )
            if answer.status not in ACCEPTED:
                raise ProviderError(
                    f"{self._provider} answered {answer.status}",
                    status=answer.status,
                    retry_after_s=answer.retry_after_s,
                )
        await self._moved(follower, notification.cursor)
        if notification.welcomes:
            await self._store.delete_to_device(address, follower.room_id, up_to=notification.welcomes)
        return True

    async def _send(self, follower: FollowerRow, entries: list[EntryRow]) -> bool:
        if not entries:
            return False
        body = {"pdus": [orjson.loads(entry.pdu) for entry in entries]}
        # The same range is the same transaction, so a retry is recognised by its content.
        digest = hashlib.sha256("".join(entry.event_id for entry in entries).encode()).digest()
        path = LM_SEND.format(txn=encode_base64url(digest))
        answer = await self._federation.request(self._provider, "PUT", path, json=body)
        failed = answer.get("failed_pdus")
        if failed:
            log.warning(
                "follower_refused", provider=self._provider, room_id=follower.room_id, events=len(failed)
            )
        await self._moved(follower, entries[-1].seq)
        return True

    async def _moved(self, follower: FollowerRow, cursor: int) -> None:
        """Move the cursor, keeping a stop that was set while the request was under way."""
        latest = next(
            (row for row in self._store.followers(follower.room_id) if row.provider == self._provider),
            follower,
        )
        await self._store.put_follower(
            FollowerRow(
                room_id=follower.room_id,
                provider=self._provider,
                protocol=latest.protocol,
                cursor=max(cursor, latest.cursor),
                stop_seq=latest.stop_seq,
            )
        )
