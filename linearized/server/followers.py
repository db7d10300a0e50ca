"""Followers: every provider that takes part in a room we order is a cursor into its log, and one task moves
them.

There is no outbox. A worker per provider reads the range after each cursor, sends it, and moves the cursor
when the provider has accepted it; an outage of any length is caught up the same way, and a slow provider
delays nobody else.

A follower whose last user was removed gets the log up to there and then stays as it is, finished: its row is
what a delivery under way at that moment finds, it costs a few bytes, and nothing is read or sent for it any
more.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
import structlog
import trio

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.identifiers import room_uri
from linearized.server.cursors import MIMI, is_finished
from linearized.server.fanout import next_notification
from linearized.server.outbound import FederationClient, OutboundError
from linearized.server.providers.client import ProviderClient, ProviderError
from linearized.server.telemetry import describe
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
# The longest pause a provider can ask for, seconds: a mistake of its must not silence us for good.
LONGEST_ASKED_PAUSE: Final = 3600.0
ACCEPTED: Final = frozenset({200, 201, 202})
# Answers that speak for the whole provider, not for one room: too many requests, and what a proxy says of a
# server behind it that is down.
OUTAGES: Final = frozenset({429, 502, 503, 504})

ALL: Final = 2**63  # past every log's end

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
        self._wake(self._store.followers())

    def room_changed(self, room_id: str) -> None:
        """Wake the workers of the room's followers."""
        self._wake(self._store.followers(room_id))

    def contacted(self, provider: str) -> None:
        """A provider has been heard from: do not wait out a pause it did not ask for."""
        worker = self._workers.get(provider)
        if worker is not None:
            worker.hurry()

    def _wake(self, followers: list[FollowerRow]) -> None:
        for follower in followers:
            if not is_finished(follower):
                self._worker(follower.provider).changed(follower.room_id)

    def _worker(self, provider: str) -> _Worker:
        worker = self._workers.get(provider)
        if worker is None:
            worker = self._workers[provider] = _Worker(
                provider, self._store, self._providers, self._federation, self._jitter
            )
            self._nursery.start_soon(worker.run)
        return worker


@dataclass(slots=True)
class _Pause:
    """Waits after failures, each about twice as long as the one before."""

    until: float = -math.inf  # trio's clock
    length: float = FIRST_PAUSE

    def begin(self, jitter: float) -> float:
        """Start the next wait; its seconds."""
        seconds = self.length * (0.5 + jitter)
        self.until = trio.current_time() + seconds
        self.length = min(self.length * 2, LONGEST_PAUSE)
        return seconds


