"""One provider's deliveries: what is due, in which order, and what a failure costs.

A worker makes one request at a time. A provider that cannot be reached is left alone for a while; one that
refuses a room is left alone about that room, and gets the others. A transaction that got no answer is sent
again exactly as it was: "Sending servers SHOULD … retry the exact same request with the same transaction ID
until they see a 200 OK response" (Linearized Matrix, send).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio

from linearized.protocol.canonical import JsonObject
from linearized.server.batches import EDUS, MAX_EDUS, Batch, has_place, queued_units, waiting_units
from linearized.server.claims import welcome_units
from linearized.server.cursors import MIMI, is_finished
from linearized.server.endpoints import UNSTABLE
from linearized.server.fanout import (
    WELCOME_PAGE,
    FrankOf,
    next_notification,
)
from linearized.server.notifying import Notifying
from linearized.server.outbound import FederationClient, OutboundError
from linearized.server.pacing import Pace
from linearized.server.pauses import LONGEST_ASKED_PAUSE, Pause
from linearized.server.progress import Progress
from linearized.server.providers.client import ProviderClient, ProviderError
from linearized.server.recent import Recent
from linearized.server.telemetry import describe
from linearized.server.welcomes import provider_address
from linearized.store.base import FollowerRow, Store, ToDeviceRow

log = structlog.get_logger("linearized.delivering")

# Entries read of one room for one transaction, in which others may have their share.
SEND_PAGE: Final = 50
# Answers that speak for the whole provider, not for one room: too many requests, and what a proxy says of a
# server behind it that is down.
OUTAGES: Final = frozenset({429, 502, 503, 504})
# "If the sending server attempts to send a different transaction ID from the one already in flight, the
# receiving server MUST respond with a 400 Bad Request HTTP status code and M_BAD_STATE" (send): its fault is
# no room's.
IN_FLIGHT: Final = "M_BAD_STATE"

ALL: Final = 2**63  # past every log's end

LM_SEND: Final = UNSTABLE + "/send/{txn}"


class Worker:
    """Delivers to one provider, all its rooms in turn."""

    def __init__(
        self,
        *,
        provider: str,
        store: Store,
        progress: Progress,
        providers: ProviderClient,
        federation: FederationClient,
        frank_of: FrankOf,
        pace: Pace,
        recent: Recent,
        jitter: Callable[[], float],
        own_name: str,
        pulls: Callable[[str], bool] = lambda _provider: False,
    ) -> None:
        self._own_name = own_name
        self._pulls = pulls  # whether a provider fetches what it follows over MIMI
        self._pace = pace
        self._recent = recent
        self._provider = provider
        self._store = store
        self._progress = progress
        self._notifying = Notifying(
            provider,
            store=store,
            progress=progress,
            providers=providers,
            frank_of=frank_of,
            own_name=own_name,
        )
        self._federation = federation
        self._jitter = jitter
        self._due: dict[str, None] = {}  # rooms (and EDUS) to deliver, in turn
        self._refused: dict[str, Pause] = {}  # those it did not take, not due before their time
        self._unwelcome: dict[str, Pause] = {}  # rooms whose Welcomes it did not take
        self._alone: dict[str, None] = {}  # due, each in a transaction of its own: their batch was refused
        self._pending: Batch | None = None  # sent, and no answer: to be sent again as it was
        self._outage = Pause()
        self._asked_until = -math.inf  # we are to stay away until then, by trio's clock
        self._wake = trio.Event()

    def changed(self, key: str) -> None:
        """Note a room with something new, or ``EDUS``."""
        pause = self._refused.get(key)
        if pause is None or pause.over:
            self._due[key] = None
            self._wake.set()

    def hurry(self) -> None:
        """End the pauses that we made ourselves."""
        for pause in (self._outage, *self._refused.values(), *self._unwelcome.values()):
            pause.until = -math.inf
        self._wake.set()

    def stay_away(self, seconds: float) -> None:
        """Send nothing for so long, whoever is heard from meanwhile; 0 ends that."""
        self._asked_until = trio.current_time() + seconds
        self._wake.set()

    async def run(self) -> None:
        """Deliver whatever is due, for ever."""
        while True:
            key = await self._next()
            try:
                await self._step(key)
            except Exception as error:  # noqa: BLE001 - our disk or our bug: the others must not suffer from it
                self._broken(key, error)

    async def _next(self) -> str:
        """Wait until something is due; a room or ``EDUS``."""
        while True:
            closed_until = max(self._outage.until, self._asked_until)
            for pauses in (self._refused, self._unwelcome):
                for key, pause in pauses.items():
                    if pause.over:
                        self._due.setdefault(key, None)
            if self._due and closed_until <= trio.current_time():
                return next(iter(self._due))
            reopens = closed_until if self._due else math.inf
            retries = [
                max(pause.until, closed_until)
                for pause in (*self._refused.values(), *self._unwelcome.values())
                if not pause.over
            ]
            self._wake = trio.Event()
            with trio.CancelScope(deadline=min([reopens, *retries])):
                await self._wake.wait()

    async def _step(self, key: str) -> None:
        """Make the next request: what is pending, a MIMI room's notification, or a transaction."""
        if self._pending is not None:
            await self._send(self._pending)
            return
        await self._pace.turn()
        follower = self._follower(key) if key != EDUS else None
        if follower is not None and follower.protocol == MIMI:
            await self._step_mimi(follower)
            return
        batch = await self._gather({key: follower})
        if not batch:
            self._pace.give_back()
            return
        if batch.is_full:
            self._pace.was_full()
        await self._send(batch)

    async def _step_mimi(self, follower: FollowerRow) -> None:
        keys = [follower.room_id]
        self._due.pop(follower.room_id, None)  # what comes while we deliver puts it back
        try:
            told = await self._notifying.tell(follower)
        except ProviderError as error:
            self._failed(keys, error)
            return
        if not told.requested:
            self._pace.give_back()
        self._done(keys)
        if told.more:
            self._again(follower.room_id)

    def _follower(self, room_id: str) -> FollowerRow | None:
        """Our cursor for this provider in a room. Two run at once only when a provider changes its protocol;
        the one that stops goes first.
        """
        fetched = self._pulls(self._provider)
        rows = map(self._progress.of, self._store.cursors(room_id, self._provider))
        running = [row for row in rows if not is_finished(row) and not (fetched and row.protocol == MIMI)]
        return min(running, key=lambda row: row.stop_seq is None, default=None)

    # --- Linearized Matrix: transactions over all rooms ---

    async def _welcome(self, room_id: str) -> None:
        """Send a Linearized Matrix server its Welcomes: its draft addresses them to devices, and which one a
        KeyPackageRef stands for only that server knows. So they go the way it gave out its key packages, and
        ahead of the PDUs, so that no client meets a message before it can read it. If it does not take them,
        its PDUs do not wait for that.
        """
        pause = self._unwelcome.get(room_id)
        if pause is not None and not pause.over:
            return
        address = provider_address(self._provider)
        welcomes = self._store.to_device(address, room_id, after=0, limit=WELCOME_PAGE)
        more = len(welcomes) == WELCOME_PAGE
        welcomes = welcomes[await self._welcome_devices(room_id, welcomes) :]
        notification = next_notification(cursor=ALL, entries=[], welcomes=welcomes)
        if notification is not None:
            try:
                await self._notifying.post(room_id, notification.body)
            except ProviderError as error:
                seconds = self._unwelcome.setdefault(room_id, Pause()).begin(self._jitter())
                self._log_failure("welcome_failed", [room_id], error, seconds)
                return
            await self._store.delete_to_device(address, room_id, up_to=notification.welcomes)
            more = more or notification.welcomes < welcomes[-1].position
        self._unwelcome.pop(room_id, None)
        if more:
            self._due[room_id] = None

    async def _welcome_devices(self, room_id: str, welcomes: list[ToDeviceRow]) -> int:
        """Queue those Welcomes for devices that are known to be for them, up to the first that is not; how
        many.
        """
        for count, row in enumerate(welcomes):
            units = welcome_units(self._store, room_id, row, self._own_name)
            if units is None or not has_place(self._store, self._provider, len(units)):
                return count
            # Twice, if we are stopped in between: a device takes a Welcome once.
            await self._store.put_to_device(queued_units(self._provider, units))
            await self._store.delete_to_device(row.user_id, room_id, up_to=row.position)
            self._due[EDUS] = None
        return len(welcomes)

    async def _gather(self, known: Mapping[str, FollowerRow | None]) -> Batch:
        """What the next transaction holds: of each due room a share, in turn. Some cursors are known."""
        batch = Batch()
        waiting = [key for key in self._alone if key in self._due][:1] or list(self._due)
        for key in waiting:
            if key != EDUS and batch.is_full:
                continue
            try:
                if key == EDUS:
                    self._gather_units(batch)
                else:
                    await self._gather_room(batch, key, known[key] if key in known else self._follower(key))
            except Exception as error:  # noqa: BLE001 - one room that cannot be read holds up no other
                self._broken(key, error)
        return batch

    def _gather_units(self, batch: Batch) -> None:
        self._due.pop(EDUS, None)
        batch.units = waiting_units(self._store, self._provider)
        if not batch.units:
            self._settled(EDUS)

    async def _gather_room(self, batch: Batch, room_id: str, follower: FollowerRow | None) -> None:
        if follower is not None and follower.protocol == MIMI:
            self._alone.pop(room_id, None)
            return  # its turn comes
        self._due.pop(room_id, None)  # what comes while we deliver puts it back
        if follower is None:
            self._settled(room_id)
            return
        await self._welcome(room_id)
        entries = self._recent.after(room_id, follower.cursor, SEND_PAGE)
        if entries is None:
            entries = self._store.entries(room_id, after=follower.cursor, limit=SEND_PAGE)
        if follower.stop_seq is not None:
            entries = [entry for entry in entries if entry.seq <= follower.stop_seq]
        if not entries:
            self._settled(room_id)
        batch.take(follower, entries)
        # Beside a cursor that ends, another one may begin.
        if len(entries) == SEND_PAGE or follower.stop_seq is not None:
            batch.more.add(room_id)

    async def _send(self, batch: Batch) -> None:
        self._pending = batch
        path = LM_SEND.format(txn=batch.transaction_id())
        try:
            answer = await self._federation.transaction(self._provider, path, batch.body())
        except OutboundError as error:
            if error.errcode != IN_FLIGHT and not self._is_outage(error):
                self._pending = None
                if len(batch.keys) > 1:  # which of them it is, we learn by sending each alone
                    self._alone |= dict.fromkeys(batch.keys)
                    self._due |= dict.fromkeys(batch.keys)
                    self._log_failure("batch_refused", batch.keys, error, 0)
                    return
            self._failed(batch.keys, error)
            return
        self._pending = None
        self._note_refusals(answer, batch)
        for room_id, reached in batch.reached.items():
            self._progress.move(*reached)
            self._done([room_id])
            if room_id in batch.more:
                self._again(room_id)
        if batch.units:
            await self._sent_units(batch.units)

    async def _sent_units(self, units: list[ToDeviceRow]) -> None:
        address = provider_address(self._provider)
        try:
            await self._store.delete_to_device(address, EDUS, up_to=units[-1].position)
        except Exception as error:  # noqa: BLE001 - as above
            self._broken(EDUS, error)
        else:
            self._done([EDUS])
            if len(units) == MAX_EDUS:
                self._again(EDUS)

    def _note_refusals(self, answer: JsonObject, batch: Batch) -> None:
        failed = answer.get("failed_pdus")
        if isinstance(failed, dict) and failed:
            log.warning(
                "follower_refused", provider=self._provider, rooms=list(batch.reached), events=len(failed)
            )

    # --- what a success or a failure means ---

    def _done(self, keys: list[str]) -> None:
        self._outage = Pause()
        for key in keys:
            self._settled(key)

    def _again(self, key: str) -> None:
        """See whether there is more, after the other rooms had their turn."""
        self._due.pop(key, None)
        self._due[key] = None

    def _settled(self, key: str) -> None:
        """There is nothing to retry about a room."""
        self._refused.pop(key, None)
        self._alone.pop(key, None)

    def _is_outage(self, error: ProviderError | OutboundError) -> bool:
        return error.retry_after_s is not None or error.status is None or error.status in OUTAGES

    def _failed(self, keys: list[str], error: ProviderError | OutboundError) -> None:
        if error.retry_after_s is not None:
            seconds = min(error.retry_after_s, LONGEST_ASKED_PAUSE)
            self._asked_until = trio.current_time() + seconds
            self._due |= dict.fromkeys(keys)
        elif self._is_outage(error) or getattr(error, "errcode", None) == IN_FLIGHT:
            seconds = self._outage.begin(self._jitter())
            self._due |= dict.fromkeys(keys)
        else:
            for key in keys:
                self._due.pop(key, None)
                self._alone.pop(key, None)
                seconds = self._refused.setdefault(key, Pause()).begin(self._jitter())
        self._log_failure("delivery_failed", keys, error, seconds)

    def _broken(self, key: str, error: Exception) -> None:
        self._due.pop(key, None)
        self._pending = None
        seconds = self._refused.setdefault(key, Pause()).begin(self._jitter())
        log.error(
            "delivery_broken",
            provider=self._provider,
            key=key,
            retry_in_s=round(seconds, 2),
            **describe(error),
        )

    def _log_failure(
        self, event: str, keys: list[str], error: ProviderError | OutboundError, seconds: float
    ) -> None:
        log.warning(
            event,
            provider=self._provider,
            keys=keys,
            status=error.status,
            reason=str(error) if error.status is None else None,  # else it may hold the provider's words
            retry_in_s=round(seconds, 2),
        )
