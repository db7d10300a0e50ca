"""Ghosts that are invited into rooms that are not bridged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, GHOST_BOB, World, bob_of_b, open_world
from tests.bridges.test_live import body_of, by, heard
from tests.client.support import drain, message

CHAT = f"!chat:{DOMAIN}"
GHOST_EVE = f"@_lin_b.example_eve:{DOMAIN}"
STRANGER = "@zoe:elsewhere.example"


def chat(world: World, *, creator: str = ALICE, power: int = 100) -> MatrixRoom:
    """A room as clients make one for a direct chat: who is invited has the power of who invites."""
    room = world.homeserver.create(CHAT, creator)
    room.public = False
    levels = {"users": {creator: power, GHOST_BOB: power}, "users_default": 0, "invite": 0}
    world.homeserver.emit(room, creator, "m.room.power_levels", levels, state_key="", push=False)
    return room


def invite(world: World, room: MatrixRoom, ghost: str = GHOST_BOB, sender: str = ALICE) -> None:
    world.homeserver.member(room, ghost, "invite", sender=sender, is_direct=True)


@asynccontextmanager
async def chatting(tmp_path: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session]]:
    """Alice invited the ghost of bob of b.example into a direct chat."""
    async with open_world(tmp_path) as world:
        bob, room = await bob_of_b(world), chat(world)
        invite(world, room)
        await world.settle()
        await arrives(bob, room_of(world))
        yield world, room, bob


def room_of(world: World) -> str:
    link = world.bridge.links.of_matrix(CHAT)
    assert link is not None
    assert link.room_id is not None
    return link.room_id


async def arrives(session: Session, room_id: str) -> None:
    with trio.fail_after(30):
        while not session.device.in_group(room_id):
            await session.step(1000)
    await drain(session)


def left(world: World, room: MatrixRoom, ghost: str = GHOST_BOB) -> Any:
    content = world.homeserver.state(room)["m.room.member", ghost]["content"]
    assert content["membership"] == "leave"
    return content["reason"]


async def test_a_direct_chat_with_a_ghost_is_one_with_the_person(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (world, room, bob):
        assert (room.members[GHOST_BOB], room.members[BOT]) == ("join", "join")
        # The bot has the power that the ghost was given.
        levels = world.homeserver.state(room)["m.room.power_levels", ""]["content"]
        assert levels["users"] == {ALICE: 100, GHOST_BOB: 100, BOT: 100}
        assert levels["invite"] == 0
        world.homeserver.say(room, ALICE, "hello bob")
        await world.settle()
        (got,) = await heard(bob)
        assert (got.sender_uri, body_of(got)) == (f"mimi://{DOMAIN}/u/alice", "hello bob")
        await bob.send(room_of(world), message("hello alice"))
        await world.settle()
        assert [event["content"]["body"] for event in by(room, GHOST_BOB)] == ["hello alice"]


async def test_the_bot_gets_none_from_a_ghost_that_has_none(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await bob_of_b(world)
        room = world.homeserver.create(CHAT, ALICE)
        invite(world, room)
        await world.settle()
        assert room.members[BOT] == "join"
        assert world.homeserver.state(room)["m.room.power_levels", ""]["sender"] == ALICE


async def test_guests_invited_before_the_room_was_bridged_come_into_one_room(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        other, room = await world.club.server("b.example"), chat(world)
        bob, eve = [await world.club.device(other, name) for name in ("bob", "eve")]
        for ghost in (GHOST_BOB, GHOST_EVE):
            invite(world, room, ghost)
        await world.settle()
        for session, ghost in ((bob, GHOST_BOB), (eve, GHOST_EVE)):
            await arrives(session, room_of(world))
            assert room.members[ghost] == "join"
        assert len(world.bridge.links.all()) == 1


async def test_a_guest_who_cannot_be_added_does_not_stay_and_it_is_said_why(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await bob_of_b(world)
        room = chat(world)
        invite(world, room, GHOST_EVE)  # there is no eve
        await world.settle()
        reason = left(world, room, GHOST_EVE)
        assert reason.startswith("@eve:b.example could not be added: ")
        assert [event["content"]["body"] for event in by(room, BOT)] == [reason]


async def test_a_bridge_killed_after_it_began_brings_the_guest_in_all_the_same(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        bob, room = await bob_of_b(world), chat(world)
        invite(world, room)
        await world.push()
        incoming = await world.bridge.upcoming()
        assert incoming is not None
        await world.bridge.dispatch(incoming, world.bridge.begin)
        await world.restart()
        await world.bridge.import_room(CHAT)
        await world.settle()
        await arrives(bob, room_of(world))
        assert room.members[GHOST_BOB] == "join"


async def test_who_left_the_group_is_not_brought_back_by_an_import(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        dan, room, ghost = (
            await world.club.device(world.hub, "dan"),
            chat(world),
            f"@_lin_a.example_dan:{DOMAIN}",
        )
        invite(world, room, ghost)
        await world.settle()
        await arrives(dan, room_of(world))
        await dan.api.leave(room_of(world))
        await world.settle()
        assert room.members[ghost] == "leave"
        world.homeserver.member(room, ghost, "join", push=False)
        link = world.bridge.links.of_matrix(CHAT)
        assert link is not None
        await world.bridge.guests.bring(link)
        assert left(world, room, ghost) == "@dan:a.example could not be added: they had left"
        members = world.bridge.puppets.bot.device.members(room_of(world)).values()
        assert "@dan:a.example" not in {owner.user_id for owner in members}


async def test_whoever_may_not_bridge_a_room_cannot_do_it_by_a_ghost(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await bob_of_b(world)
        room = chat(world)
        world.homeserver.member(room, BOB, "join")
        invite(world, room, sender=BOB)
        await world.settle()
        assert left(world, room) == f"Somebody who may change power levels has to invite {BOT} first."
        assert BOT not in room.members
        assert not world.bridge.links.all()


async def test_a_stranger_cannot_talk_to_people_at_providers_through_us(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await bob_of_b(world)
        room = chat(world, creator=STRANGER)
        invite(world, room, sender=STRANGER)
        await world.settle()
        assert left(world, room) == f"Only users of {DOMAIN} can invite me."
        assert not world.bridge.links.all()


async def test_where_invitations_bridge_nothing_a_ghost_does_not_come(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        guests = world.bridge.guests
        guests._config = replace(guests._config, bridge_invited_rooms=False)
        room = chat(world)
        invite(world, room)
        await world.settle()
        assert left(world, room) == "Rooms are not bridged by invitations here."
        assert not world.bridge.links.all()


async def test_a_ghost_that_may_not_invite_the_bot_says_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = chat(world)
        room.forbidden.add((GHOST_BOB, "invite"))
        invite(world, room)
        await world.settle()
        assert left(world, room) == f"I may not invite {BOT}; invite it first."
        assert not world.bridge.links.all()


@pytest.mark.parametrize("membership", ["leave", "ban", "knock"])
async def test_what_else_happens_to_a_ghost_in_a_room_that_is_not_bridged_is_nothing(
    tmp_path: Path, membership: str
) -> None:
    async with open_world(tmp_path) as world:
        room = chat(world)
        world.homeserver.member(room, GHOST_BOB, membership, sender=ALICE)
        await world.settle()
        assert BOT not in room.members
        assert not world.bridge.links.all()


async def test_a_name_of_nobody_is_no_guest(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room, nobody = chat(world), f"@_lin_b.example:{DOMAIN}"
        invite(world, room, nobody)
        await world.settle()
        assert nobody not in world.homeserver.users
        assert not world.bridge.links.all()
