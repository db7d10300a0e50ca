"""Rooms that depend on a parent room, on real servers: nobody stays behind who has left the parent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio

from linearized.client import ApiError, GroupLost, Session
from linearized.exceptions import StoreError
from linearized.protocol.state import membership
from linearized.room.submissions import ParentChanged, Reason, Rejected
from linearized.server import parents as module
from linearized.server.deciding import Overloaded
from linearized.server.hub import Hub
from linearized.server.parents import Dependants
from linearized.store.base import Store
from tests.client.support import drain, message
from tests.client.test_real_server import Club, drain_until, open_club
from tests.server.support import Server
from tests.store.rows import entry, member

ALICE, BOB = "@alice:a.example", "@bob:b.example"


@dataclass
class House:
    """Alice's room, with Bob of another provider and Carol, and one that depends on it, with Bob."""

    club: Club
    hub: Server
    alice: Session
    bob: Session
    parent: str
    room: str

    def member(self, user_id: str) -> str:
        return membership(self.hub.node.rooms.state(self.room), user_id)


@asynccontextmanager
async def house(directory: Path) -> AsyncIterator[House]:
    async with open_club(directory) as club:
        hub, other = await club.server("a.example"), await club.server("b.example")
        alice, bob = await club.device(hub, "alice"), await club.device(other, "bob")
        carol = await club.device(hub, "carol")
        parent = await alice.create_room(users=[BOB, carol.device.owner.user_id], policy="open")
        room = await alice.create_room(users=[BOB], policy="open", parent=parent)
        await drain_until(bob, object)
        while not bob.device.in_group(room):
            await drain_until(bob, object)
        yield House(club, hub, alice, bob, parent, room)


async def gone(home: House, user_id: str) -> None:
    """Follow as Alice until a user has left the dependent room."""
    for _ in range(20):
        await drain(home.alice)
        if home.member(user_id) == "leave":
            return
        await home.alice.step(2000)
    raise AssertionError(f"{user_id} stays")


async def test_who_is_removed_from_the_parent_is_taken_out_of_its_dependant_by_the_hub(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        await home.bob.send(home.room, message("before"))
        await home.alice.groups.remove_users(home.parent, [BOB])
        await gone(home, BOB)
        # The hub has proposed to remove his client; Alice's next commit does.
        with pytest.raises(ApiError):
            await home.bob.send(home.room, message("after"))
        await drain(home.alice)
        await home.alice.groups.update_keys(home.room)
        assert [owner.user_id for owner in home.alice.device.members(home.room).values()] == [ALICE]
        await drain_until(home.bob, GroupLost)


async def test_who_is_not_in_the_parent_is_not_added_and_a_parent_at_another_hub_is_refused(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        dora = await home.club.device(home.hub, "dora")
        with pytest.raises(ApiError, match="is not in the parent room"):
            await home.alice.api.invite(home.room, dora.device.owner.user_id)
        with pytest.raises(ApiError, match="hosted by the parent's hub"):
            await home.bob.create_room(policy="open", parent=home.parent)
        with pytest.raises(ValueError, match="has a policy"):
            await home.alice.create_room(parent=home.parent)
        with pytest.raises(Rejected, match="Other rooms depend on this one"):
            await home.hub.node.moves.transfer(home.parent, "b.example")


class Fakes:
    """A store in which a room has strays for some rounds, and a hub with outcomes given in advance."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.looks: list[float] = []
        self.asked = 0

    def strayed(self, *, limit: int) -> list[str]:
        assert limit == module.AT_ONCE
        self.looks.append(trio.current_time())
        return ["!child:a.example"] if self.outcomes else []

    async def submit(self, room_id: str, submission: object) -> None:
        assert (room_id, submission) == ("!child:a.example", ParentChanged())
        self.asked += 1
        await trio.lowlevel.checkpoint()
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Dependants]:
        task = Dependants(cast("Store", self), cast("Hub", self))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run)
            await trio.sleep(0.5)
            yield task
            nursery.cancel_scope.cancel()


async def test_rooms_are_followed_until_nobody_strays_also_past_a_failure(autojump_clock: object) -> None:
    fakes = Fakes(None, StoreError("the disk is full"), Overloaded("busy"), None)
    began = trio.current_time()
    async with fakes.running():
        assert fakes.asked == 2
        await trio.sleep(2 * module.PAUSE_SECONDS)
        assert (fakes.asked, fakes.outcomes) == (4, [])
    pauses = [look - began for look in fakes.looks]
    assert pauses == pytest.approx([0, 0, module.PAUSE_SECONDS, *[2 * module.PAUSE_SECONDS] * 2])


async def test_a_room_that_refuses_is_asked_at_the_next_occasion_only(autojump_clock: object) -> None:
    refused = Rejected(Reason.WRONG_HUB, "it has moved")
    fakes = Fakes(refused, refused, None)
    async with fakes.running() as task:
        assert fakes.asked == 1
        task.appended([entry(1)])
        await trio.sleep(1)
        assert fakes.asked == 1
        task.appended([entry(1), member(2, BOB, "leave")])
        await trio.sleep(1)
        assert fakes.asked == 2
        await trio.sleep(module.LOOK_SECONDS)
        assert fakes.asked == 3