class _Worker:
    """Delivers to one provider, one request at a time, all its rooms in turn.

    A provider that cannot be reached is left alone for a while; one that refuses a room is left alone about
    that room, and gets the others.
    """

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
        self._rooms: dict[str, None] = {}  # to deliver, in turn
        self._refused: dict[str, _Pause] = {}  # rooms it did not take, not in _rooms before their time
        self._outage = _Pause()
        self._asked_until = -math.inf  # it asked us to stay away until then, by trio's clock
        self._wake = trio.Event()

    def changed(self, room_id: str) -> None:
        """Note a room with something new."""
        pause = self._refused.get(room_id)
        if pause is None or pause.until <= trio.current_time():
            self._rooms[room_id] = None
            self._wake.set()

    def hurry(self) -> None:
        """End the pauses that we made ourselves."""
        self._outage.until = -math.inf
        for pause in self._refused.values():
            pause.until = -math.inf
        self._wake.set()

    async def run(self) -> None:
        """Deliver whatever is due, for ever."""
        while True:
            room_id = await self._next_room()
            try:
                more = await self._deliver(room_id)
            except (ProviderError, OutboundError) as error:
                self._rooms.pop(room_id, None)
                self._failed(room_id, error)
            except Exception as error:  # noqa: BLE001 - our disk or our bug: the others must not suffer from it
                self._rooms.pop(room_id, None)
                pause = self._refused.setdefault(room_id, _Pause())
                seconds = pause.begin(self._jitter())
                log.error(
                    "delivery_broken",
                    provider=self._provider,
                    room_id=room_id,
                    retry_in_s=round(seconds, 2),
                    **describe(error),
                )
            else:
                self._outage = _Pause()
                self._refused.pop(room_id, None)
                if more:  # the other rooms have their turn first
                    self._rooms.pop(room_id, None)
                    self._rooms[room_id] = None

    async def _next_room(self) -> str:
        """Wait until a room is due."""
        while True:
            now = trio.current_time()
            closed_until = max(self._outage.until, self._asked_until)
            for room_id, pause in self._refused.items():
                if pause.until <= now:
                    self._rooms.setdefault(room_id, None)
            if self._rooms and closed_until <= now:
                return next(iter(self._rooms))
            reopens = closed_until if self._rooms else math.inf
            retries = [max(pause.until, closed_until) for pause in self._refused.values()]
            self._wake = trio.Event()
            with trio.CancelScope(deadline=min([reopens, *retries])):
                await self._wake.wait()

    def _failed(self, room_id: str, error: ProviderError | OutboundError) -> None:
        if error.retry_after_s is not None:
            seconds = min(error.retry_after_s, LONGEST_ASKED_PAUSE)
            self._asked_until = trio.current_time() + seconds
            self._rooms[room_id] = None
        elif error.status is None or error.status in OUTAGES:
            seconds = self._outage.begin(self._jitter())
            self._rooms[room_id] = None
        else:
            seconds = self._refused.setdefault(room_id, _Pause()).begin(self._jitter())
        log.warning(
            "delivery_failed",
            provider=self._provider,
            room_id=room_id,
            status=error.status,
            reason=str(error) if error.status is None else None,  # else it may hold the provider's words
            retry_in_s=round(seconds, 2),
        )

    async def _deliver(self, room_id: str) -> bool:
        """Send a room's next range; False, and the room taken off the list, if there was nothing left."""
        self._rooms.pop(room_id, None)  # what comes while we deliver puts it back
        followers = [
            row
            for row in self._store.followers(room_id)
            if row.provider == self._provider and not is_finished(row)
        ]
        # Two at once only when a provider changes its protocol; the one that stops goes first.
        followers.sort(key=lambda row: row.stop_seq is None)
        for follower in followers:
            limit = NOTIFY_PAGE if follower.protocol == MIMI else MAX_PDUS
            entries = self._store.entries(room_id, after=follower.cursor, limit=limit)
            if follower.stop_seq is not None:
                entries = [entry for entry in entries if entry.seq <= follower.stop_seq]
            send = self._notify if follower.protocol == MIMI else self._send
            if await send(follower, entries):
                return True
        return False

    async def _notify(self, follower: FollowerRow, entries: list[EntryRow]) -> bool:
        address = provider_address(self._provider)
        welcomes = self._store.to_device(address, follower.room_id, after=0, limit=WELCOME_PAGE)
        notification = next_notification(cursor=follower.cursor, entries=entries, welcomes=welcomes)
        if notification is None:
            return False
        if notification.body:
            await self._post(follower.room_id, notification.body)
        await self._moved(follower, notification.cursor)
        if notification.welcomes:
            await self._store.delete_to_device(address, follower.room_id, up_to=notification.welcomes)
        return True

    async def _post(self, room_id: str, body: bytes) -> None:
        answer = await self._providers.post(self._provider, "notify", room_uri(room_id), body)
        if answer.status not in ACCEPTED:
            raise ProviderError(
                f"{self._provider} answered {answer.status}",
                status=answer.status,
                retry_after_s=answer.retry_after_s,
            )

    async def _send(self, follower: FollowerRow, entries: list[EntryRow]) -> bool:
        refusal: ProviderError | None = None
        try:
            if await self._welcome(follower):
                return True
        except ProviderError as error:  # its PDUs do not wait for that
            refusal = error
        if not entries:
            if refusal is not None:
                raise refusal
            return False
        body = {"pdus": [orjson.loads(entry.pdu) for entry in entries]}
        # The same range is the same transaction, so a retry is recognised by its content.
        digest = hashlib.sha256("".join(entry.event_id for entry in entries).encode()).digest()
        path = LM_SEND.format(txn=encode_base64url(digest))
        answer = await self._federation.request(self._provider, "PUT", path, json=body)
        failed = answer.get("failed_pdus")
        if isinstance(failed, dict) and failed:
            log.warning(
                "follower_refused", provider=self._provider, room_id=follower.room_id, events=len(failed)
            )
        await self._moved(follower, entries[-1].seq)
        return True

    async def _welcome(self, follower: FollowerRow) -> bool:
        """Send a Linearized Matrix server its Welcomes: its draft addresses them to devices, and which one a
        KeyPackageRef stands for only that server knows. So they go the way it gave out its key packages, and
        ahead of the PDUs, so that no client meets a message before it can read it.
        """
        address = provider_address(self._provider)
        welcomes = self._store.to_device(address, follower.room_id, after=0, limit=WELCOME_PAGE)
        notification = next_notification(cursor=ALL, entries=[], welcomes=welcomes)
        if notification is None:
            return False
        await self._post(follower.room_id, notification.body)
        await self._store.delete_to_device(address, follower.room_id, up_to=notification.welcomes)
        return True

    async def _moved(self, follower: FollowerRow, cursor: int) -> None:
        await self._store.move_cursor(follower.room_id, self._provider, follower.protocol, cursor)
