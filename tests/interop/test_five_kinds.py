"""One room that everybody is in: a Linearized Matrix participant, a MIMI provider that is notified, one that
fetches, a bridged homeserver and a client of the hub; messages and membership changes in any order.

``LINEARIZED_SOAK_SUBMISSIONS`` makes it longer (``make soak``).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from linearized.client import DecryptedMessage, Session
from linearized.config import ProviderConfig
from linearized.mimi.content import SinglePart
from linearized.mimi.messages import FanoutMessage
from linearized.protocol.identifiers import user_domain
from linearized.server.fanout import project_entry
from linearized.server.franking import with_frank
from linearized.server.taking import entry_of
from linearized.store.base import EntryRow, Role
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, MatrixRoom
from tests.bridges.support import ALICE as MATRIX_ALICE
from tests.bridges.support import BOB as MATRIX_BOB
from tests.bridges.support import World as Bridged
from tests.bridges.support import opened_bridge
from tests.bridges.test_import import history
from tests.client.support import drain, message
from tests.client.test_real_server import Club
from tests.server.support import Server

HUB, PUSH, PULL, LINEAR = "a.example", "b.example", "c.example", "d.example"
NAMES = (HUB, PUSH, PULL, LINEAR)
SUBMISSIONS = int(os.environ.get("LINEARIZED_SOAK_SUBMISSIONS", "100"))
# How long anything may take to arrive, seconds. It takes milliseconds; a pause of a follower a minute.
PATIENCE = 120.0
ALL = 1_000_000


@dataclass
class Everybody:
    """The room, who is in it, and what was said to whom."""

    club: Club
    bridged: Bridged
    matrix: MatrixRoom
    servers: dict[str, Server]
    people: dict[str, Session]  # who is in the room all the time, by user ID
    guests: dict[str, Session]  # who comes and goes
    room_id: str
    chance: random.Random
    present: set[str] = field(default_factory=set)  # guests in the room
    said: dict[str, frozenset[str]] = field(default_factory=dict)  # by text, the users who may read it
    heard: dict[str, list[str]] = field(default_factory=dict)  # by user, texts in order
    began: dict[str, int] = field(default_factory=dict)  # by provider, the hub's entry it begins after

    @property
    def admin(self) -> Session:
        return self.bridged.bridge.puppets.bot

    def hub_log(self) -> list[EntryRow]:
        return self.servers[HUB].node.store.entries(self.room_id, after=0, limit=ALL)

    def epoch(self) -> int:
        group = self.servers[HUB].node.groups.row(self.room_id)
        assert group is not None
        return group.epoch

    # --- following ---

    async def listen(self, user_id: str, session: Session) -> None:
        """Take what has come for a user."""
        for item in await drain(session):
            if isinstance(item, DecryptedMessage):
                part = item.content.part
                assert isinstance(part, SinglePart)
                self.heard.setdefault(user_id, []).append(part.text)

    async def current(self, user_id: str, session: Session) -> None:
        """Wait until a client is in the present epoch."""
        with trio.fail_after(PATIENCE):
            while True:
                await self.listen(user_id, session)
                device = session.device
                if device.in_group(self.room_id) and device.epoch(self.room_id) == self.epoch():
                    return
                await session.step(100)

    def readers(self) -> frozenset[str]:
        return frozenset({*self.people, *self.present})

    # --- what happens ---

    async def step(self, number: int) -> None:
        """One submission of somebody's."""
        kind = self.chance.choices(["say", "matrix", "keys", "guest"], [10, 4, 1, 2])[0]
        text = f"message {number}"
        if kind == "say":
            user_id = self.chance.choice([*self.people, *self.present])
            session = {**self.people, **self.guests}[user_id]
            await self.current(user_id, session)
            self.said[text] = self.readers() - {user_id}
            await session.send(self.room_id, message(text))
        elif kind == "matrix":
            self.said[text] = self.readers()
            self.bridged.homeserver.say(self.matrix, self.chance.choice([MATRIX_ALICE, MATRIX_BOB]), text)
            await self.bridged.settle()
        elif kind == "keys":
            user_id, session = self.chance.choice(list(self.people.items()))
            await self.current(user_id, session)
            await session.groups.update_keys(self.room_id)
        else:
            await self.come_or_go(self.chance.choice(list(self.guests)))

    async def come_or_go(self, guest: str) -> None:
        await self.bridged.settle()
        if guest in self.present:
            # It hears what was said while it was there before it is gone.
            await self.current(guest, self.guests[guest])
            await self.admin.groups.remove_users(self.room_id, [guest])
            self.present.discard(guest)
            with trio.fail_after(PATIENCE):
                while self.guests[guest].device.in_group(self.room_id):
                    await self.guests[guest].step(100)
                    await self.listen(guest, self.guests[guest])
        else:
            await self.admin.groups.invite(self.room_id, [guest])
            self.present.add(guest)
            await self.current(guest, self.guests[guest])

    # --- what has to hold in the end ---

    async def settled(self) -> None:
        """Everybody has everything."""
        await self.bridged.settle()
        for user_id in sorted(self.readers()):
            await self.current(user_id, {**self.people, **self.guests}[user_id])
        # Whatever is missing after that is shown by the checks.
        with trio.move_on_after(PATIENCE):
            for name in (PUSH, PULL, LINEAR):
                await self._caught_up(name)
            for user_id in sorted(self.readers()):
                session = {**self.people, **self.guests}[user_id]
                while len(self.heard.get(user_id, [])) < self.due(user_id):
                    await session.step(100)
                    await self.listen(user_id, session)

    async def _caught_up(self, name: str) -> None:
        cursors = self.servers[HUB].node.store.cursors
        # The hub's database is looked at, and no event says when a cursor has moved.
        while cursors(self.room_id, name)[0].cursor < len(self.hub_log()):  # noqa: ASYNC110
            await trio.sleep(0.05)

    def due(self, user_id: str) -> int:
        return sum(user_id in readers for readers in self.said.values())

    def check_logs(self) -> None:
        """Five logs: the hub's own is the client's and the bridge's, and the others are that log."""
        log = self.hub_log()
        assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
        for name in (PUSH, PULL):
            copy = self.servers[name].node.store.entries(self.room_id, after=0, limit=ALL)
            assert [entry.pdu for entry in copy] == self._fanned_out(log[self.began[name] :]), name
        linear = self.servers[LINEAR].node.store.entries(self.room_id, after=0, limit=ALL)
        tail = log[self.began[LINEAR] :]
        assert [entry.pdu for entry in linear[-len(tail) :]] == [entry.pdu for entry in tail]

    def _fanned_out(self, log: list[EntryRow]) -> list[bytes]:
        found: list[bytes] = []
        for entry in log:
            projected = project_entry(entry, frank_of=self.servers[HUB].node.franking.of_entry)
            if projected is not None:
                fanned = FanoutMessage.decode(projected)
                _, _, raw = entry_of(self.room_id, HUB, timestamp=fanned.timestamp, message=fanned.message)
                found.append(with_frank(raw, fanned.frank))
        return found

    def check_epochs(self) -> None:
        clients = [self.admin, *self.people.values(), *(self.guests[user] for user in self.present)]
        assert self.admin.device.epoch(self.room_id) == self.epoch()
        states = {session.device.group(self.room_id).group_context() for session in clients}
        assert len(states) == 1

    def check_messages(self) -> None:
        """Every message was read once by exactly the members of its epoch, in the order of the log."""
        for user_id in {*self.people, *self.guests}:
            heard = self.heard.get(user_id, [])
            assert heard == [text for text, readers in self.said.items() if user_id in readers], user_id
        shown = Counter(
            event["content"]["body"]
            for event in self.matrix.timeline
            if event["type"] == "m.room.message" and event["content"]["body"] in self.said
        )
        assert shown == Counter(dict.fromkeys(self.said, 1))


