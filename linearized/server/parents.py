"""Parent rooms: what the hub knows of them, and who leaves a room because they have left its parent
(``linearized.room.parents``).

The parent's removal is stored first; then a task of ours has the dependent room take its own. From the first
moment on nobody writes there who is not in the parent: that is asked with each submission. A restart in
between loses nothing: what is to be done is read from the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio

from linearized.exceptions import StoreError
from linearized.room.submissions import ParentChanged, Rejected
from linearized.server.deciding import Overloaded
from linearized.server.hub import Hub
from linearized.server.telemetry import describe
from linearized.store.base import EntryRow, Role, Store

log = structlog.get_logger("linearized.parents")

# Rooms looked after before the store is asked again: one query, and as many appends.
AT_ONCE: Final = 100
# Between two looks that nothing of ours calls for: a parent room that has moved to another hub changes there.
LOOK_SECONDS: Final = 60.0
# After a failure: a full disk, or a room that is too busy.
PAUSE_SECONDS: Final = 1.0


class ParentRooms:
    """``Parents`` by what the store says of their members, at any hub."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def hosts(self, room_id: str) -> bool:
        """Whether this hub orders the room."""
        row = self._store.room(room_id)
        return row is not None and row.role is Role.HUB

    def joined(self, room_id: str, user_id: str) -> bool:
        """Whether a user has joined it."""
        row = self._store.membership(room_id, user_id)
        return row is not None and row.membership == "join"

    def size(self, room_id: str) -> int:
        """How many users have joined it."""
        return self._store.joined_count(room_id)


class Dependants:
    """Has rooms follow their parents."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._wake = trio.Event()

    def appended(self, entries: Sequence[EntryRow]) -> None:
        """Somebody may have left a room that others depend on."""
        if any(entry.type == "m.room.member" for entry in entries):
            self._wake.set()

    async def run(self) -> None:
        """Look at once, whenever somebody may have left, and from time to time; for ever."""
        while True:
            self._wake = trio.Event()
            try:
                while await self._follow():
                    continue
            except (Overloaded, StoreError, trio.TooSlowError) as error:
                log.warning("parent_not_followed", **describe(error))
                await trio.sleep(PAUSE_SECONDS)
                continue
            with trio.move_on_after(LOOK_SECONDS):
                await self._wake.wait()

    async def _follow(self) -> bool:
        """Take out of some rooms who is not in their parents; whether anybody was."""
        followed = False
        for room_id in self._store.strayed(limit=AT_ONCE):
            try:
                await self._hub.submit(room_id, ParentChanged())
            except Rejected as error:  # they have just gone by themselves, or the room has
                log.info("nobody_strayed", room_id=room_id, **describe(error))
                continue
            followed = True
            log.info("parent_followed", room_id=room_id)
        return followed
