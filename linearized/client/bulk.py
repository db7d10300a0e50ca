"""A room's whole history, fast: segments in parallel, checked as they come, then the newest entries, then the
live ones.

What was checked lies in a ``HistoryStore``. A pull that was broken off goes on with what is there; but
nothing in the file is believed: every pull checks the whole log again, from the first entry to the hub's
signed checkpoint, which it leaves in the file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
import trio

from linearized.client.api import ProviderApi
from linearized.client.errors import ClientError, UntrustedAnswer
from linearized.client.live import LiveTail, live_tail
from linearized.client.offline import HistoryStore, KeptRoom
from linearized.client.transport import JsonObject
from linearized.client.verify import LOG_PAGE, KeyLookup, LogBroken, LogReport, LogVerifier, Run, check_signed
from linearized.client.verify import server_keys as own_keys
from linearized.exceptions import InvalidInput
from linearized.protocol.events import Event
from linearized.room.segments import SEGMENT, unpack

# Segments fetched at a time: the check of one takes longer than the way of another, so a few are enough.
PARALLEL: Final = 4
# Fetched segments that wait to be checked: a few megabytes.
AHEAD: Final = 8
# Segments whose signatures wait for the other core: a few megabytes.
UNSETTLED: Final = 2
# Live entries after which the hub is asked to sign for them: its word is a few hundred bytes.
SIGN_EVERY: Final = 100

Progress = Callable[[int, int], None]


class HistoryIncomplete(ClientError):  # noqa: N818 - says what the history is
    """The server does not show us the room from its beginning, so nothing can be checked to its end."""


class Keys:
    """Servers' keys, asked of the provider as the log needs them.

    What a provider says of other servers' keys is its word: give ``known`` keys that came another way to be
    independent of it. A key document must at least be signed with its own keys.

    Args:
        known: raw Ed25519 keys by server name and key ID.
    """

    def __init__(self, api: ProviderApi, known: dict[tuple[str, str], bytes] | None = None) -> None:
        self._api = api
        self._keys = dict(known or {})
        self._asked: set[str] = set()

    def __call__(self, server: str, key_id: str) -> bytes | None:
        """The key, from a worker thread; None if the provider does not know it."""
        if (server, key_id) not in self._keys and server not in self._asked:
            self._asked.add(server)
            trio.from_thread.run(self.learn, server)
        return self._keys.get((server, key_id))

    async def learn(self, server: str) -> None:
        """Ask for a server's keys; those we have stay."""
        for document in await self._api.keys_of(server):
            found = own_keys(document)
            self._keys = {key: value for key, value in found.items() if key[0] == server} | self._keys


@dataclass(slots=True)
class _Segments:
    """Those on their way, by number."""

    ready: dict[int, trio.Event] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)


