"""The hub: one actor per active room (see ``deciding``), and what holds for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from linearized.protocol.versions import get_version
from linearized.room.room import Room
from linearized.room.submissions import Accepted, LinearizedPdu, Reason, Rejected, Submission
from linearized.server.deciding import Actor, Job, Overloaded, Repeated
from linearized.server.ordered_rooms import OrderedRooms
from linearized.store.base import Reply, Role, RoomRow

# A caller never waits longer than this for a decision; a submission already taken up is still decided and
# stored.
SUBMIT_SECONDS: Final = 30.0


class Hub:
    """Decides submissions for the rooms this server orders.

    Args:
        clock: milliseconds since the Unix epoch.
    """

    def __init__(self, rooms: OrderedRooms, *, clock: Callable[[], int], nursery: trio.Nursery) -> None:
        self._rooms = rooms
        self._clock = clock
        self._nursery = nursery
        self._actors: dict[str, Actor] = {}
        self._paused: set[str] = set()
        self._stopped: dict[str, str] = {}  # rooms that were taken over from us, and by whom

    async def submit(
        self,
        room_id: str,
        submission: Submission,
        *,
        reply: Reply | None = None,
    ) -> Accepted:
        """Have a submission decided, and stored if accepted.

        Args:
            reply: remembered in the same transaction as the entries, ``{event_id}`` in its value replaced. A
                submission whose reply is remembered already is a repetition, whoever was told of the first.

        Raises:
            Rejected: nothing changed.
            Repeated: it was accepted before.
            Overloaded: nothing changed.
            StoreError: it could not be stored; nothing changed.
            trio.TooSlowError: the decision is still being made; whether it was stored will show in the log.
        """
        (outcome,) = await self.submit_all(room_id, [(submission, reply)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def submit_all(
        self, room_id: str, submissions: Sequence[tuple[Submission, Reply | None]]
    ) -> list[Accepted | Rejected | Repeated]:
        """Have submissions decided in order, as one batch if the room is idle; each stands or falls alone.

        Raises:
            Overloaded, StoreError, trio.TooSlowError: as ``submit``; some may have been stored.
        """
        if room_id in self._paused and not all(_is_transfer(submission) for submission, _ in submissions):
            raise Overloaded("the room is being handed over to another hub")
        jobs = [Job(submission, reply) for submission, reply in submissions]
        with trio.fail_after(SUBMIT_SECONDS):
            actor = self._actor(room_id)
            for job in jobs:
                actor.put(job)
            for job in jobs:
                if not job.done.is_set():  # most were decided with the first
                    await job.done.wait()
        return [job.outcome() for job in jobs]

    async def create(self, room_id: str, version: str, submissions: list[Submission]) -> None:
        """Create a room from its first submissions, all of them or none.

        Raises:
            Rejected: one of them was refused; the room does not exist.
        """
        if self._rooms.row(room_id) is not None:
            raise Rejected(Reason.FORBIDDEN, "The room exists")
        room = self._rooms.new(room_id, get_version(version))
        now = self._clock()
        accepted = [room.submit(submission, now=now) for submission in submissions]
        row = RoomRow(
            room_id=room_id,
            version=version,
            role=Role.HUB,
            hub=self._rooms.name,
            head_seq=0,
            epoch=None,
        )
        await self._rooms.append(room, accepted, row=row)

    @asynccontextmanager
    async def paused(self, room_id: str) -> AsyncIterator[None]:
        """Take nothing for a room but its transfer; what waited before has been decided.

        Raises:
            Overloaded: it is paused already.
            Rejected, trio.TooSlowError: as ``submit``.
        """
        if room_id in self._paused:
            raise Overloaded("the room is being handed over to another hub")
        self._paused.add(room_id)
        try:
            last = Job(None, None)
            with trio.fail_after(SUBMIT_SECONDS):
                self._actor(room_id).put(last)
                await last.done.wait()
            yield
        finally:
            self._paused.discard(room_id)

    def stop(self, room_id: str, successor: str) -> None:
        """Append nothing more to a room: another server has taken it over."""
        self._stopped[room_id] = successor

    def resume(self, room_id: str) -> None:
        """The operator has decided about a stopped room."""
        self._stopped.pop(room_id, None)

    def _actor(self, room_id: str) -> Actor:
        if room_id in self._stopped:
            raise Rejected(Reason.WRONG_HUB, f"{self._stopped[room_id]} has taken this room over")
        actor = self._actors.get(room_id)
        if actor is None:
            row = self._rooms.row(room_id)
            if row is None:
                raise Rejected(Reason.UNKNOWN_ROOM, "This server does not know that room")
            if row.role is not Role.HUB:
                raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
            actor = self._actors[room_id] = Actor(
                self._rooms,
                room_id,
                clock=self._clock,
                ended=lambda ended: self._forget(room_id, ended),
            )
            self._nursery.start_soon(actor.run)
        return actor

    def load(self, room_id: str) -> Room:
        """The room as the store has it.

        Raises:
            StoreError: it has none.
        """
        return self._rooms.load(room_id)

    def _forget(self, room_id: str, actor: Actor) -> None:
        if self._actors.get(room_id) is actor:
            del self._actors[room_id]


def _is_transfer(submission: Submission) -> bool:
    return isinstance(submission, LinearizedPdu) and submission.transfer
