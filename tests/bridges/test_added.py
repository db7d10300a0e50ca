"""Rooms that somebody at a provider begins with users of the homeserver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.matrix import added
from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOB, CAROL, World, open_world
from tests.bridges.test_import import history
from tests.bridges.test_live import body_of, by, heard
from tests.client.support import drain, message

BRIDGE = "@_bridge:a.example"
DAN, GHOST = "@dan:a.example", f"@_lin_a.example_dan:{DOMAIN}"


@asynccontextmanager
async def begun(
    tmp_path: Path, users: tuple[str, ...] = (ALICE,), **content: Any
) -> AsyncIterator[tuple[World, Session, str]]:
    """Dan, at the provider, has added users of the homeserver, who are known by a room, to one of his own."""
    async with open_world(tmp_path) as world:
        await world.import_room(history(world.homeserver, 1))
        dan = await world.club.device(world.hub, "dan")
        levels = {"power_level_content_override": {"invite": 0}, **content}
        room_id = await dan.create_room(users=list(users), **levels)
        await dan.send(room_id, message("hi there"))
        yield world, dan, room_id


def room_of(world: World, room_id: str) -> MatrixRoom | None:
    link = world.bridge.links.of_room(room_id)
    return None if link is None else world.homeserver.rooms[link.matrix_room_id]


async def look(world: World) -> None:
    await world.bridge.added.look()
    await world.settle()


def bodies(room: MatrixRoom) -> list[str]:
    return [event["content"]["body"] for event in by(room, GHOST)]


async def test_a_chat_that_somebody_at_a_provider_begins_is_one_in_matrix(tmp_path: Path) -> None:
    async with begun(tmp_path) as (world, dan, room_id):
        await look(world)
        room = room_of(world, room_id)
        assert room is not None
        assert bodies(room) == ["hi there"]
        invitation = world.homeserver.state(room)["m.room.member", ALICE]["content"]
        assert invitation == {"membership": "invite", "is_direct": True}
        world.homeserver.member(room, ALICE, "join")
        world.homeserver.say(room, ALICE, "hello dan")
        await world.settle()
        (got,) = [item for item in await heard(dan) if item.sender_uri == f"mimi://{DOMAIN}/u/alice"]
        assert body_of(got) == "hello dan"
        await drain(dan)
        await dan.send(room_id, message("how are you?"))
        await world.settle()
        await look(world)
        assert bodies(room) == ["hi there", "how are you?"]


async def test_more_than_two_are_a_room_and_each_is_invited_once(tmp_path: Path) -> None:
    async with begun(tmp_path, (ALICE, BOB)) as (world, _, room_id):
        for _ in range(2):
            await look(world)
        room = room_of(world, room_id)
        assert room is not None
        for user in (ALICE, BOB):
            (event,) = [e for e in room.timeline if e.get("state_key") == user]
            assert event["content"] == {"membership": "invite", "is_direct": False}
        assert bodies(room) == ["hi there"]
        assert CAROL not in room.members


async def test_who_declines_is_out_of_the_group(tmp_path: Path) -> None:
    async with begun(tmp_path) as (world, dan, room_id):
        await look(world)
        room = room_of(world, room_id)
        assert room is not None
        world.homeserver.member(room, ALICE, "leave")
        await world.settle()
        await dan.catch_up()
        assert ALICE not in {owner.user_id for owner in dan.device.members(room_id).values()}


async def test_what_a_client_reads_meanwhile_is_not_dropped(tmp_path: Path) -> None:
    async with begun(tmp_path) as (world, dan, room_id):
        # The client follows, because of something else, before the bridge looks.
        await world.bridge.puppets.follow(ALICE)
        await dan.send(room_id, message("are you there?"))
        await look(world)
        room = room_of(world, room_id)
        assert room is not None
        assert bodies(room) == ["hi there", "are you there?"]
        assert not world.bridge.puppets.session(ALICE).device.state.inbox


@pytest.mark.parametrize("step", ["open", "handle", "_invite"])
async def test_a_bridge_killed_on_the_way_shows_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    async def die(*args: object) -> None:
        raise Killed

    async with begun(tmp_path) as (world, _, room_id):
        bridge = world.bridge
        owner = {"open": bridge.portals, "handle": bridge.inbound, "_invite": bridge.added}[step]
        monkeypatch.setattr(owner, step, die)
        with pytest.raises(Killed):
            await bridge.added.look()
        await world.restart()
        await look(world)
        room = room_of(world, room_id)
        assert room is not None
        assert bodies(room) == ["hi there"]
        assert room.members[ALICE] == "invite"
        assert world.bridge.puppets.openings.all() == []


async def gone(world: World, dan: Session, room_id: str) -> bool:
    await dan.catch_up()
    member = await dan.api.state_event(room_id, "m.room.member", ALICE)
    return bool(member["content"]["membership"] == "leave") and room_of(world, room_id) is None


async def test_who_may_not_bring_the_bot_in_says_how_it_comes_in_and_leaves(tmp_path: Path) -> None:
    async with begun(tmp_path, power_level_content_override={"invite": 50}) as (world, dan, room_id):
        await look(world)
        (got,) = await heard(dan)
        assert body_of(got) == (
            "[The bridge to Matrix: nothing of this room reaches me, because mimi://a.example/u/_bridge has"
            " to be in the room as well; add it first. I leave.]"
        )
        assert got.content.extensions["dev.linearized.msgtype"] == "m.notice"
        assert await gone(world, dan, room_id)
        assert not world.bridge.puppets.session(ALICE).device.in_group(room_id)
        assert world.bridge.puppets.openings.all() == []
        # Done so, it works.
        await dan.groups.commit_pending(room_id)
        await dan.groups.invite(room_id, [BRIDGE, ALICE])
        await dan.send(room_id, message("and now?"))
        await look(world)
        room = room_of(world, room_id)
        assert room is not None
        assert bodies(room)[-1] == "and now?"


async def test_where_rooms_are_not_bridged_by_invitations_users_leave_at_once(tmp_path: Path) -> None:
    async with begun(tmp_path) as (world, dan, room_id):
        world.bridge.added._config = replace(world.bridge.config, bridge_invited_rooms=False)
        await look(world)
        assert await gone(world, dan, room_id)


async def test_a_room_that_a_bridge_made_waits_for_its_matrix_room(tmp_path: Path) -> None:
    async with begun(tmp_path) as (world, _, _room_id):
        old = world.room_id()
        world.bridge.links.forget(f"!old:{DOMAIN}")
        await world.bridge.added.look()
        assert room_of(world, old) is None
        assert old in await world.bridge.puppets.api(ALICE).joined_rooms()


async def test_the_bridge_looks_now_and_then_and_survives_a_provider_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the machine's here, since the provider is a real one: the pauses are what is shortened."""
    monkeypatch.setattr(added, "LOOK_SECONDS", 0.01)
    async with begun(tmp_path) as (world, _, room_id):
        looks: list[int] = []
        look_once = world.bridge.added.look

        async def counted() -> None:
            looks.append(1)
            await look_once()
            if len(looks) == 2:
                raise StopAsyncIteration

        monkeypatch.setattr(world.bridge.added, "look", counted)
        with pytest.raises(StopAsyncIteration):
            await world.bridge.added.run()
        room = room_of(world, room_id)
        assert room is not None
        assert bodies(room) == ["hi there"]
