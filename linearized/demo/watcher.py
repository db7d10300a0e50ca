"""Watches the Matrix room through the homeserver's client API, as a client of one of its users does."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from linearized.demo.failures import StepFailed
from linearized.demo.homeserver import JsonObject, MatrixUser
from linearized.demo.participant import ARRIVAL_DEADLINE_S

_POLL_MS = 20_000
_FILTER = json.dumps({"room": {"timeline": {"limit": 500}}, "presence": {"types": []}})


@dataclass(slots=True)
class Watcher:
    """The room's new events in order, each with the time it came (``time.monotonic``)."""

    user: MatrixUser
    room_id: str
    events: list[JsonObject] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)
    _since: str = ""

    async def begin(self) -> None:
        """Take the present as the point to watch from."""
        answer = await self.user.call("GET", "/sync", query={"timeout": "0", "filter": _FILTER})
        self._since = answer["next_batch"]

    async def collect(self) -> None:
        """Sync for ever; run as a task."""
        while True:
            query = {"since": self._since, "timeout": str(_POLL_MS), "filter": _FILTER}
            answer = await self.user.call("GET", "/sync", query=query)
            self._since = answer["next_batch"]
            room = answer.get("rooms", {}).get("join", {}).get(self.room_id, {})
            for event in room.get("timeline", {}).get("events", []):
                self.events.append(event)
                self.arrivals.append(time.monotonic())
            self._news.set()
            self._news = trio.Event()

    async def wait_for(self, what: str, fits: Callable[[JsonObject], bool]) -> tuple[JsonObject, float]:
        """The first event that fits, and when it came.

        Raises:
            StepFailed: none came before the deadline.
        """
        with trio.move_on_after(ARRIVAL_DEADLINE_S):
            while True:
                for event, arrival in zip(self.events, self.arrivals, strict=True):
                    if fits(event):
                        return event, arrival
                await self._news.wait()
        seen = "\n".join(str(event)[:300] for event in self.events[-5:])
        raise StepFailed(f"the Matrix room did not get {what} in {ARRIVAL_DEADLINE_S:.0f} s", seen)

    async def wait_for_body(self, body: str) -> tuple[JsonObject, float]:
        """The first event whose body is ``body``; as ``wait_for``."""
        return await self.wait_for(
            f"the message {body!r}", lambda event: event["content"].get("body") == body
        )


@asynccontextmanager
async def watching(user: MatrixUser, room_id: str) -> AsyncIterator[Watcher]:
    """A watcher at work until the block ends."""
    watcher = Watcher(user, room_id)
    await watcher.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.collect)
        yield watcher
        nursery.cancel_scope.cancel()
