"""One room, one provider that is notified and one that fetches: their copies are the same, byte for byte,
whatever stops, starts again, or goes missing in between.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import openmls
import pytest
import trio
import trio.testing

from linearized.config import ProviderConfig
from linearized.mimi.messages import FanoutMessage
from linearized.mimi.participants import ParticipantListUpdate, UserRolePair
from linearized.protocol.identifiers import group_id, user_uri
from linearized.room.admission import ALGORITHM
from linearized.server.app import App
from linearized.server.cursors import MIMI
from linearized.server.fanout import project_entry
from linearized.server.providers import PREFIX
from linearized.server.taking import entry_of
from linearized.store.base import EntryRow
from tests.room.support import ALICE, BOB, NOW, Member, handshake
from tests.server.providers.support import with_packages
from tests.server.support import Network, Server, running_server

A, B, C = NAMES = ("a.example", "b.example", "c.example")
CATHY = "@cathy:c.example"
SETTINGS = {C: {A: ProviderConfig(delivery="pull")}}
# Simulated seconds in which everything arrives: several of the longest pauses.
PATIENCE = 600.0


@dataclass
class World:
    """The three servers, each in a task of its own, and the room's hub at a.example."""

    directory: Path
    nursery: trio.Nursery
    chance: random.Random
    network: Network = field(default_factory=Network)
    running: dict[str, tuple[Server, trio.Event, trio.Event]] = field(default_factory=dict)
    loss: float = 0.0  # of how many requests the answer gets lost
    alice: Member = field(default_factory=lambda: Member(ALICE))
    room_id: str = ""
    added_at: int = 0

    def server(self, name: str) -> Server:
        return self.running[name][0]

    async def start(self, name: str) -> None:
        await self.nursery.start(self._live, name)

    async def stop(self, name: str) -> None:
        _, stopping, stopped = self.running.pop(name)
        stopping.set()
        await stopped.wait()

    async def _live(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        stopping, stopped = trio.Event(), trio.Event()
        async with running_server(
            name,
            self.directory,
            self.network,
            providers=SETTINGS.get(name),
            clock=lambda: NOW,
            store_in_thread=False,
        ) as server:
            app: Any = self.network.apps[name]

            async def lossy(scope: MutableMapping[str, Any], receive: Any, send: Callable[..., Any]) -> None:
                sent: list[Any] = []

                async def keep(message: Any) -> None:
                    await trio.lowlevel.checkpoint()
                    sent.append(message)

                await app(scope, receive, keep)
                if self.chance.random() < self.loss:
                    raise httpx.ReadError("the answer got lost")
                for message in sent:
                    await send(message)

            self.network.apps[name] = cast("App", lossy)
            self.running[name] = (server, stopping, stopped)
            task_status.started()
            await stopping.wait()
        stopped.set()

    async def begin(self) -> None:
        """Alice creates the room and adds Bob's and Cathy's devices, in one commit."""
        for name in NAMES:
            await self.start(name)
        node = self.server(A).node
        self.room_id = await node.rooms.create(
            creator=ALICE,
            version="dev.linearized.1",
            creation_content={"encryption": {"algorithm": ALGORITHM}},
            initial=[],
        )
        await node.rooms.submit(self.room_id, self.alice.create(name=group_id(self.room_id)))
        self.alice.accept()
        packages = [await self.package(name, user) for name, user in ((B, BOB), (C, CATHY))]
        update = ParticipantListUpdate(
            added=tuple(UserRolePair(user=user_uri(user), role_index=1) for user in (BOB, CATHY))
        )
        accepted = await node.rooms.submit(self.room_id, self.alice.change(update, add=packages))
        self.added_at = accepted.entries[-1].seq
        self.alice.accept()

    async def package(self, name: str, user_id: str) -> bytes:
        """A key package of a new device, which the hub knows the way to."""
        store = self.server(name).node.store
        await with_packages(self.server(name), user_id, "PHONE")
        claimed = await store.claim_key_package(
            user_id=user_id, device_id="PHONE", ciphersuites=[1], now_ms=NOW
        )
        assert claimed is not None
        await self.server(A).node.store.put_key_package_routes({claimed.reference: name}, NOW + 10**9)
        return claimed.key_package

    async def say(self) -> None:
        await self.server(A).node.rooms.submit(self.room_id, self.alice.message())

    async def commit(self) -> None:
        group: openmls.Group = self.alice.joined()
        await self.server(A).node.rooms.submit(self.room_id, handshake(self.alice, group.commit()))
        self.alice.accept()

    def log(self, name: str) -> list[EntryRow]:
        return self.server(name).node.store.entries(self.room_id, after=0, limit=10_000)

    def expected(self) -> list[bytes]:
        """What a follower's copy has to hold."""
        found: list[bytes] = []
        for entry in self.log(A)[self.added_at :]:
            projected = project_entry(entry)
            if projected is not None:
                message = FanoutMessage.decode(projected)
                found.append(
                    entry_of(self.room_id, A, timestamp=message.timestamp, message=message.message)[2]
                )
        return found

    async def agree(self) -> None:
        """Heal everything, wait, and compare."""
        self.loss = 0.0
        self.network.down.clear()
        for name in NAMES:
            if name not in self.running:
                await self.start(name)
        for one, other in ((A, B), (A, C), (C, A)):
            self.server(one).node.followers.contacted(other)
            self.server(one).node.pulling.contacted(other)
        await trio.sleep(PATIENCE)
        copies = {name: [entry.pdu for entry in self.log(name)] for name in (B, C)}
        assert copies == dict.fromkeys((B, C), self.expected())
        assert [entry.seq for entry in self.log(C)] == [entry.seq for entry in self.log(B)]
        for name, user in ((B, BOB), (C, CATHY)):
            store = self.server(name).node.store
            assert len(store.to_device(user, "PHONE", after=0, limit=10)) == 1  # the Welcome, once
        # The hub owes nobody anything.
        head = len(self.log(A))
        node = self.server(A).node
        followers = list(map(node.followers.progress.of, node.store.followers(self.room_id)))
        assert [(row.provider, row.protocol, row.cursor) for row in followers] == [
            (B, MIMI, head),
            (C, MIMI, head),
        ]


@asynccontextmanager
async def world(directory: Path, seed: int = 0) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        found = World(directory, nursery, random.Random(seed))  # noqa: S311 - chance, not secrecy
        await found.begin()
        yield found
        nursery.cancel_scope.cancel()


async def test_a_follower_that_fetches_has_what_one_that_is_notified_has(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with world(tmp_path) as w:
        await trio.sleep(1)
        for _ in range(20):
            await w.say()
            await w.commit()
        await w.agree()
        assert len(w.log(C)) == 40
        calls = [(*call[:2], call[3].removeprefix(PREFIX)) for call in w.network.log]
        assert [call for call in calls if call[:2] == (A, B) and call[2].startswith("/notify/")]
        assert [call for call in calls if call[:2] == (C, A) and call[2].startswith("/follow?")]
        assert autojump_clock.current_time() > 0


async def test_after_it_registered_nothing_is_pushed_to_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with world(tmp_path) as w:
        await trio.sleep(120)
        assert w.server(A).node.store.pull_followers() == [C]
        w.network.log.clear()
        await w.say()
        await w.agree()
        assert not [entry for entry in w.network.log if entry[:2] == (A, C)]
        assert autojump_clock.current_time() > 120


@pytest.mark.parametrize("seed", range(4))
async def test_random_stops_outages_and_lost_answers_change_no_byte(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with world(tmp_path, seed) as w:
        for _ in range(60):
            step = w.chance.choice(["say", "say", "say", "commit", "stop", "start", "down", "up", "loss"])
            name = w.chance.choice(NAMES)
            if step in {"say", "commit"} and A in w.running:
                await (w.say() if step == "say" else w.commit())
            elif step == "stop" and name in w.running:
                await w.stop(name)
            elif step == "start" and name not in w.running:
                await w.start(name)
            elif step == "down":
                w.network.down.add(name)
            elif step == "up":
                w.network.down.discard(name)
            elif step == "loss":
                w.loss = w.chance.choice([0.0, 0.3, 0.7])
            await trio.sleep(w.chance.choice([0.0, 0.01, 1.0, 30.0]))
        await w.agree()
        assert w.log(C)
        assert autojump_clock.current_time() > PATIENCE
