"""Wakes long polls. A waiter compares positions first, so a change between its read and its wait is never
missed.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from linearized.protocol.state import StateMap

_MEMBER = "m.room.member"


class Notifier:
    """One event per user, replaced each time it fires; waiters hold it before they read."""

    def __init__(self) -> None:
        self._users: dict[str, trio.Event] = {}
        self.changes = 0  # rises with each; what was read before is what there is, as far as anybody was told

    def ticket(self, user_id: str) -> trio.Event:
        """An event that is set at the user's next change. Take it *before* reading, then wait on it."""
        return self._users.setdefault(user_id, trio.Event())

    def users_changed(self, users: Iterable[str]) -> None:
        """Wake everybody who waits for one of these users."""
        self.changes += 1
        for user_id in users:
            event = self._users.pop(user_id, None)
            if event is not None:
                event.set()

    def room_changed(self, state: StateMap) -> None:
        """Wake the members of a room, at the cost of whichever is less: what its state holds or who waits."""
        if len(self._users) < len(state):
            self.users_changed([user_id for user_id in self._users if (_MEMBER, user_id) in state])
        else:
            self.users_changed(key for event_type, key in state if event_type == _MEMBER)

    async def wait(self, ticket: trio.Event, seconds: float) -> bool:
        """Wait for a ticket to be set, at most ``seconds``; True if it was."""
        with trio.move_on_after(seconds):
            await ticket.wait()
        return ticket.is_set()