class RoomHistory:
    """One room's log in a store, followed and checked; ``report`` is true of what was checked so far.

    Args:
        keys: called in a worker thread; see ``Keys``.
    """

    def __init__(self, api: ProviderApi, room_id: str, store: HistoryStore, *, keys: KeyLookup) -> None:
        self._api = api
        self._room_id = room_id
        self._store = store
        self._keys = keys
        self._verifier = LogVerifier(keys)
        self._kept = 0  # entries in the store

    @property
    def report(self) -> LogReport:
        """What was checked."""
        return self._verifier.report

    async def pull(self, *, progress: Progress = lambda done, total: None) -> LogReport:
        """Check what is in the store, fetch what is missing, and check that too.

        Args:
            progress: called with the entries checked so far and the log's length.

        Raises:
            LogBroken: an entry is not as it must be, or the hub signs another log.
            HistoryIncomplete: we are not shown all of it.
            UntrustedAnswer: a segment is no segment.
            StateFileError: the store cannot be written.
            ApiError, ServerUnreachable: the server does not tell.
        """
        kept = self._store.room(self._room_id)
        self._kept = kept.entries if kept is not None else 0
        index = await self._api.segments(self._room_id)
        await self._known(index.head_seq, progress)
        complete = index.head_seq // SEGMENT
        if complete and index.runs != ((0, complete - 1),):
            raise HistoryIncomplete("the server does not show this room from its beginning to its end")
        try:
            await self._segments(complete, index.head_seq, progress)
        except ExceptionGroup as group:
            raise _first(group) from group
        await self._tail(progress)
        await self.sign()
        return self.report

    async def sign(self) -> None:
        """Have the hub sign for just what was checked, and keep its word.

        Raises:
            LogBroken: it signs another log.
        """
        report, keys = self.report, self._keys

        def looked_up(server: str, key_id: str) -> bytes | None:
            return found.get((server, key_id))

        size = report.entries
        answer = await self._api.checkpoint(self._room_id, size=size)
        key = await trio.to_thread.run_sync(keys, report.hub, answer.key_id)
        found = {(report.hub, answer.key_id): key} if key is not None else {}
        signed = await check_signed(self._api, report, looked_up)
        self._store.sign(self._room_id, size, signed.note)

    @asynccontextmanager
    async def follow(self, *, http: httpx.AsyncClient | None = None) -> AsyncIterator[AsyncIterator[Event]]:
        """The entries after those of ``pull``, as they are appended, checked and in the store when they come.

        Args:
            http: as for ``live_tail``.

        The iteration raises:
            LogBroken, ApiError, MalformedAnswer: as ``pull`` and ``live_tail``.
        """
        async with (
            live_tail(self._api, self._room_id, after=self.report.entries, http=http) as tail,
            aclosing(self._live(tail)) as entries,
        ):
            yield entries

    async def _live(self, tail: LiveTail) -> AsyncGenerator[Event, None]:
        async for entry in tail:
            if entry.seq != self.report.entries + 1:
                raise LogBroken(self.report.entries + 1, "the server does not tell this entry")
            (event,) = await trio.to_thread.run_sync(self._take, [entry.pdu])
            if self.report.entries % SIGN_EVERY == 0:
                await self.sign()
            yield event

    async def _known(self, head: int, progress: Progress) -> None:
        """Check what an earlier pull left."""
        while self.report.entries < self._kept:
            await trio.to_thread.run_sync(self._take, self._store.page(self._room_id, self.report.entries))
            progress(self.report.entries, max(head, self._kept))

    async def _segments(self, complete: int, head: int, progress: Progress) -> None:
        """Check segments in order while others are fetched."""
        first = self.report.entries // SEGMENT
        numbers = iter(range(first, complete))
        segments = _Segments({number: trio.Event() for number in range(first, complete)})
        ahead = trio.Semaphore(AHEAD)

        async def fetch() -> None:
            while True:
                await ahead.acquire()
                number = next(numbers, None)
                if number is None:
                    ahead.release()
                    return
                segments.data[number] = await self._api.segment(self._room_id, number)
                segments.ready[number].set()

        async def settle() -> None:
            async for run in runs:
                await trio.to_thread.run_sync(self._settle, run)
                progress(run.entries, head)

        derived, runs = trio.open_memory_channel[Run](UNSETTLED)
        async with trio.open_nursery() as nursery:
            for _ in range(min(PARALLEL, complete - first)):
                nursery.start_soon(fetch)
            nursery.start_soon(settle)
            async with derived:
                for number in range(first, complete):
                    await segments.ready[number].wait()
                    data = segments.data.pop(number)
                    run = await trio.to_thread.run_sync(self._derive_segment, data, number)
                    ahead.release()
                    await derived.send(run)

    def _derive_segment(self, data: bytes, number: int) -> Run:
        try:
            pdus = unpack(data)
        except InvalidInput as error:
            raise UntrustedAnswer(f"segment {number}: {error}") from error
        return self._verifier.derive(pdus[self.report.entries - number * SEGMENT :])

    async def _tail(self, progress: Progress) -> None:
        """What came after the last complete segment."""
        while True:
            done = self.report.entries
            page = await self._api.log(self._room_id, after=done, limit=LOG_PAGE)
            if done >= page.head_seq:
                self._verifier.end()
                return
            if not page.pdus or page.first_seq != done + 1:
                raise LogBroken(done + 1, "the server does not tell this entry")
            await trio.to_thread.run_sync(self._take_parsed, page.pdus)
            progress(self.report.entries, page.head_seq)

    def _take_parsed(self, pdus: Sequence[JsonObject]) -> None:
        self._settle(self._verifier.derive(pdus))

    def _take(self, pdus: Sequence[bytes]) -> list[Event]:
        run = self._verifier.derive(pdus)
        self._settle(run)
        return run.events

    def _settle(self, run: Run) -> None:
        """Check signatures, and put what was checked into the store, unless it came from there."""
        run.settle()
        new = run.events[max(0, len(run.events) - (run.entries - self._kept)) :]
        if run.entries > self._kept:
            kept = KeptRoom(room_id=self._room_id, hub=run.hub, entries=run.entries, root=run.root)
            self._store.append(kept, new)
            self._kept = run.entries


async def pull_history(
    api: ProviderApi,
    room_id: str,
    store: HistoryStore,
    *,
    keys: KeyLookup,
    progress: Progress = lambda done, total: None,
) -> LogReport:
    """Fetch a room's whole log into ``store``, and check it; raises as ``RoomHistory.pull``."""
    return await RoomHistory(api, room_id, store, keys=keys).pull(progress=progress)


def _first(error: Exception) -> Exception:
    """What a nursery's group began with; it wraps even a single error. Of two entries that are wrong, the
    earlier.
    """
    while isinstance(error, ExceptionGroup):
        error = min(error.exceptions, key=lambda each: each.seq if isinstance(each, LogBroken) else 0)
    return error
