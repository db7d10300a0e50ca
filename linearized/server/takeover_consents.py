"""Which server this server's operator agreed may take a room over from a hub that is gone.

A decision is about one hub's term: the time from the event that made it the hub to the event that makes
another one. For a term there is one decision at a time. They are written one behind the other, the first
under each number stays, so of two commands at once one fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from linearized.protocol.events import Event
from linearized.protocol.hub_rules import is_takeover
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import CREATE, HUB
from linearized.room.submissions import Reason, Rejected
from linearized.store.base import Reply, RoomRow, Store

# Decisions about one term: an operator who changes their mind so often had better wait for the hub.
MAX_DECISIONS: Final = 32
_WITHDRAWN: Final = ""
_LOSS: Final = "accepts-loss"  # behind the server's name: entries that the hub signed may be gone
_NUMBERS: Final = tuple(str(number) for number in range(MAX_DECISIONS))


class TakeoverConsents:
    """The decisions in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Asked for with every event that comes in; bounded by the rooms there are.
        self._current: dict[str, str | None] = {}

    def current(self, row: RoomRow) -> str | None:
        """The server agreed to for the term of a room's present hub; None if there is none."""
        if row.room_id not in self._current:
            self._current[row.room_id] = self._of(row.room_id, self._term(row))
        return (self._current[row.room_id] or "").partition(" ")[0] or None

    def accepts_loss(self, row: RoomRow) -> bool:
        """Whether that was agreed to even if entries are lost that the hub signed and nobody has."""
        self.current(row)
        return (self._current[row.room_id] or "").partition(" ")[2] == _LOSS

    def forget(self, room_id: str) -> None:
        """A room's hub has changed: another term."""
        self._current.pop(room_id, None)

    async def agree(self, row: RoomRow, taker: str, *, accepts_loss: bool = False) -> bool:
        """Agree that ``taker`` takes a room over; False if that was agreed before.

        Args:
            accepts_loss: see ``accepts_loss``; it stays until the agreement is withdrawn.

        Raises:
            Rejected: another server was agreed to.
        """
        agreed = self.current(row)
        if agreed is not None and agreed != taker:
            raise Rejected(
                Reason.FORBIDDEN, f"It was agreed that {agreed} takes the room over; withdraw that first"
            )
        if agreed is None or (accepts_loss and not self.accepts_loss(row)):
            decision = f"{taker} {_LOSS}" if accepts_loss else taker
            await self._decide(row.room_id, self._term(row), decision)
            self._current[row.room_id] = decision
        return agreed is None

    async def withdraw(self, row: RoomRow) -> str:
        """Take back what was agreed; which server that was.

        Raises:
            Rejected: nothing was.
        """
        agreed = self.current(row)
        if agreed is None:
            raise Rejected(Reason.FORBIDDEN, "No takeover of this room was agreed to")
        await self._decide(row.room_id, self._term(row), _WITHDRAWN)
        self._current[row.room_id] = None
        return agreed

    # --- rooms that we have no copy of ---

    async def trust(self, room_id: str, taker: str) -> None:
        """Agree to whatever takeover of a room ``taker`` shows when one of our users joins it."""
        if not self.trusts(room_id, taker):
            await self._decide(room_id, f"joining by {taker}", taker)

    def trusts(self, room_id: str, taker: str) -> bool:
        """Whether that was agreed to."""
        return self._of(room_id, f"joining by {taker}") == taker

    def agreed_among(self, room_id: str, transfers: Iterable[Event]) -> frozenset[str]:
        """Of the servers that took a room over in a chain of transfers, those agreed to."""
        takers = {user_domain(event.sender) for event in transfers if is_takeover(event)}
        return frozenset(taker for taker in takers if self.trusts(room_id, taker))

    # --- the store ---

    def _term(self, row: RoomRow) -> str:
        """The ID of the event that made a room's hub its hub."""
        for kind in (HUB, CREATE):
            entry = self._store.state_entry(row.room_id, *kind, seq=row.head_seq)
            if entry is not None:
                return entry.event_id
        return ""  # an invitation: no state, and no hub to be replaced

    def _decisions(self, room_id: str, term: str) -> list[str]:
        found = self._store.replies(_scope(room_id, term), _NUMBERS)
        return [found[number] for number in _NUMBERS if number in found]

    def _of(self, room_id: str, term: str) -> str | None:
        decisions = self._decisions(room_id, term)
        return decisions[-1] or None if decisions else None

    async def _decide(self, room_id: str, term: str, decision: str) -> None:
        number = len(self._decisions(room_id, term))
        if number >= MAX_DECISIONS:
            raise Rejected(
                Reason.FORBIDDEN, f"{MAX_DECISIONS} decisions about this takeover were made already"
            )
        scope = _scope(room_id, term)
        await self._store.put_reply(Reply(scope=scope, key=str(number), value=decision, lasting=True))
        if self._store.reply(scope, str(number)) != decision:
            raise Rejected(Reason.FORBIDDEN, "Another decision about this takeover was made meanwhile")


def _scope(room_id: str, term: str) -> str:
    return f"takeover {room_id} {term}"
