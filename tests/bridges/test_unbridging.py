"""Rooms whose bridging ends because the bot is no longer in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bridges.fake_homeserver import MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, CAROL, GHOST_BOB, World
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message


async def put_out(world: World, room: MatrixRoom, membership: str = "leave", sender: str = ALICE) -> None:
    world.homeserver.member(room, BOT, membership, sender=sender)
    await world.settle()


@pytest.mark.parametrize(("membership", "sender"), [("leave", ALICE), ("ban", ALICE), ("leave", BOT)])
async def test_who_puts_the_bot_out_of_a_room_ends_its_bridging(
    tmp_path: Path, membership: str, sender: str
) -> None:
    """The last is what a homeserver does when it deletes a room: everybody leaves by themselves."""
    async with talking(tmp_path) as (world, room, bob):
        await put_out(world, room, membership, sender)
        assert world.bridge.links.all() == []
        ghost = world.homeserver.state(room)["m.room.member", GHOST_BOB]["content"]
        assert ghost["membership"] == "leave"
        assert ghost["reason"] == "The bridge was put out of this room."
        assert {room.members[user] for user in (ALICE, BOB, CAROL)} == {"join"}
        (farewell,) = await heard(bob)
        assert "no longer bridged" in body_of(farewell)


async def test_nothing_of_a_room_crosses_once_the_bot_was_put_out(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        old = world.room_id()
        world.homeserver.member(room, BOT, "leave", sender=ALICE)
        world.homeserver.say(room, ALICE, "only among us")
        await world.settle()
        (farewell,) = await heard(bob)
        assert "no longer bridged" in body_of(farewell)
        await bob.send(old, message("is anybody there?"))
        await world.settle()
        await bob.catch_up()
        assert [item for item in await drain(bob) if "only" in repr(getattr(item, "content", ""))] == []
        assert by(room, GHOST_BOB) == []


async def test_a_bot_that_was_let_in_again_meanwhile_stays(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        world.homeserver.member(room, BOT, "leave", sender=ALICE)
        world.homeserver.member(room, BOT, "join", push=False)
        await world.settle()
        assert len(world.bridge.links.all()) == 1
        assert room.members[GHOST_BOB] == "join"


async def test_a_bridge_that_dies_while_it_is_put_out_leaves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (world, room, bob):
        left: list[Any] = []

        class Killed(BaseException):
            pass

        async def die(user: str, *args: Any, **more: Any) -> None:
            left.append(user)
            raise Killed

        monkeypatch.setattr(world.bridge.unbridging, "_hand_over", die)
        world.homeserver.member(room, BOT, "leave", sender=ALICE)
        with pytest.raises(Killed):
            await world.settle()
        assert left
        await world.restart()
        assert world.bridge.links.all() == []
        assert room.members[GHOST_BOB] == "leave"
        (farewell,) = await heard(bob)
        assert "no longer bridged" in body_of(farewell)
