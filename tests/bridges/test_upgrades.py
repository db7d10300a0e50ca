"""Matrix rooms that others replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridges.matrix.audit import Audits
from bridges.matrix.message_map import Messages
from bridges.matrix.upgrades import TOMBSTONE
from linearized.client import Session
from linearized.mimi.content import edit, reply
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, CAROL, GHOST_BOB, MATRIX_ROOM, World
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message

NEW = f"!new:{DOMAIN}"
OTHER = f"!other:{DOMAIN}"


def successor(world: World, *, predecessor: Any = MATRIX_ROOM, public: bool = True) -> MatrixRoom:
    """A room that says which one it comes from. Carol has not come along yet."""
    room = world.homeserver.create(NEW, ALICE)
    room.public = public
    create = {"room_version": "11", "predecessor": {"room_id": predecessor}}
    world.homeserver.emit(room, ALICE, "m.room.create", create, state_key="", push=False)
    world.homeserver.member(room, BOB, "join", push=False)
    return room


def end(world: World, room: MatrixRoom, new: Any = NEW) -> None:
    """The old room is replaced; nobody without power may speak there any more."""
    content = {"body": "replaced", "replacement_room": new}
    world.homeserver.emit(room, ALICE, TOMBSTONE, content, state_key="")
    room.forbidden |= {(user, "m.room.message") for user in (BOT, GHOST_BOB)}


async def settle(world: World) -> None:
    """As a bridge that runs: it puts things right, and reads again what it was not pushed."""
    await world.settle()
    await world.bridge.restored.mend()
    for link in world.bridge.links.all():
        await Audits(world.bridge.homeserver, world.bridge.queue).run(link)
    await world.settle()


def people(world: World, room_id: str) -> set[str]:
    return {owner.user_id for owner in world.bridge.puppets.bot.device.members(room_id).values()}


def bodies(room: MatrixRoom, sender: str) -> list[str]:
    return [event["content"]["body"] for event in by(room, sender)]


def room_of(world: World, matrix_room_id: str = NEW) -> str | None:
    link = world.bridge.links.of_matrix(matrix_room_id)
    return None if link is None else link.room_id


async def talk(world: World, room: MatrixRoom, bob: Session, room_id: str) -> None:
    """Both sides hear each other in the new room."""
    world.homeserver.say(room, ALICE, "here we are")
    await world.settle()
    assert "here we are" in [body_of(item) for item in await heard(bob)]
    await bob.send(room_id, message("so am I"))
    await world.settle()
    assert bodies(room, GHOST_BOB)[-1] == "so am I"


async def test_the_bridging_of_a_room_goes_on_in_the_one_that_replaces_it(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, bob):
        room_id, new = world.room_id(), successor(world)
        world.homeserver.say(new, ALICE, "said before the bot came", push=False)
        end(world, old)
        await settle(world)
        assert (room_of(world), room_of(world, MATRIX_ROOM)) == (room_id, None)
        assert (new.members[BOT], new.members[GHOST_BOB]) == ("join", "join")
        assert bodies(new, BOT) == [f"The bridging of {MATRIX_ROOM} goes on here."]
        (early,) = await heard(bob)
        assert body_of(early) == "said before the bot came"
        # Who is in the new room is in the group, and who comes later comes in then.
        assert people(world, room_id) & {ALICE, BOB, CAROL} == {ALICE, BOB}
        world.homeserver.member(new, CAROL, "join")
        await world.settle()
        assert CAROL in people(world, room_id)
        await talk(world, new, bob, room_id)


async def test_a_room_that_the_bot_cannot_enter_is_followed_once_it_is_invited(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, bob):
        room_id, new = world.room_id(), successor(world, public=False)
        end(world, old)
        await settle(world)
        assert room_of(world, MATRIX_ROOM) == room_id
        await bob.send(room_id, message("said between the rooms"))
        await settle(world)
        assert bodies(old, GHOST_BOB) == []
        world.homeserver.member(new, BOT, "invite", sender=ALICE)
        await settle(world)
        assert (room_of(world), room_of(world, MATRIX_ROOM)) == (room_id, None)
        # What nobody could say in the old room is said in the new one, once.
        assert bodies(new, GHOST_BOB) == ["said between the rooms"]
        await talk(world, new, bob, room_id)
        assert bodies(new, GHOST_BOB) == ["said between the rooms", "so am I"]


async def test_it_is_said_in_the_old_room_that_the_bot_has_to_be_invited(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, _):
        successor(world, public=False)
        world.homeserver.emit(old, ALICE, TOMBSTONE, {"replacement_room": NEW}, state_key="")
        await world.settle()
        assert (
            bodies(old, BOT)[-1]
            == f"This room is replaced by {NEW}. Invite {BOT} there, and the bridging goes on."
        )


async def test_nobody_takes_over_a_bridge_by_saying_where_their_room_comes_from(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, _):
        room_id = world.room_id()
        successor(world)
        world.homeserver.member(world.homeserver.rooms[NEW], BOT, "invite", sender=ALICE)
        await world.settle()
        assert room_of(world, MATRIX_ROOM) == room_id
        assert room_of(world, NEW) not in (room_id, None)
        # Nor is one that is bridged already.
        end(world, old)
        await settle(world)
        assert room_of(world, MATRIX_ROOM) == room_id


@pytest.mark.parametrize("predecessor", [OTHER, 7])
async def test_a_room_that_does_not_come_from_the_old_one_is_left_alone(
    tmp_path: Path, predecessor: Any
) -> None:
    async with talking(tmp_path) as (world, old, _):
        room_id, new = world.room_id(), successor(world, predecessor=predecessor)
        end(world, old)
        await settle(world)
        assert room_of(world, MATRIX_ROOM) == room_id
        assert new.members[BOT] == "leave"


@pytest.mark.parametrize("named", [7, "no room"])
async def test_a_room_that_is_replaced_by_nothing_stays_bridged(tmp_path: Path, named: Any) -> None:
    async with talking(tmp_path) as (world, old, _):
        end(world, old, named)
        await settle(world)
        assert [link.matrix_room_id for link in world.bridge.links.all()] == [MATRIX_ROOM]


async def test_what_was_said_in_the_old_room_is_nothing_the_new_one_can_refer_to(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, bob):
        room_id, new = world.room_id(), successor(world)
        first = message("the first")
        await bob.send(room_id, first)
        await world.settle()
        end(world, old)
        await settle(world)
        await drain(bob)
        own = bob.message_id(room_id, first)
        await bob.send(room_id, edit(own, "the first, mended", salt=b"e" * 16))
        await bob.send(room_id, reply(own, "an answer", salt=b"r" * 16))
        await world.settle()
        assert bodies(new, GHOST_BOB) == ["the first, mended", "an answer"]
        assert all("m.relates_to" not in event["content"] for event in by(new, GHOST_BOB))


async def test_unbridging_leaves_the_rooms_that_were_replaced_as_well(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, old, bob):
        room_id, new = world.room_id(), successor(world)
        said = message("in the old room")
        await bob.send(room_id, said)
        await world.settle()
        end(world, old)
        await settle(world)
        known = Messages(world.bridge.unbridging._database)
        assert known.by_message(bob.message_id(room_id, said)) is not None
        link = world.bridge.links.of_matrix(NEW)
        assert link is not None
        assert world.bridge.links.line(NEW) == [NEW, MATRIX_ROOM]
        await world.bridge.unbridging.run(link)
        for room in (old, new):
            assert (room.members[BOT], room.members[GHOST_BOB]) == ("leave", "leave")
        assert world.bridge.links.line(NEW) == [NEW]
        assert known.by_message(bob.message_id(room_id, said)) is None
