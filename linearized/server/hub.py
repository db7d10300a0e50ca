"""The hub: one actor per active room.

An actor takes everything that waits for its room, lets the room decide each submission, stores what was
accepted as one atomic append, and only then answers. While the append is being written the next batch
gathers, so a busy room costs one transaction per batch, and the store joins the appends of many rooms into
one (group commit).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import structlog
import trio

from linearized.exceptions import StoreError
from linearized.mls import Mls, SignatureKeyPair
from linearized.protocol.identifiers import user_domain
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap, hub_of
from linearized.protocol.versions import get_version
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.grouping import NO_AGENTS
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.room import Room
from linearized.room.submissions import Accepted, LinearizedPdu, Reason, Rejected, Submission
from linearized.server.acl import require_allowed
from linearized.server.appends import append_of
from linearized.server.loading import restore_room
from linearized.server.telemetry import describe
from linearized.store.base import (
    EntryRow,
    Reply,
    Role,
    RoomAppend,
    RoomRow,
    Store,
)

log = structlog.get_logger("linearized.hub")

Appended: TypeAlias = Callable[[str, StateMap, Sequence[EntryRow]], None]
"""Hears of a room ID, the room's state, and the entries that led to it."""

# Submissions that may wait for one room. At about 0.3 ms each this is a third of a second of work; past it
# the caller is better served by an early refusal than by a late answer.
MAX_WAITING: Final = 1000
# Submissions stored by one append, so that a busy room does not hold the loop and the writer for long.
MAX_BATCH: Final = 256
# An actor without work for this long gives its room's memory back.
IDLE_SECONDS: Final = 300.0
# A caller never waits longer than this for a decision; a submission already taken up is still decided and
# stored.
SUBMIT_SECONDS: Final = 30.0


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
class _Job:
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


class Hub:
    """Decides submissions for the rooms this server orders.

    Args:
        vouched: the domains of our bridges, whose users this server answers for without having keys of
            them.
        agents: our encoded FrankingAgentData by cipher suite.
        authorities: those trusted for certificates of each domain's users.
        parents: of rooms that others depend on.
        signer: what the hub proposes with to groups, as an external sender.
        appended: called after an append is durable.
    """

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        store: Store,
        mls: Mls,
        signer: SignatureKeyPair,
        clock: Callable[[], int],
        vouched: frozenset[str],
        nursery: trio.Nursery,
        appended: Appended,
        agents: Mapping[int, bytes] = NO_AGENTS,
        authorities: Authorities = nobody_trusted,
        parents: Parents = NO_PARENTS,
    ) -> None:
        self._identity = identity
        self._agents = agents
        self._authorities = authorities
        self._parents = parents
        self._store = store
        self._mls = mls
        self._signer = signer
        self._clock = clock
        self._vouched = vouched
        self._ours = vouched | {identity.name}
        self._nursery = nursery
        self._appended = appended
        self._actors: dict[str, _Actor] = {}
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
        jobs = [_Job(submission, reply) for submission, reply in submissions]
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
        if self._store.room(room_id) is not None:
            raise Rejected(Reason.FORBIDDEN, "The room exists")
        room = Room(
            room_id=room_id,
            version=get_version(version),
            identity=self._identity,
            mls=self._mls,
            signer=self._signer,
            vouched_domains=self._vouched,
            agents=self._agents,
            authorities=self._authorities,
            parents=self._parents,
        )
        now = self._clock()
        accepted = [room.submit(submission, now=now) for submission in submissions]
        row = RoomRow(
            room_id=room_id,
            version=version,
            role=Role.HUB,
            hub=self._identity.name,
            head_seq=0,
            epoch=None,
        )
        await self._store_append(room, self._append_of(room, accepted, row=row))

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
            last = _Job(None, None)
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

    def _actor(self, room_id: str) -> _Actor:
        if room_id in self._stopped:
            raise Rejected(Reason.WRONG_HUB, f"{self._stopped[room_id]} has taken this room over")
        actor = self._actors.get(room_id)
        if actor is None:
            row = self._store.room(room_id)
            if row is None:
                raise Rejected(Reason.UNKNOWN_ROOM, "This server does not know that room")
            if row.role is not Role.HUB:
                raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
            actor = self._actors[room_id] = _Actor(self, room_id)
            self._nursery.start_soon(actor.run)
        return actor

    def load(self, room_id: str) -> Room:
        """The room as the store has it."""
        row = self._store.room(room_id)
        if row is None:
            raise StoreError(f"room {room_id} vanished")
        return restore_room(
            self._store,
            row,
            identity=self._identity,
            mls=self._mls,
            signer=self._signer,
            vouched_domains=self._vouched,
            agents=self._agents,
            authorities=self._authorities,
            parents=self._parents,
        )

    async def store_batch(self, room: Room, decided: list[tuple[_Job, Accepted]]) -> None:
        """Write what a batch of submissions became."""
        replies = tuple(
            replace(job.reply, value=_filled(job.reply, accepted))
            for job, accepted in decided
            if job.reply is not None
        )
        batch = [accepted for _, accepted in decided]
        await self._store_append(room, self._append_of(room, batch, replies))

    def remembered(self, replies: Sequence[Reply]) -> dict[tuple[str, str], str]:
        """The answers remembered under the scopes and keys of replies, one query for each scope."""
        keys: dict[str, list[str]] = {}
        for reply in replies:
            keys.setdefault(reply.scope, []).append(reply.key)
        return {
            (scope, key): value
            for scope, wanted in keys.items()
            for key, value in self._store.replies(scope, wanted).items()
        }

    @property
    def name(self) -> str:
        """This server."""
        return self._identity.name

    def now(self) -> int:
        """The acceptance time of a batch, milliseconds since the Unix epoch."""
        return self._clock()

    def forget(self, room_id: str, actor: _Actor) -> None:
        """Drop an actor that is idle, or whose room has moved to another hub."""
        if self._actors.get(room_id) is actor:
            del self._actors[room_id]

    def has_moved(self, room: Room) -> bool:
        """Whether another server orders a room now."""
        return hub_of(room.state) != self._identity.name

    async def _store_append(self, room: Room, append: RoomAppend) -> None:
        await self._store.append(append)
        try:
            self._appended(room.room_id, room.state, append.entries)
        except Exception as error:  # noqa: BLE001 - it is stored; whoever was not woken sees it at the next
            log.error("not_announced", room_id=room.room_id, **describe(error))

    def _append_of(
        self,
        room: Room,
        batch: list[Accepted],
        replies: tuple[Reply, ...] = (),
        row: RoomRow | None = None,
    ) -> RoomAppend:
        return append_of(
            self._store,
            room.room_id,
            room.state,
            batch,
            own_name=self._identity.name,
            ours=self._ours,
            replies=replies,
            row=row,
        )


