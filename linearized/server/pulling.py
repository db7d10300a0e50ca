"""We as pull follower: what hubs that do not push to us have for us, fetched by one task for each.

The settings name those hubs. A room that we fetch may move to another one (``Following.moved``): then we
fetch from that one too, as long as a user of ours is in a room there.

A task asks, waits, and hands what comes to the same place as a notification. The cursor is stored in one
transaction with what it came with, and sent with the next request, which acknowledges it. Whatever comes
twice is known by its bytes and taken once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import structlog
import trio

from linearized.exceptions import IdentifierError, InvalidInput, MimiDecodeError
from linearized.mimi.messages import decode_fanout_stream
from linearized.protocol.identifiers import room_id_from_uri
from linearized.server import hub_chain
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.pauses import LONGEST_ASKED_PAUSE, Pause
from linearized.server.providers.client import (
    CURSOR_HEADER,
    HUB_HEADER,
    OK,
    ROOM_HEADER,
    Answer,
    ProviderError,
)
from linearized.server.telemetry import describe
from linearized.store.base import Role
from linearized.store.pulling import PullCursorRow

log = structlog.get_logger("linearized.pulling")

# The longest we ask a hub to wait, seconds; it may answer earlier. Below the minute after which proxies give
# up.
MAX_WAIT_SECONDS: Final = 50
# Seconds of ``limits.request_seconds`` that are for the way there and back, not for waiting.
TRAVEL_SECONDS: Final = 10
# Seconds between two requests when a hub has nothing: one that does not wait must not be asked all the time.
IDLE_SECONDS: Final = 1.0
# A hub's cursor comes back to it in a URL; 2,000 characters pass everywhere.
MAX_CURSOR_CHARACTERS: Final = 2000

# Rooms left out at a time; hubs take no more. If there are more, the hub as a whole is wrong.
MAX_SKIPPED: Final = 16

NO_CONTENT: Final = 204
_BAD_REQUEST: Final = 400
_FORBIDDEN: Final = 403
_GONE: Final = 410


class Pulling:
    """All tasks that fetch.

    Args:
        jitter: gives a number in [0, 1); injected so that tests are deterministic.
    """

    def __init__(self, node: Node, *, jitter: Callable[[], float] = random.random) -> None:
        self._node = node
        self._jitter = jitter
        self._pullers: dict[str, Puller] = {}
        self._new: list[Puller] = []
        self._wake = trio.Event()
        for hub in dict.fromkeys((*node.config.pulled_hubs, *node.store.pulled_hubs())):
            self._add(hub)

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                for puller in self._new:
                    nursery.start_soon(puller.run)
                self._new.clear()
                self._wake = trio.Event()
                await self._wake.wait()

    def includes(self, hub: str) -> bool:
        """Whether we fetch from a hub."""
        return hub in self._pullers

    async def begin(self, hub: str) -> None:
        """Fetch from a hub from now on, because a room that we fetch is there now, or will be.

        Call it when ``needs`` says so, else it has ended before it began.
        """
        if hub not in self._pullers:
            self._add(hub)
            await self._node.store.set_pulled_hub(hub, pulled=True)

    async def end(self, hub: str) -> None:
        """Remember a hub no more whose task has ended."""
        del self._pullers[hub]
        await self._node.store.set_pulled_hub(hub, pulled=False)

    def needs(self, hub: str) -> bool:
        """Whether to go on asking a hub that has nothing for us: the settings say so, or a user of ours is in
        a room that it orders, or that our operator lets it take over.
        """
        if hub in self._node.config.pulled_hubs:
            return True
        store, consents = self._node.store, self._node.takeover_consents
        return any(
            any(member.membership == "join" for member in store.memberships(row.room_id))
            for row in store.rooms()
            if row.role is Role.FOLLOWER and (row.hub == hub or consents.trusts(row.room_id, hub))
        )

    def contacted(self, hub: str) -> None:
        """A hub has been heard from: it is there again, or may have just begun to have something for us."""
        if hub in self._pullers:
            self._pullers[hub].hurry()

    def _add(self, hub: str) -> None:
        puller = self._pullers[hub] = Puller(self._node, hub, jitter=self._jitter)
        self._new.append(puller)
        self._wake.set()


class Puller:
    """Fetches from one hub."""

    def __init__(self, node: Node, hub: str, *, jitter: Callable[[], float]) -> None:
        self._node = node
        self._hub = hub
        self._jitter = jitter
        self._cursor = node.store.pull_cursor(hub)
        self._registered = False
        self._ended = False
        self._refused: dict[str, Pause] = {}  # by URI, rooms whose last answer we could not take
        self._pause = Pause()
        self._asked_until = -math.inf  # the hub asked us to stay away until then, by trio's clock
        self._wake = trio.Event()

    def hurry(self) -> None:
        """End a pause that we made ourselves."""
        for pause in (self._pause, *self._refused.values()):
            pause.until = -math.inf
        self._wake.set()

    async def run(self) -> None:
        """Fetch whatever there is, as long as there may be more."""
        while True:
            await self._pause_over()
            try:
                await self._round()
                if self._ended:
                    await self._node.pulling.end(self._hub)
                    return
            except ProviderError as error:
                self._failed(error)
            except (MimiDecodeError, IdentifierError) as error:
                self._failed(ProviderError(f"{self._hub} gave what cannot be read: {error}"))
            except Exception as error:  # noqa: BLE001 - our disk or our bug: what was not stored is asked for again
                seconds = self._pause.begin(self._jitter())
                log.error("pull_broken", hub=self._hub, retry_in_s=round(seconds, 2), **describe(error))
            else:
                self._pause = Pause()

    async def _pause_over(self) -> None:
        while (until := max(self._pause.until, self._asked_until)) > trio.current_time():
            self._wake = trio.Event()
            with trio.CancelScope(deadline=until):
                await self._wake.wait()

    async def _round(self) -> None:
        if not self._registered:
            answer = await self._node.providers.follow(self._hub, "POST")
            self._ended = answer.status == _FORBIDDEN and not self._node.pulling.needs(self._hub)
            if self._ended:
                return
            if answer.status not in {OK, NO_CONTENT}:
                raise self._unexpected(answer)
            self._registered = True
        asked_at = trio.current_time()
        wait = min(MAX_WAIT_SECONDS, max(self._node.config.limits.request_seconds - TRAVEL_SECONDS, 0))
        # What came of a room that we could not take waits; its hub's other rooms do not.
        skip = [room for room, pause in self._refused.items() if not pause.over][:MAX_SKIPPED]
        if skip:  # one of them may be due before the hub has anything else
            soonest = min(self._refused[room].until for room in skip) - asked_at
            wait = min(wait, max(math.ceil(soonest), 1))
        answer = await self._node.providers.follow(
            self._hub, "GET", cursor=self._cursor, wait=wait, skip=skip, moves=True
        )
        if answer.status == OK:
            await self._take(answer)
        elif answer.status == NO_CONTENT:
            await trio.sleep_until(asked_at + IDLE_SECONDS)
        elif answer.status == _BAD_REQUEST and self._cursor is not None:
            # It does not know the cursor any more, for it has other keys, say. It still knows what we
            # acknowledged.
            log.warning("pull_cursor_unknown", hub=self._hub)
            self._cursor = None
        elif answer.status == _GONE and not self._node.pulling.needs(self._hub):
            # What it has for us some day it may send.
            answer = await self._node.providers.follow(self._hub, "DELETE")
            self._ended = answer.status in {OK, NO_CONTENT}
            if not self._ended:
                raise self._unexpected(answer)
        else:
            if answer.status == _FORBIDDEN:
                self._registered = False
            raise self._unexpected(answer)

    async def _take(self, answer: Answer) -> None:
        room, cursor = answer.headers.get(ROOM_HEADER, ""), answer.headers.get(CURSOR_HEADER, "")
        if not cursor or len(cursor) > MAX_CURSOR_CHARACTERS or cursor == self._cursor:
            raise ProviderError(f"{self._hub} gave no new cursor")
        room_id = room_id_from_uri(room)
        pause = self._refused.get(room)
        if pause is not None and not pause.over:
            raise ProviderError(f"{self._hub} gave a room that it was asked to leave out")
        try:
            await self._receive(room_id, answer, PullCursorRow(hub=self._hub, cursor=cursor))
        except (InvalidInput, HttpError) as error:
            self._put_off(room, error)
        else:
            self._refused.pop(room, None)
            self._cursor = cursor

    async def _receive(self, room_id: str, answer: Answer, pulled: PullCursorRow) -> None:
        """Take what came of one room.

        Raises:
            InvalidInput, HttpError: it is malformed, or not for that hub to give, or not yet; nothing was
                taken.
        """
        following = self._node.rooms.following
        if HUB_HEADER in answer.headers:
            transfers = await hub_chain.shown(self._node, room_id, answer.body)
            await following.moved(room_id, self._hub, transfers, pulled=pulled)
            return
        # As for a notification: a room lives at the provider its URI names, or where we were shown that it
        # moved. What its hub before that has for us still is nobody's any more, and is acknowledged.
        if not following.is_hub(room_id, self._hub) and not following.has_left(room_id, self._hub):
            raise InvalidInput("messages of another hub's room")
        await following.receive(room_id, self._hub, decode_fanout_stream(answer.body), pulled=pulled)

    def _put_off(self, room: str, error: Exception) -> None:
        """Leave a room out for a while whose answer cannot be taken."""
        if room not in self._refused and len(self._refused) >= MAX_SKIPPED:
            raise ProviderError(f"{self._hub} gave too many rooms that cannot be read")
        pause = self._refused.setdefault(room, Pause())
        seconds = pause.begin(self._jitter())
        log.warning(
            "pulled_room_put_off", room=room, hub=self._hub, retry_in_s=round(seconds, 2), **describe(error)
        )

    def _unexpected(self, answer: Answer) -> ProviderError:
        return ProviderError(
            f"{self._hub} answered {answer.status}",
            status=answer.status,
            retry_after_s=answer.retry_after_s,
        )

    def _failed(self, error: ProviderError) -> None:
        seconds = self._pause.begin(self._jitter())
        if error.retry_after_s is not None:
            seconds = min(error.retry_after_s, LONGEST_ASKED_PAUSE)
            self._asked_until = trio.current_time() + seconds
        log.warning(
            "pull_failed",
            hub=self._hub,
            status=error.status,
            reason=str(error) if error.status is None else None,  # else it may hold the hub's words
            retry_in_s=round(seconds, 2),
        )
