"""A day of three servers: rooms, quarrels, restarts and an outage, and at its end every copy is the same.

``LINEARIZED_SOAK_SEEDS`` and ``LINEARIZED_SOAK_ROUNDS`` make it longer (``make soak``).
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from linearized.exceptions import InvalidInput
from linearized.protocol.identifiers import user_domain
from linearized.room.submissions import LocalEvent
from linearized.server import echoes
from linearized.server.acl import SERVER_ACL
from linearized.server.outbound import OutboundError
from linearized.store.base import Reply
from tests.simulation.checks import everybody_agrees, log
from tests.simulation.world import (
    ALICE,
    ANNA,
    BILL,
    BOB,
    CAROL,
    CLEO,
    SEEDS,
    SERVERS,
    B,
    C,
    World,
    clock,
    world,
)  # fmt: skip

# Rounds of talk between two events of the day.
ROUNDS = int(os.environ.get("LINEARIZED_SOAK_ROUNDS", "1"))
HOUR = 3600.0


@dataclass
class Day:
    """The day's rooms, and what happens between its events."""

    world: World
    random: random.Random
    square: str = ""  # public, ordered by a.example; the others have all of it
    office: str = ""  # by invitation, ordered by a.example
    club: str = ""  # to knock at, ordered by c.example
    said: int = 0
    topics: list[str] = field(default_factory=list)

    def body(self) -> str:
        self.said += 1
        return f"message {self.said}"

    async def talk(self, *, quiet: tuple[str, ...] = (), rounds: int = ROUNDS) -> None:
        """Everybody who is up says something in each of their rooms, all at once; then time goes by."""
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for room_id in self.world.rooms:
                    if not self.world.is_up(self.world.rooms[room_id]):
                        continue
                    for user_id in self.world.members(room_id):
                        if self.world.is_up(user_domain(user_id)) and user_id not in quiet:
                            for _ in range(self.random.randint(1, 2)):
                                nursery.start_soon(self.world.say, user_id, room_id, self.body())
            await trio.sleep(self.random.uniform(1, 300))

    async def restart_amid_talk(self, name: str) -> None:
        """Restart a server while everybody talks: some of it goes unanswered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.talk)
            await trio.lowlevel.checkpoint()
            await self.world.restart(name)
        await self.world.settled()

    # --- the events of the day ---

    async def morning(self) -> None:
        """Rooms are made; people are invited, come, decline, knock, and take a knock back."""
        world = self.world
        levels = LocalEvent(
            sender=ALICE, type="m.room.power_levels", state_key="",
            content={"users": {ALICE: 100, BOB: 50}, "invite": 50},
        )  # fmt: skip
        self.square = await world.create(ALICE, "public")
        await world.join(BOB, self.square)
        await world.join(CAROL, self.square)
        self.office = await world.create(ALICE, "invite", levels)
        self.club = await world.create(CAROL, "knock")
        with pytest.raises(OutboundError):
            await world.join(BOB, self.office)
        await world.invite(ALICE, self.office, BOB)
        await world.invite(ALICE, self.office, CAROL)
        await world.join(BOB, self.office)
        await world.member(CAROL, self.office, CAROL, "leave")
        await self.talk()
        await world.invite(BOB, self.office, CAROL)
        await world.join(CAROL, self.office)
        for user_id in (ALICE, BOB, BILL):
            await world.knock(user_id, self.club)
        await world.member(BILL, self.club, BILL, "leave")
        for user_id in (ALICE, BOB):
            await world.invite(CAROL, self.club, user_id)
            await world.join(user_id, self.club)
        for user_id in (ANNA, BILL, CLEO):
            await world.join(user_id, self.square)
        await self.talk()

    async def powers_and_topics(self) -> None:
        """Who may name a room changes, and with it its topic."""
        world = self.world
        with pytest.raises(InvalidInput):
            await world.state(BOB, self.square, "m.room.topic", {"topic": "not yet mine"})
        levels = {"users": {ALICE: 100, BOB: 50, CAROL: 50}}
        await world.state(ALICE, self.square, "m.room.power_levels", levels)
        await world.settled()
        for number, user_id in enumerate(self.random.choices([ALICE, BOB, CAROL], k=4)):
            await world.state(user_id, self.square, "m.room.topic", {"topic": f"topic {number}"})
            await self.talk()

    async def restarts(self) -> None:
        """Every server is restarted, first at rest, then in the middle of things."""
        for name in SERVERS:
            await self.world.settled()
            await self.world.restart(name)
            await self.talk()
        for name in self.random.sample(SERVERS, 3):
            await self.restart_amid_talk(name)

    async def an_hour_without_b(self) -> None:
        """One participant is dead for an hour; the others go on, and remove a user of its."""
        world = self.world
        await world.settled()
        before = {room_id: world.head(B, room_id) for room_id in world.rooms}
        died = trio.current_time()
        await world.stop(B)
        await self.talk()
        await world.state(CAROL, self.square, "m.room.topic", {"topic": "where is b.example?"})
        await world.member(ALICE, self.square, BILL, "ban")
        await world.invite(CAROL, self.club, ANNA)
        await world.join(ANNA, self.club)
        while trio.current_time() < died + HOUR:
            await self.talk(rounds=1)
        await world.settled([C])
        await world.start(B)
        assert {room_id: world.head(B, room_id) for room_id in world.rooms} == before
        await world.settled()
        banned = world.server(B).node.rooms.state(self.square)["m.room.member", BILL]
        assert banned.content["membership"] == "ban"
        with pytest.raises(InvalidInput):
            await world.join(BILL, self.square)

    async def an_answer_lost(self) -> None:
        """The hub cannot reach a participant: what it said comes back late, and sent again is the same."""
        world, body = self.world, self.body()
        reply = Reply(scope="txn of bob's phone", key=body, value="{event_id}")
        world.network.down.add(B)
        began = trio.current_time()
        await world.say(BOB, self.square, body, reply=reply)
        assert body in world.ledger.unanswered
        assert trio.current_time() >= began + echoes.ECHO_SECONDS
        await self.talk(quiet=(BOB, BILL))
        world.network.down.discard(B)
        await world.settled()
        await world.say(BOB, self.square, body, reply=reply)
        assert body in world.ledger.sent

    async def a_server_shut_out(self) -> None:
        """An ACL denies c.example the square for a while: nothing goes there and nothing is taken from it."""
        world = self.world
        await world.settled()
        denial = await world.state(ALICE, self.square, SERVER_ACL, {"allow": ["*"], "deny": [C]})
        await trio.sleep(60)
        kept = log(world, C, self.square)
        assert kept[-1].event_id == denial
        body = self.body()
        await world.say(CAROL, self.square, body)
        assert body not in world.ledger.sent
        await self.talk(quiet=(CAROL, CLEO))
        assert log(world, C, self.square) == kept
        await world.restart(C)
        await world.state(ALICE, self.square, SERVER_ACL, {"allow": ["*"]})
        await world.settled()
        assert len(log(world, C, self.square)) > len(kept)

    async def quarrels(self) -> None:
        """One is kicked and comes back, others leave and come back, one is banned for a time."""
        world = self.world
        await world.member(ALICE, self.office, BOB, "leave")
        await trio.sleep(60)
        kicked = log(world, B, self.office)
        await self.talk()
        assert log(world, B, self.office) == kicked
        await world.invite(ALICE, self.office, BOB)
        await world.join(BOB, self.office)
        for user_id in (CAROL, CLEO):
            await world.member(user_id, self.square, user_id, "leave")
        await self.talk()
        await world.join(CAROL, self.square)
        await world.member(ALICE, self.square, CLEO, "ban")
        with pytest.raises(InvalidInput):
            await world.join(CLEO, self.square)
        await world.member(ALICE, self.square, CLEO, "leave")
        await world.join(CLEO, self.square)
        await self.talk()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_after_a_day_of_restarts_and_outages_every_copy_is_the_hubs_log(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with world(tmp_path) as servers:
        day = Day(servers, random.Random(seed))  # noqa: S311 - choices that can be made again
        began = clock()
        await day.morning()
        await day.powers_and_topics()
        await day.restarts()
        events = [day.an_hour_without_b, day.an_answer_lost, day.a_server_shut_out, day.quarrels]
        for event in day.random.sample(events, len(events)):
            await event()
            await day.restart_amid_talk(day.random.choice(SERVERS))
        await trio.sleep(max(0.0, 24 * HOUR - (clock() - began) / 1000))
        await day.talk()
        await servers.settled()
        assert all(servers.participants(room_id) for room_id in (day.square, day.office, day.club))
        assert min(servers.restarts.values()) >= 2
        await everybody_agrees(servers, whole={day.square: [B, C]})
