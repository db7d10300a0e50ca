"""One room with everybody in it: a hub's own client, a bridged homeserver, a MIMI provider that is notified,
one that fetches, and a Linearized Matrix participant; guests come and go, and all talk at once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from linearized.client import DecryptedMessage, Item, OwnMessage, Session, Undecryptable
from linearized.config import ProviderConfig
from linearized.mimi.content import SinglePart
from linearized.protocol.identifiers import user_domain
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
LENA, PAUL, PETRA, LINUS = (
    f"@{name}:{server}" for name, server in zip(("lena", "paul", "petra", "linus"), NAMES, strict=True)
)
# How long anything may take to arrive, seconds. It takes milliseconds; a pause of a follower a minute.
PATIENCE = 120.0
ALL = 1_000_000
# Things that are done at once: enough that messages meet commits, and that followers get several together.
TOGETHER = 20


@dataclass
class Everybody:
    """The room, who is in it, and what each of them has seen."""

    club: Club
    bridged: Bridged
    matrix: MatrixRoom
    servers: dict[str, Server]
    people: dict[str, Session]  # who is in the room all the time, by user ID
    guests: dict[str, Session]  # who comes and goes
    room_id: str
    chance: random.Random
    present: set[str] = field(default_factory=set)  # guests in the room
    said: dict[str, str] = field(default_factory=dict)  # by text, the user who said it
    items: defaultdict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))  # by user
    # By epoch, and by user who was in it: what all who are in it derive from its secrets.
    epochs: defaultdict[int, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    changes: Counter[str] = field(default_factory=Counter)
    began: dict[str, int] = field(default_factory=dict)  # by provider, the hub's entry it begins after

    @property
    def bot(self) -> Session:
        """The bridge's own client, which may add and remove people."""
        return self.bridged.bridge.puppets.bot

    @property
    def bot_id(self) -> str:
        return self.bot.device.owner.user_id

    @property
    def version(self) -> str:
        row = self.servers[HUB].node.rooms.row(self.room_id)
        assert row is not None
        return row.version

    def hub_log(self) -> list[EntryRow]:
        return self.servers[HUB].node.store.entries(self.room_id, after=0, limit=ALL)

    def epoch(self) -> int:
        group = self.servers[HUB].node.groups.row(self.room_id)
        assert group is not None
        return group.epoch

    def session(self, user_id: str) -> Session:
        return {**self.people, **self.guests}[user_id]

    def clients(self) -> dict[str, Session]:
        """Who is in the group now."""
        inside = (*self.people, *sorted(self.present))
        return {self.bot_id: self.bot, **{user_id: self.session(user_id) for user_id in inside}}

    # --- following ---

    async def listen(self, user_id: str) -> None:
        """Take what has come for a user."""
        self.items[user_id] += await drain(self.session(user_id))

    async def current(self, user_id: str) -> None:
        """Wait until a client is in the present epoch."""
        session = self.session(user_id)
        with trio.fail_after(PATIENCE):
            while True:
                await self.listen(user_id)
                device = session.device
                if device.in_group(self.room_id) and device.epoch(self.room_id) == self.epoch():
                    return
                await session.step(100)

    def heard(self, user_id: str) -> list[tuple[str, DecryptedMessage | OwnMessage]]:
        """What a user has read and said, in the order of the room."""
        found: list[tuple[str, DecryptedMessage | OwnMessage]] = []
        for item in self.items[user_id]:
            if isinstance(item, DecryptedMessage | OwnMessage):
                part = item.content.part
                assert isinstance(part, SinglePart)
                found.append((part.text, item))
            # Who comes back finds in its provider's copy what was said while it was away.
            assert not isinstance(item, Undecryptable) or item.expected, (user_id, item)
        return found

    # --- what happens ---

    async def together(self, number: int) -> int:
        """Several submissions at once, one of them a commit; how many."""
        change = self.chance.choice(["keys", "guest", "guest"])
        moving = self.chance.choice(list(self.guests)) if change == "guest" else None
        speakers = [user for user in (*self.people, *sorted(self.present)) if user != moving]
        texts: defaultdict[str, list[str]] = defaultdict(list)
        matrix: list[tuple[str, str]] = []
        for text in (f"message {number + each}" for each in range(TOGETHER)):
            if self.chance.random() < 0.3:
                matrix.append((self.chance.choice([MATRIX_ALICE, MATRIX_BOB]), text))
                self.said[text] = self.bot_id
            else:
                speaker = self.chance.choice(speakers)
                texts[speaker].append(text)
                self.said[text] = speaker
        async with trio.open_nursery() as nursery:
            for user_id, own in texts.items():
                nursery.start_soon(self._say, user_id, own)
            nursery.start_soon(self._from_the_bridge, matrix, moving)
            if change == "keys":
                nursery.start_soon(self._new_keys, self.chance.choice(list(self.people)))
        await self._look_at_the_epoch()
        self.changes[change] += 1
        return TOGETHER + 1

    async def _say(self, user_id: str, texts: list[str]) -> None:
        for text in texts:
            await self.session(user_id).send(self.room_id, message(text))

    async def _new_keys(self, user_id: str) -> None:
        await self.session(user_id).groups.update_keys(self.room_id)

    async def _from_the_bridge(self, said: list[tuple[str, str]], moving: str | None) -> None:
        for sender, text in said:
            self.bridged.homeserver.say(self.matrix, sender, text)
        if moving is not None:
            await self._come_or_go(moving)
        await self.bridged.settle()

    async def _come_or_go(self, guest: str) -> None:
        if guest in self.present:
            await self.bot.groups.remove_users(self.room_id, [guest])
            self.present.discard(guest)
            with trio.fail_after(PATIENCE):
                while self.session(guest).device.in_group(self.room_id):
                    await self.session(guest).step(100)
                    await self.listen(guest)
        else:
            await self.bot.groups.invite(self.room_id, [guest])
            self.present.add(guest)

    async def _look_at_the_epoch(self) -> None:
        """All who are in the group come to its epoch, and show what they have of it."""
        await self.bridged.settle()
        for user_id, session in self.clients().items():
            if session is not self.bot:
                await self.current(user_id)
            group = session.device.group(self.room_id)
            self.epochs[group.epoch][user_id] = group.epoch_authenticator()

    async def settled(self) -> None:
        """Everybody has everything; what is missing after a while the checks will show."""
        with trio.move_on_after(PATIENCE):
            for name in (PUSH, PULL, LINEAR):
                await self._caught_up(name)
            for user_id in (*self.people, *sorted(self.present)):
                while self.servers[user_domain(user_id)].node.store.rooms_of(user_id):
                    if not await self.session(user_id).step(100):
                        break
                await self.listen(user_id)
        await self.bridged.settle()

    async def _caught_up(self, name: str) -> None:
        cursors = self.servers[HUB].node.store.cursors
        # The hub's database is looked at, and no event says when a cursor has moved.
        while cursors(self.room_id, name)[0].cursor < len(self.hub_log()):  # noqa: ASYNC110
            await trio.sleep(0.05)


