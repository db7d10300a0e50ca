"""A bridge killed at any point goes on where it was: nothing is lost, nothing appears twice, on either side.

Every request to either side is a point, before and after it takes effect. A sample of them is tested here;
set ``ALL_KILL_POINTS=1`` to test each one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bridges.matrix.runner import Bridge
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver
from tests.bridges.support import ALICE, CAROL, GHOST_BOB, MATRIX_ROOM, World, bob_of_b, opened_bridge
from tests.bridges.test_import import history
from tests.bridges.test_live import by, heard
from tests.client.support import drain, message
from tests.client.test_kills import KillAt, Killed
from tests.client.test_real_server import Club
from tests.server.support import Server

STEP = 1 if os.environ.get("ALL_KILL_POINTS") else 11


class Faulty(httpx.AsyncBaseTransport):
    """A connection that a ``KillAt`` watches."""

    def __init__(self, inner: httpx.AsyncBaseTransport, kill: Callable[[str, httpx.Request], None]) -> None:
        self._inner = inner
        self._kill = kill

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._kill("before", request)
        answer = await self._inner.handle_async_request(request)
        self._kill("after", request)
        return answer


class FaultyHub(Server):
    """A provider whose clients' connections a ``KillAt`` watches."""

    kill: Callable[[str, httpx.Request], None]

    def http(self) -> httpx.AsyncClient:
        inner = self.network.transport("")
        return httpx.AsyncClient(transport=Faulty(inner, self.kill), base_url=f"https://{self.name}")


@asynccontextmanager
async def world_to_kill(directory: Path) -> AsyncIterator[tuple[World, FaultyHub]]:
    async with AsyncExitStack() as stack:
        club = Club(directory, stack)
        real = await club.server("a.example", bridged=(DOMAIN,))
        hub = FaultyHub(node=real.node, network=real.network)
        hub.kill = KillAt(0)
        homeserver = FakeHomeserver()
        async with opened_bridge(directory, homeserver, hub) as bridge:
            world = World(homeserver=homeserver, club=club, hub=real, bridge=bridge, directory=directory)
        yield world, hub


async def survive(world: World, hub: FaultyHub, work: str) -> None:
    """Run ``work`` with a bridge, again and again until one lives to its end."""
    for _ in range(3):
        try:
            async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
                world.bridge = bridge
                await bridge.start()
                if work == "import":
                    await bridge.import_room(MATRIX_ROOM)
                await world.settle()
                return
        except Killed:
            continue
        except BaseExceptionGroup as group:
            if group.subgroup(Killed) is None:
                raise
    raise AssertionError("killed more than once")


def arm(world: World, hub: FaultyHub, point: int) -> None:
    hub.kill = KillAt(point)
    world.homeserver.fault = hub.kill


@pytest.mark.parametrize("point", range(1, 90, STEP))
async def test_an_import_killed_anywhere_is_complete_and_holds_nothing_twice(
    tmp_path: Path, point: int
) -> None:
    async with world_to_kill(tmp_path) as (world, hub):
        room = history(world.homeserver, 70)
        arm(world, hub, point)
        await survive(world, hub, "import")
        arm(world, hub, 0)
        await survive(world, hub, "nothing")
        async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
            api = bridge.puppets.bot.api
            assert len(await api.joined_rooms()) == 1
            page = await api.log(world_room(bridge), after=0, limit=500)
            sources = [
                p["provenance"]["event_id"] for p in page.pdus if p.get("provenance", {}).get("imported")
            ]
            assert len(sources) == len(set(sources))
            wanted = [e["event_id"] for e in room.timeline if e["type"] != "m.room.create"]
            assert sources == wanted[: len(sources)]
            assert len(sources) >= 70 + 5
            owners = [o.client_uri for o in bridge.puppets.bot.device.members(world_room(bridge)).values()]
            assert len(owners) == len(set(owners)) == 4


@pytest.mark.parametrize("point", range(1, 60, STEP))
async def test_a_bridge_killed_while_people_talk_brings_every_message_across_once(
    tmp_path: Path, point: int
) -> None:
    async with world_to_kill(tmp_path) as (world, hub):
        room = history(world.homeserver, 3)
        await survive(world, hub, "import")
        bob = await bob_of_b(world)
        world.homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
            assert await bridge.ghosts.answer_query(GHOST_BOB)
        await survive(world, hub, "nothing")
        await bob.step(5000)
        await drain(bob)
        room_id = next(iter(bob.device.state.rooms))
        for number in range(3):
            world.homeserver.say(room, (ALICE, CAROL)[number % 2], f"matrix {number}")
            await bob.send(room_id, message(f"mimi {number}"))
        arm(world, hub, point)
        await survive(world, hub, "nothing")
        arm(world, hub, 0)
        await survive(world, hub, "nothing")
        got = [item.content.part for item in await heard(bob, 3)]
        assert [getattr(part, "content", None) for part in got] == [b"matrix 0", b"matrix 1", b"matrix 2"]
        assert not await drain(bob)
        bodies = [event["content"]["body"] for event in by(room, GHOST_BOB)]
        assert bodies == ["mimi 0", "mimi 1", "mimi 2"]


def lose_database(directory: Path) -> None:
    for path in directory.glob("bridge.sqlite*"):
        path.unlink()


def world_room(bridge: Bridge) -> str:
    link = bridge.links.of_matrix(MATRIX_ROOM)
    assert link is not None
    assert link.room_id is not None
    return link.room_id


async def test_a_bridge_that_lost_its_database_finds_its_room_and_its_groups_again(tmp_path: Path) -> None:
    async with world_to_kill(tmp_path) as (world, hub):
        room = history(world.homeserver, 3)
        await survive(world, hub, "import")
        bob = await bob_of_b(world)
        world.homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
            assert await bridge.ghosts.answer_query(GHOST_BOB)
            before = world_room(bridge)
        await survive(world, hub, "nothing")
        await bob.step(5000)
        await drain(bob)
        world.homeserver.say(room, ALICE, "before")
        await survive(world, hub, "nothing")
        assert await heard(bob)
        lose_database(tmp_path)
        await survive(world, hub, "import")
        async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
            assert world_room(bridge) == before
            assert len(await bridge.puppets.bot.api.joined_rooms()) == 1
        world.homeserver.say(room, ALICE, "after")
        await bob.send(before, message("still here"))
        await survive(world, hub, "nothing")
        got = [getattr(item.content.part, "content", None) for item in await heard(bob)]
        assert got == [b"after"]
        assert [event["content"]["body"] for event in by(room, GHOST_BOB)] == ["still here"]