@asynccontextmanager
async def everybody(directory: Path, seed: int) -> AsyncIterator[Everybody]:
    async with AsyncExitStack() as stack:
        club = Club(directory, stack)
        pull = {HUB: ProviderConfig(delivery="pull")}
        servers = {HUB: await club.server(HUB, bridged=(DOMAIN,), peers=NAMES)}
        servers[PUSH] = await club.server(PUSH, peers=NAMES)
        servers[PULL] = await club.server(PULL, peers=NAMES, providers=pull)
        servers[LINEAR] = await club.server(LINEAR, peers=NAMES)
        homeserver = FakeHomeserver()
        bridge = await stack.enter_async_context(opened_bridge(directory, homeserver, servers[HUB]))
        await bridge.start()
        bridged = Bridged(
            homeserver=homeserver, club=club, hub=servers[HUB], bridge=bridge, directory=directory
        )
        matrix = history(homeserver, 3)
        room_id = await bridged.import_room(matrix)
        names = {HUB: "lena", PUSH: "paul", PULL: "petra", LINEAR: "linus"}
        people = {
            f"@{name}:{server}": await club.device(servers[server], name) for server, name in names.items()
        }
        guests = {
            f"@{name}:{server}": await club.device(servers[server], name)
            for server, name in ((HUB, "gus"), (PUSH, "gwen"), (PULL, "gil"))
        }
        world = Everybody(
            club=club,
            bridged=bridged,
            matrix=matrix,
            servers=servers,
            people=people,
            guests=guests,
            room_id=room_id,
            chance=random.Random(seed),  # noqa: S311 - chance, not secrecy
        )
        await _all_join(world, f"@linus:{LINEAR}")
        yield world


async def _all_join(world: Everybody, linear: str) -> None:
    """The Linearized Matrix server joins by events, and everybody's clients by commits."""
    hub, server = world.servers[HUB], world.servers[LINEAR]
    head = len(world.hub_log())
    await hub.node.rooms.invite(world.room_id, sender=world.admin.device.owner.user_id, target=linear)
    await server.node.rooms.join_remote(world.room_id, user_id=linear, via=[HUB])
    world.began[LINEAR] = head + 1  # after the invite
    for user_id, session in world.people.items():
        await world.bridged.settle()
        await world.admin.groups.invite(world.room_id, [user_id])
        world.began.setdefault(user_domain(user_id), len(world.hub_log()))
        await world.current(user_id, session)
    row = server.node.rooms.row(world.room_id)
    assert row is not None
    assert row.role is Role.PARTICIPANT


async def test_five_kinds_of_members_agree_on_everything(tmp_path: Path) -> None:
    async with everybody(tmp_path, seed=7) as world:
        for number in range(SUBMISSIONS):
            await world.step(number)
        await world.settled()
        world.check_logs()
        world.check_epochs()
        world.check_messages()
        assert {user_domain(user) for user in world.people} == set(NAMES)
        protocols = {
            row.provider: row.protocol for row in world.servers[HUB].node.store.followers(world.room_id)
        }
        assert protocols == {PUSH: "mimi", PULL: "mimi", LINEAR: "linearized"}
        assert world.servers[HUB].node.store.pull_followers() == [PULL]
