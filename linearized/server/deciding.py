"""The actor that decides what is submitted to one room.

It takes everything that waits, lets the room decide each submission, stores what was accepted as one atomic
append, and only then answers. While the append is being written the next batch gathers, so a busy room costs
one transaction per batch, and the store joins the appends of many rooms into one (group commit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
import trio

from linearized.exceptions import StoreError
from linearized.protocol.identifiers import user_domain
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Rejected, Submission
from linearized.server.acl import require_allowed
from linearized.server.ordered_rooms import OrderedRooms
from linearized.server.telemetry import describe
from linearized.store.base import Reply

log = structlog.get_logger("linearized.hub")

# Submissions that may wait for one room. At about 0.3 ms each this is a third of a second of work; past it
# the caller is better served by an early refusal than by a late answer.
MAX_WAITING: Final = 1000
# Submissions stored by one append, so that a busy room does not hold the loop and the writer for long.
MAX_BATCH: Final = 256
# An actor without work for this long gives its room's memory back.
IDLE_SECONDS: Final = 300.0

# What the value of a remembered answer has in the place of the entry's event ID.
EVENT_ID: Final = "{event_id}"


class Overloaded(Exception):  # noqa: N818 - says what the hub is
    """More submissions wait for this room than it can decide in time; try again later."""


class Repeated(Exception):  # noqa: N818 - says what the submission is
    """A submission was accepted before; nothing was added. ``value`` is the answer remembered then."""

    def __init__(self, value: str) -> None:
        super().__init__("the submission was accepted before")
        self.value = value


@dataclass(slots=True, eq=False)
class Job:
    """A submission in the queue of its room, and what becomes of it."""

    submission: Submission | None  # None: nothing to decide, its place in the queue is what counts
    reply: Reply | None
    done: trio.Event = field(default_factory=trio.Event)
    accepted: Accepted | None = None
    error: Exception | None = None

    def outcome(self) -> Accepted | Rejected | Repeated:
        """What became of it; raises what kept the hub from deciding."""
        if self.accepted is not None:
            return self.accepted
        if isinstance(self.error, Rejected | Repeated):
            return self.error
        raise self.error or StoreError("the submission was not decided")


class Actor:
    """Owns one room while it is active.

    Args:
        clock: the acceptance time of a batch, milliseconds since the Unix epoch.
        ended: called once the actor takes nothing more: it was idle, or the room has moved to another hub.
    """

    def __init__(
        self,
        rooms: OrderedRooms,
        room_id: str,
        *,
        clock: Callable[[], int],
        ended: Callable[[Actor], None],
    ) -> None:
        self._rooms = rooms
        self._room_id = room_id
        self._clock = clock
        self._ended = ended
        self._send, self._receive = trio.open_memory_channel[Job](MAX_WAITING)

    def put(self, job: Job) -> None:
        """Queue a job, never waiting for room in the queue."""
        try:
            self._send.send_nowait(job)
        except trio.WouldBlock:
            raise Overloaded(f"{MAX_WAITING} submissions are waiting for {self._room_id}") from None

    async def run(self) -> None:
        """Decide batches until idle."""
        room: Room | None = None
        try:
            while batch := await self._gather():
                room = await self._decide_all(room, batch)
        finally:
            # No await between the empty queue and forgetting the actor: nobody can queue in between. When the
            # server stops there may be some left, and none of them has been decided.
            self._ended(self)
            self._turn_away()

    async def _gather(self) -> list[Job]:
        batch: list[Job] = []
        with trio.move_on_after(IDLE_SECONDS):
            batch.append(await self._receive.receive())
        while len(batch) < MAX_BATCH:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        return batch

    async def _decide_all(self, room: Room | None, batch: list[Job]) -> Room | None:
        while batch:
            room, batch = await self._decide(room, batch)
        return room

    async def _decide(self, room: Room | None, batch: list[Job]) -> tuple[Room | None, list[Job]]:
        """Decide and store a batch; the room after it (None: read it again), and what is left to decide."""
        decided: list[tuple[Job, Accepted]] = []
        taken = batch
        now = self._clock()
        try:
            room = room or self._rooms.load(self._room_id)
            spoilt = False
            answers = self._rooms.remembered([job.reply for job in batch if job.reply is not None])
            for index, job in enumerate(batch):
                try:
                    self._submit(room, job, now, decided, answers)
                except (Rejected, Repeated) as error:
                    job.error = error
                except Exception as error:  # noqa: BLE001 - a bug: it costs its submission, not the neighbours
                    log.error("submission_failed", room_id=self._room_id, **describe(error))
                    job.error = error
                    taken = batch[: index + 1]  # the rest will be decided by a room that has not met it
                    spoilt = True
                    break
            if decided:
                # A batch once taken up is finished even while the server shuts down: its submitters may be
                # told of nothing that is not stored, and of everything that is.
                with trio.CancelScope(shield=True):
                    await self._store(room, decided)
        except Exception as error:  # noqa: BLE001 - whatever broke, every waiting caller must hear of it
            log.error("batch_failed", room_id=self._room_id, submissions=len(taken), **describe(error))
            # All of them: a refusal may have rested on a neighbour that is not in the log after all.
            for job in taken:
                job.error = StoreError("the batch could not be stored")
            room = None  # what is in memory may be ahead of the log: read it again
        else:
            for job, accepted in decided:
                job.accepted = accepted
            for job in taken:
                if isinstance(job.error, Rejected) and job.submission is not None:
                    _log_rejection(self._room_id, job.submission, job.error)
            room = None if spoilt else self._still_ours(room)
        for job in taken:
            job.done.set()
        return room, batch[len(taken) :]

    async def _store(self, room: Room, decided: list[tuple[Job, Accepted]]) -> None:
        replies = tuple(
            replace(job.reply, value=_filled(job.reply, accepted))
            for job, accepted in decided
            if job.reply is not None
        )
        await self._rooms.append(room, [accepted for _, accepted in decided], replies)

    def _submit(
        self,
        room: Room,
        job: Job,
        now: int,
        decided: list[tuple[Job, Accepted]],
        answers: dict[tuple[str, str], str],
    ) -> None:
        """Have the room decide one submission; raises what it refuses with.

        ``answers`` are those remembered, and those to be remembered with this batch.
        """
        if job.submission is None:
            return
        # Here and not when it was submitted: what it repeats may have waited in the same queue.
        if job.reply is not None and (known := answers.get((job.reply.scope, job.reply.key))) is not None:
            raise Repeated(known)
        require_allowed(room.state, job.submission, self._rooms.name)
        accepted = room.submit(job.submission, now=now)
        decided.append((job, accepted))
        if job.reply is not None:
            answers[job.reply.scope, job.reply.key] = _filled(job.reply, accepted)

    def _still_ours(self, room: Room) -> Room | None:
        """The room, unless it has moved: it may come back one day, as another than it was."""
        if not self._rooms.has_moved(room):
            return room
        self._ended(self)
        return None

    def _turn_away(self) -> None:
        while True:
            try:
                job = self._receive.receive_nowait()
            except trio.WouldBlock:
                return
            job.error = StoreError("the server is stopping")
            job.done.set()


def _filled(reply: Reply, accepted: Accepted) -> str:
    """The value to remember."""
    return reply.value.replace(EVENT_ID, accepted.event_id)


def _log_rejection(room_id: str, submission: Submission, error: Rejected) -> None:
    sender = getattr(submission, "sender", None)
    log.info(
        "submission_rejected",
        room_id=room_id,
        kind=type(submission).__name__,
        server=user_domain(sender) if isinstance(sender, str) and ":" in sender else None,
        code=error.code.value,
        reason=str(error),
    )
