"""One provider that fetches what it follows: the answers it gets, and what it has acknowledged.

A pull follower is a cursor into each of its rooms, like any other. It asks, gets what it would have been
notified of (one room at a time, in turn), and acknowledges it by asking again with the cursor that came with
it. What it does not acknowledge it is given again, the same bytes, until it does.

One that says it can go along with a room is shown where the room moves, in an answer of its own and in its
place: as the last of the old hub, and the first of the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from linearized.exceptions import LinearizedError
from linearized.protocol.identifiers import room_uri, user_domain
from linearized.server import hub_chain
from linearized.server.cursors import MIMI, is_finished
from linearized.server.fanout import FrankOf, Notification, no_frank, read_notification
from linearized.server.pull_cursors import CursorSeal, Position, UnknownCursor
from linearized.server.welcomes import provider_address
from linearized.store.base import FollowerRow, Store


class Superseded(LinearizedError):  # noqa: N818 - says what became of the request
    """The follower asked again before it was answered: one request of a follower waits at a time."""


class NothingLeft(LinearizedError):  # noqa: N818 - says what the follower is told
    """The follower has everything of every room it was in, and is in none any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer: the room it is of, concatenated FanoutMessages, and the cursor that acknowledges it.

    If the room has another ``hub`` from there on, the body is what ``hubMoved`` would be shown.
    """

    room: str  # its URI
    body: bytes
    cursor: str
    hub: str | None = None


class PullFollower:
    """See the module.

    Attributes:
        moves: whether it said, when it last asked, that it goes along with rooms that move.

    Args:
        rows: its cursors, in all rooms and by all protocols.
        frank_of: gives the frank of an entry of ours.
    """

    def __init__(
        self,
        provider: str,
        *,
        store: Store,
        seal: CursorSeal,
        rows: Iterable[FollowerRow],
        frank_of: FrankOf = no_frank,
    ) -> None:
        self._provider = provider
        self._frank_of = frank_of
        self._store = store
        self._seal = seal
        self._due: dict[str, None] = {}  # rooms that may have something for it, in turn
        self._running: set[str] = set()  # rooms it is in, or has not everything of
        self._was_anywhere = False
        self._given: dict[str, Position] = {}  # by room the last answer, until it is acknowledged
        self.moves = False
        self._request = 0  # counts its requests: the latest one counts
        self._changed = trio.Event()
        for row in rows:
            if row.protocol == MIMI:
                self._was_anywhere = True
                if not is_finished(row):
                    self.room_changed(row.room_id)

    def room_changed(self, room_id: str) -> None:
        """A room that it follows has something new."""
        self._was_anywhere = True
        self._running.add(room_id)
        self._due[room_id] = None
        self._changed.set()

    async def ask(
        self,
        cursor: str | None,
        *,
        wait: float,
        skip: frozenset[str] = frozenset(),
        moves: bool = False,
    ) -> Fetched | None:
        """Answer its request; None if there is nothing within ``wait`` seconds.

        Args:
            cursor: what it was given with the last answer that it has; None before the first.
            skip: rooms whose answers it cannot take now; what it was given of them it will be given again.
            moves: whether it is to be shown where a room moves; else it gets no word of it.

        Raises:
            UnknownCursor: it was given no such cursor; nothing was acknowledged.
            Superseded: it has asked again meanwhile.
            NothingLeft: there is nothing, and nothing will come.
        """
        acknowledged = self._open(cursor) if cursor is not None else None
        self.moves = moves
        self._request += 1
        request = self._request
        self._changed.set()  # whoever waited finds that it is no longer the latest
        if acknowledged is not None:
            await self._acknowledge(acknowledged)
        deadline = trio.current_time() + wait
        while True:
            found = await self._next(skip)
            if request != self._request:
                raise Superseded("the follower has asked again")
            if found is not None:
                return found
            if not self._running and self._was_anywhere:
                raise NothingLeft("the follower is in no room any more")
            if trio.current_time() >= deadline:
                return None
            # No checkpoint since ``_next`` looked, so a change from here on sets this very event.
            changed = self._changed = trio.Event()
            with trio.CancelScope(deadline=deadline):
                await changed.wait()

    def _open(self, cursor: str) -> Position:
        position = self._seal.open(self._provider, cursor)
        row = self._store.room(position.room_id)
        # A log that is shorter than what it gave out was set back: what it will hold at those places is new.
        if row is None or position.seq > row.head_seq:
            raise UnknownCursor("the room's log does not reach that far")
        return position

    async def _acknowledge(self, position: Position) -> None:
        await self._move(position.room_id, position.seq)
        if position.welcomes:
            await self._store.delete_to_device(
                provider_address(self._provider), position.room_id, up_to=position.welcomes
            )
        if self._given.get(position.room_id) == position:
            del self._given[position.room_id]
            if position.room_id in self._due:  # the other rooms' turn
                del self._due[position.room_id]
                self._due[position.room_id] = None

    async def _move(self, room_id: str, cursor: int) -> None:
        row = FollowerRow(room_id=room_id, provider=self._provider, protocol=MIMI, cursor=cursor)
        await self._store.move_cursors([row])

    async def _next(self, skip: frozenset[str]) -> Fetched | None:
        for room_id, given in list(self._given.items()):
            if room_id in skip:
                continue
            again = self._read(room_id, until=given)
            if again is not None and (again.body or again.transfer):
                return self._fetched(room_id, again)
            del self._given[room_id]  # a notification that was under way has brought it
        for room_id in list(self._due):
            if room_id in skip:
                continue
            notification = self._read(room_id)
            # Entries that MIMI has no message for.
            while notification is not None and not (notification.body or notification.transfer):
                await self._move(room_id, notification.cursor)
                notification = self._read(room_id)
            if notification is not None:
                self._given[room_id] = Position(
                    room_id=room_id, seq=notification.cursor, welcomes=notification.welcomes
                )
                return self._fetched(room_id, notification)
            self._due.pop(room_id, None)
        return None

    def _read(self, room_id: str, *, until: Position | None = None) -> Notification | None:
        follower = next(
            (
                row
                for row in self._store.cursors(room_id, self._provider)
                if row.protocol == MIMI and not is_finished(row)
            ),
            None,
        )
        if follower is None:
            self._running.discard(room_id)
            return None
        if until is None:
            return read_notification(self._store, follower, frank_of=self._frank_of, moves=self.moves)
        return read_notification(
            self._store,
            follower,
            seq=until.seq,
            welcomes=until.welcomes,
            frank_of=self._frank_of,
            moves=self.moves,
        )

    def _fetched(self, room_id: str, notification: Notification) -> Fetched:
        position = Position(room_id=room_id, seq=notification.cursor, welcomes=notification.welcomes)
        transfer = notification.transfer
        body = notification.body
        if transfer is not None:
            body = hub_chain.encode_shown(hub_chain.hub_events_at(self._store, transfer))
        return Fetched(
            room=room_uri(room_id),
            body=body,
            cursor=self._seal.seal(self._provider, position),
            hub=None if transfer is None else user_domain(transfer.sender),
        )
