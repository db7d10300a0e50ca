"""A room with a past and people, imported by a bridge that is killed five times, at requests; and how many
clients it has open. ``imports`` has the same from outside, and large.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridges.matrix import people as bridged_people
from bridges.matrix.links import Phase
from bridges.matrix.puppets import OPEN_CLIENTS
from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.imports.processes import long_past
from tests.bridges.support import ALICE, MATRIX_ROOM, World, open_world, opened_bridge
from tests.bridges.test_kills import FaultyHub, world_to_kill
from tests.client.test_kills import Killed

EVENTS, MEMBERS, KILLS = 300, 25, 5


class KillSometimes:
    """Kills at the requests with these numbers, counted over all lives of the bridge."""

    def __init__(self, points: set[int]) -> None:
        self.points = points
        self.seen = 0
        self.killed = 0
        # The servers that were asked for all of a room's state.
        self.asked_for_state: list[str] = []

    def __call__(self, when: str, request: httpx.Request) -> None:
        if when == "before" and request.url.path.endswith("/state"):
            self.asked_for_state.append(request.url.host)
        # A request counts twice: killed before it takes effect, or after, when its answer is lost.
        self.seen += 1
        if self.seen in self.points:
            self.killed += 1
            raise Killed(f"{when} request {self.seen}")


async def live(world: World, hub: FaultyHub, fault: KillSometimes) -> None:
    """Import until a bridge lives to the end."""
    hub.kill = fault
    world.homeserver.fault = fault
    while True:
        try:
            async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
                await bridge.start()
                await bridge.import_room(MATRIX_ROOM)
                return
        except Killed:
            continue
        except BaseExceptionGroup as group:
            if group.subgroup(Killed) is None:
                raise


async def log_of(world: World, hub: FaultyHub) -> tuple[list[Any], set[str]]:
    """What was imported, in order, and who is in the group."""
    async with opened_bridge(world.directory, world.homeserver, hub) as bridge:
        link = bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        assert link.room_id is not None
        assert link.phase is Phase.LIVE
        found: list[Any] = []
        after, bot = 0, bridge.puppets.bot
        while pdus := (page := await bot.api.log(link.room_id, after=after, limit=100)).pdus:
            after = page.first_seq + len(pdus) - 1
            found += [
                (pdu["type"], pdu["sender"], pdu["origin_server_ts"], pdu.get("state_key"), pdu["content"])
                for pdu in pdus
                if pdu.get("provenance", {}).get("imported")
            ]
        members = {owner.user_id for owner in bot.device.members(link.room_id).values()}
        return found, members


async def test_a_large_import_that_is_killed_five_times_ends_with_the_same_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridged_people, "CHUNK", MEMBERS // 3)  # more than one commit adds them
    whole = KillSometimes(set())
    async with world_to_kill(tmp_path / "whole") as (world, hub):
        long_past(world.homeserver, EVENTS, MEMBERS)
        await live(world, hub, whole)
        wanted, people = await log_of(world, hub)
    # It grows with the members.
    assert whole.asked_for_state.count("a.example") == 1
    assert len(people) == MEMBERS + 1
    assert len([entry for entry in wanted if entry[0] == "m.room.message"]) >= EVENTS - MEMBERS - 10
    points = {whole.seen * number // (KILLS + 1) for number in range(1, KILLS + 1)}
    fault = KillSometimes(points)
    async with world_to_kill(tmp_path / "killed") as (world, hub):
        long_past(world.homeserver, EVENTS, MEMBERS)
        await live(world, hub, fault)
        assert fault.killed == KILLS
        assert await log_of(world, hub) == (wanted, people)


async def test_few_clients_are_open_at_a_time_and_never_two_of_one_user(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        clients = world.bridge.puppets
        held = clients.session(ALICE)
        for number in range(OPEN_CLIENTS + 5):
            clients.session(f"@member{number}:{DOMAIN}")
        assert clients.session(ALICE) is held
        gc.collect()
        assert len([one for one in gc.get_objects() if isinstance(one, Session)]) == OPEN_CLIENTS + 1
        assert clients.session(world.bridge.config.bot) is clients.bot
