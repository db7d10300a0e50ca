"""Three servers that can be stopped and started again, their users, and a ledger of what those users said.

A server runs in a task of its own. Stopping it cuts short whatever it is doing for others and for its own
users, as the end of a process would; starting it opens the same files again.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import trio
import trio.lowlevel

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.room.submissions import LocalEvent, Rejected
from linearized.server.app import App
from linearized.server.outbound import OutboundError
from linearized.server.rooms import Rooms
from linearized.store.base import Reply, RoomRow, UserRow
from tests.server.support import Network, Server, running_server

A, B, C = SERVERS = ("a.example", "b.example", "c.example")
ALICE, ANNA = "@alice:a.example", "@anna:a.example"
BOB, BILL = "@bob:b.example", "@bill:b.example"
CAROL, CLEO = "@carol:c.example", "@cleo:c.example"
USERS = (ALICE, ANNA, BOB, BILL, CAROL, CLEO)

VERSION = "dev.linearized.1"
# How many different days are tried.
SEEDS = int(os.environ.get("LINEARIZED_SOAK_SEEDS", "1"))
# When the simulated day begins, milliseconds since the Unix epoch: now, as MLS devices hold the lifetimes of
# leaves to the system's clock as well as to the servers'.
_MORNING: trio.lowlevel.RunVar[int] = trio.lowlevel.RunVar("morning")
# Simulated seconds until everybody has everything: several of the longest pauses between two deliveries.
PATIENCE = 600.0

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - says what happened to the server that was asked
    """The server was stopped before it answered."""


class Lifetime:
    """One run of a server, from its start until it is stopped."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.ending = trio.Event()
        self.ended = trio.Event()
        self._calls: set[trio.CancelScope] = set()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have the server do something; raises ``Stopped`` when it ends first."""
        if self.ending.is_set():
            raise Stopped
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                return await work()
            finally:
                self._calls.discard(scope)
        raise Stopped

    def cut(self) -> None:
        """Answer nobody any more."""
        self.ending.set()
        for scope in self._calls:
            scope.cancel()


@dataclass
class Ledger:
    """What was said, and what became of it as far as its sender was told."""

    sent: dict[str, str] = field(default_factory=dict)  # by body, the event ID the sender was given
    refused: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)  # it may stand in the log or not


@dataclass
class World:
    """All servers. ``say`` and ``act`` are what a user's client does at the user's own server."""

    directory: Path
    nursery: trio.Nursery
    network: Network = field(default_factory=Network)
    lives: dict[str, Lifetime] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    rooms: dict[str, str] = field(default_factory=dict)  # by room ID, its hub
    restarts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERVERS, -1))

    # --- servers ---

    async def start(self, name: str) -> None:
        """Start a server over what it left behind."""
        self.lives[name] = Lifetime()
        self.restarts[name] += 1
        await self.nursery.start(self._live, name, self.lives[name])

    async def stop(self, name: str) -> None:
        """Stop a server, in the middle of whatever it does."""
        life = self.lives[name]
        life.cut()
        await life.ended.wait()

    async def restart(self, name: str) -> None:
        await self.stop(name)
        await self.start(name)

    def is_up(self, name: str) -> bool:
        return not self.lives[name].ending.is_set()

    def server(self, name: str) -> Server:
        server = self.lives[name].server
        assert server is not None
        return server

    async def _live(
        self, name: str, life: Lifetime, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with running_server(
            name, self.directory, self.network, clock=clock, store_in_thread=False
        ) as server:
            life.server = server
            self.network.apps[name] = _mortal(self.network.apps[name], life)
            task_status.started()
            await life.ending.wait()
        life.ended.set()

    # --- users ---

    async def create(
        self, creator: str, join_rule: str, *initial: LocalEvent, encryption: str | None = None
    ) -> str:
        """A room with ``creator``'s server as its hub."""
        content = {"encryption": {"algorithm": encryption}} if encryption is not None else {}
        rule = LocalEvent(
            sender=creator, type="m.room.join_rules", state_key="", content={"join_rule": join_rule}
        )
        hub = user_domain(creator)
        room_id = await self.server(hub).node.rooms.create(
            creator=creator, version=VERSION, creation_content=content, initial=[rule, *initial]
        )
        self.rooms[room_id] = hub
        return room_id

    async def act(self, user_id: str, work: Callable[[Rooms], Awaitable[T]]) -> T:
        """Have the user's server do something with its rooms."""
        # The same request in the same millisecond is the same transaction, whose refusal is remembered.
        await trio.sleep(0.001)
        life = self.lives[user_domain(user_id)]
        if life.server is None:
            raise Stopped
        rooms = life.server.node.rooms
        return await life.call(lambda: work(rooms))

    async def say(self, user_id: str, room_id: str, body: str, *, reply: Reply | None = None) -> None:
        """Say something once, and write down what came of it."""
        event = LocalEvent(sender=user_id, type="m.room.message", content={"body": body})
        self.ledger.unanswered.discard(body)
        try:
            event_id = await self.act(user_id, lambda rooms: rooms.send(room_id, event, reply=reply))
        except Rejected:
            self.ledger.refused.add(body)
        except (OutboundError, trio.TooSlowError, Stopped):
            self.ledger.unanswered.add(body)
        else:
            self.ledger.sent[body] = event_id

    async def state(self, user_id: str, room_id: str, event_type: str, content: JsonObject) -> str:
        """Set a piece of room state with an empty state key; its event ID."""
        event = LocalEvent(sender=user_id, type=event_type, state_key="", content=content)
        return await self.act(user_id, lambda rooms: rooms.send(room_id, event))

    async def member(self, user_id: str, room_id: str, target: str, membership: str) -> str:
        """Set somebody's membership by an event (a leave, kick, ban or the end of one); its event ID."""
        event = LocalEvent(
            sender=user_id, type="m.room.member", state_key=target, content={"membership": membership}
        )
        return await self.act(user_id, lambda rooms: rooms.send(room_id, event))

    async def invite(self, user_id: str, room_id: str, target: str) -> str:
        return await self.act(user_id, lambda rooms: rooms.invite(room_id, sender=user_id, target=target))

    async def knock(self, user_id: str, room_id: str) -> str:
        via = [self.rooms[room_id]]
        return await self.act(user_id, lambda rooms: rooms.knock(room_id, user_id=user_id, via=via))

    async def join(self, user_id: str, room_id: str) -> str:
        """Join; at the hub by an event, elsewhere through the hub."""
        if user_domain(user_id) == self.rooms[room_id]:
            return await self.member(user_id, room_id, user_id, "join")
        via = [self.rooms[room_id]]
        return await self.act(user_id, lambda rooms: rooms.join_remote(room_id, user_id=user_id, via=via))

    # --- looking ---

    def row(self, name: str, room_id: str) -> RoomRow:
        row = self.server(name).node.rooms.row(room_id)
        assert row is not None
        return row

    def members(self, room_id: str) -> list[str]:
        """Users joined to a room, as its hub has it."""
        rows = self.server(self.rooms[room_id]).node.store.memberships(room_id)
        return sorted(row.user_id for row in rows if row.membership == "join")

    def participants(self, room_id: str) -> list[str]:
        """Servers of joined users other than the hub."""
        return sorted({user_domain(user_id) for user_id in self.members(room_id)} - {self.rooms[room_id]})

    def head(self, name: str, room_id: str) -> str | None:
        """The ID of the last event of a server's copy."""
        last = self.server(name).node.store.entries_before(room_id, before=2**53, limit=1)
        return last[0].event_id if last else None

    async def settled(self, names: Sequence[str] = SERVERS) -> None:
        """Wait until these servers have every room they take part in up to its end."""
        with trio.fail_after(PATIENCE):
            for room_id, hub in self.rooms.items():
                for name in self.participants(room_id):
                    # Two databases are compared, and no event says when they are equal.
                    while name in names and self.head(name, room_id) != self.head(hub, room_id):  # noqa: ASYNC110
                        await trio.sleep(1)


def clock() -> int:
    """Milliseconds since the Unix epoch, by the simulated clock."""
    try:
        morning = _MORNING.get()
    except LookupError:  # the first one to ask
        morning = round((time.time() - trio.current_time()) * 1000)
        _MORNING.set(morning)
    return morning + round(trio.current_time() * 1000)


def _mortal(app: App, life: Lifetime) -> App:
    """A server's application; its connections break when it is stopped."""

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        try:
            await life.call(lambda: app(scope, receive, send))
        except Stopped:
            raise httpx.ReadError("the server was stopped") from None

    return cast("App", answer)


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Three running servers with two users each."""
    async with trio.open_nursery() as nursery:
        found = World(directory, nursery)
        for name in SERVERS:
            await found.start(name)
        for user_id in USERS:
            row = UserRow(user_id=user_id, password_hash=None, created_ts=clock())
            await found.server(user_domain(user_id)).node.store.put_user(row)
        yield found
        for name in SERVERS:
            await found.stop(name)