class _Actor:
    """Owns one room while it is active."""

    def __init__(self, hub: Hub, room_id: str) -> None:
        self._hub = hub
        self._room_id = room_id
        self._send, self._receive = trio.open_memory_channel[_Job](MAX_WAITING)

    def put(self, job: _Job) -> None:
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
            self._hub.forget(self._room_id, self)
            self._turn_away()

    async def _gather(self) -> list[_Job]:
        batch: list[_Job] = []
        with trio.move_on_after(IDLE_SECONDS):
            batch.append(await self._receive.receive())
        while len(batch) < MAX_BATCH:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        return batch

    async def _decide_all(self, room: Room | None, batch: list[_Job]) -> Room | None:
        while batch:
            room, batch = await self._decide(room, batch)
        return room

    async def _decide(self, room: Room | None, batch: list[_Job]) -> tuple[Room | None, list[_Job]]:
        """Decide and store a batch; the room after it (None: read it again), and what is left to decide."""
        decided: list[tuple[_Job, Accepted]] = []
        taken = batch
        now = self._hub.now()
        try:
            room = room or self._hub.load(self._room_id)
            spoilt = False
            answers = self._hub.remembered([job.reply for job in batch if job.reply is not None])
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
                    await self._hub.store_batch(room, decided)
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

    def _submit(
        self,
        room: Room,
        job: _Job,
        now: int,
        decided: list[tuple[_Job, Accepted]],
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
        require_allowed(room.state, job.submission, self._hub.name)
        accepted = room.submit(job.submission, now=now)
        decided.append((job, accepted))
        if job.reply is not None:
            answers[job.reply.scope, job.reply.key] = _filled(job.reply, accepted)

    def _still_ours(self, room: Room) -> Room | None:
        """The room, unless it has moved: it may come back one day, as another than it was."""
        if not self._hub.has_moved(room):
            return room
        self._hub.forget(self._room_id, self)
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


def _is_transfer(submission: Submission) -> bool:
    return isinstance(submission, LinearizedPdu) and submission.transfer


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
