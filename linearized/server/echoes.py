"""What our LPDUs have become: a hub that takes one sends it back as an event of its log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hashing import lpdu_identity
from linearized.protocol.versions import RoomVersion
from linearized.store.base import Reply, Store

# How long we wait for the hub to send back what we sent it. It answers /send first, so this covers one more
# request.
ECHO_SECONDS: Final = 20.0


class Echo:
    """One LPDU on its way, and how many wait for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self._arrived = trio.Event()
        self._event_id = ""

    def arrive(self, event_id: str) -> None:
        """It has come back."""
        self._event_id = event_id
        self._arrived.set()

    async def event_id(self) -> str:
        """Wait for the ID of the event that it becomes.

        Raises:
            trio.TooSlowError: after ``ECHO_SECONDS``; it may come yet.
        """
        with trio.fail_after(ECHO_SECONDS):
            await self._arrived.wait()
        return self._event_id


class Echoes:
    """Those we wait for, and those that came, which the store remembers with their entries. An LPDU is known
    by what the hub leaves as it is (``lpdu_identity``).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, Echo] = {}

    def is_known(self, lpdu: JsonObject, version: RoomVersion) -> bool:
        """Whether the same LPDU is on its way, or has come back."""
        key = lpdu_identity(lpdu, version)
        return key in self._waiting or self.came_back(lpdu["room_id"], key) is not None

    def came_back(self, room_id: str, key: str) -> str | None:
        """The ID of the event that an LPDU has become; None if it has not come back."""
        return self._store.reply(_scope(room_id), key)

    @contextmanager
    def expected(self, key: str) -> Iterator[Echo]:
        """Wait for an LPDU inside; two that send the same one wait for the same event."""
        echo = self._waiting.setdefault(key, Echo())
        echo.waiting += 1
        try:
            yield echo
        finally:
            echo.waiting -= 1
            if not echo.waiting:
                del self._waiting[key]

    def arrived(self, echoed: Sequence[Reply]) -> None:
        """Wake those who wait for what is in our copy now."""
        for reply in echoed:
            waiting = self._waiting.get(reply.key)
            if waiting is not None:
                waiting.arrive(reply.value)


def echo_of(event: Event, version: RoomVersion) -> Reply:
    """What is remembered, with its entry, of an event that was an LPDU of ours."""
    key = lpdu_identity(event.pdu, version)
    return Reply(scope=_scope(event.room_id), key=key, value=event.event_id)


def _scope(room_id: str) -> str:
    return f"echo {room_id}"