@asynccontextmanager
async def everybody(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, seed: int
) -> AsyncIterator[Everybody]:
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

        async def device(user_id: str) -> Session:
            localpart, _, server = user_id[1:].partition(":")
            return await club.device(servers[server], localpart)

        guests = (f"@gus:{HUB}", f"@gwen:{PUSH}", f"@gil:{PULL}")
        world = Everybody(
            club=club,
            bridged=bridged,
            matrix=matrix,
            servers=servers,
            people={user_id: await device(user_id) for user_id in (LENA, PAUL, PETRA, LINUS)},
            guests={user_id: await device(user_id) for user_id in guests},
            room_id=room_id,
            chance=random.Random(seed),  # noqa: S311 - chance, not secrecy
        )
        _watch_the_bridge(world, monkeypatch)
        await _all_join(world)
        yield world


def _watch_the_bridge(world: Everybody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what the bridge takes from the room noted, in its order."""
    inbound = world.bridged.bridge.inbound
    real = inbound.handle

    async def handle(item: Item) -> None:
        world.items[world.bot_id].append(item)
        await real(item)

    monkeypatch.setattr(inbound, "handle", handle)


async def _all_join(world: Everybody) -> None:
    """The Linearized Matrix server joins by events, and everybody's clients by commits."""
    hub, server = world.servers[HUB], world.servers[LINEAR]
    await world.bridged.settle()
    world.began[world.bot_id] = len(world.hub_log())
    head = len(world.hub_log())
    await hub.node.rooms.invite(world.room_id, sender=world.bot_id, target=LINUS)
    await server.node.rooms.join_remote(world.room_id, user_id=LINUS, via=[HUB])
    world.began[LINEAR] = head + 1  # after the invite
    for user_id in world.people:
        await world.bridged.settle()
        await world.bot.groups.invite(world.room_id, [user_id])
        world.began.setdefault(user_domain(user_id), len(world.hub_log()))
        world.began[user_id] = len(world.hub_log())
        await world.current(user_id)
    row = server.node.rooms.row(world.room_id)
    assert row is not None
    assert row.role is Role.PARTICIPANT
    await world._look_at_the_epoch()
