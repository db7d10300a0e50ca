from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bridges.matrix.names import Names
from linearized.client import ALGORITHM, ServerUnreachable, Session
from linearized.exceptions import IdentifierError
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOT, World, call, open_world
from tests.bridges.test_live import body_of, by, heard
from tests.client.support import drain, message

NAMES = Names(domain=DOMAIN)
DAN, GHOST = "@dan:a.example", f"@_lin_a.example_dan:{DOMAIN}"


async def clubhouse(world: World, join_rule: str = "public") -> tuple[Session, str, str]:
    """A room of dan's at the provider: dan, its ID, its alias on the homeserver."""
    dan = await world.club.device(world.hub, "dan")
    content = {"encryption": {"algorithm": ALGORITHM}}
    room_id = await dan.api.create_room(creation_content=content, name="Clubhouse")
    await dan.api.send_state(room_id, "m.room.join_rules", "", {"join_rule": join_rule})
    await dan.groups.create(room_id)
    return dan, room_id, NAMES.alias(room_id)


@asynccontextmanager
async def portal(tmp_path: Path) -> AsyncIterator[tuple[World, Session, str, MatrixRoom]]:
    async with open_world(tmp_path) as world:
        dan, room_id, alias = await clubhouse(world)
        assert await world.bridge.portals.answer_query(alias)
        link = world.bridge.links.of_room(room_id)
        assert link is not None
        yield world, dan, room_id, world.homeserver.rooms[link.matrix_room_id]


def test_an_alias_names_a_room_and_nothing_else_does() -> None:
    assert NAMES.alias("!clubhouse:a.example") == f"#_lin_a.example_clubhouse:{DOMAIN}"
    for room_id in ("!clubhouse:a.example", "!Club_House:a.example:8448"):
        assert NAMES.room_of(NAMES.alias(room_id)) == room_id
    for alias in (
        f"#other:{DOMAIN}",
        f"#_lin_:{DOMAIN}",
        f"#_lin_a.example:{DOMAIN}",
        f"#_lin_a.example_=ff:{DOMAIN}",
        "#_lin_a.example_clubhouse:elsewhere.example",
    ):
        with pytest.raises(IdentifierError):
            NAMES.room_of(alias)


async def test_a_homeserver_user_joins_a_room_of_the_provider_by_its_alias(tmp_path: Path) -> None:
    async with portal(tmp_path) as (world, dan, room_id, room):
        state = world.homeserver.state(room)
        assert state["m.room.name", ""]["content"] == {"name": "Clubhouse"}
        assert state["m.room.join_rules", ""]["content"] == {"join_rule": "public"}
        assert room.members[GHOST] == "join"
        world.homeserver.member(room, ALICE, "join")
        world.homeserver.say(room, ALICE, "hello from matrix")
        await world.settle()
        (got,) = await heard(dan)
        assert (got.sender_uri, body_of(got)) == (f"mimi://{DOMAIN}/u/alice", "hello from matrix")
        await drain(dan)
        # Who joined by themselves says as well that their end is a bridge's.
        owners, bridged = dan.device.members(room_id), dan.device.bridged(room_id)
        assert {owner.user_id for leaf, owner in owners.items() if leaf not in bridged} == {DAN}
        assert {owners[leaf].user_id for leaf in bridged} >= {ALICE}
        await dan.send(room_id, message("hello from mimi"))
        await world.settle()
        assert [event["content"]["body"] for event in by(room, GHOST)] == ["hello from mimi"]


async def test_a_room_that_is_bridged_gets_the_alias_and_no_second_room(tmp_path: Path) -> None:
    async with portal(tmp_path) as (world, _, room_id, room):
        rooms = len(world.homeserver.rooms)
        alias = NAMES.alias(room_id)
        room.aliases.clear()
        path = "/_matrix/app/v1/rooms/" + alias.replace("#", "%23")
        assert await call(world.bridge, "GET", path) == 200
        assert await call(world.bridge, "GET", path) == 200
        assert room.aliases == {alias}
        assert len(world.homeserver.rooms) == rooms


@pytest.mark.parametrize(
    "alias",
    [f"#_lin_a.example_nowhere:{DOMAIN}", f"#_lin_b.example_club:{DOMAIN}", "#x:y", f"#_lin_a_=:{DOMAIN}"],
)
async def test_an_alias_of_no_room_of_the_provider_does_not_exist(tmp_path: Path, alias: str) -> None:
    async with open_world(tmp_path) as world:
        assert not await world.bridge.portals.answer_query(alias)
        assert not world.homeserver.rooms
        assert not world.bridge.links.all()


async def test_a_room_the_bot_may_not_join_has_no_portal(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        _, _, alias = await clubhouse(world, "invite")
        assert not await world.bridge.portals.answer_query(alias)
        assert not world.homeserver.rooms


async def test_a_room_without_a_group_has_no_portal(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        dan = await world.club.device(world.hub, "dan")
        room_id = await dan.api.create_room(preset="public_chat")
        assert not await world.bridge.portals.answer_query(NAMES.alias(room_id))
        assert not world.bridge.links.all()


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_lost_request_for_the_room_makes_one_room(tmp_path: Path, moment: str) -> None:
    async with open_world(tmp_path) as world:
        _, _, alias = await clubhouse(world)
        lost: list[str] = []

        def lose(when: str, request: httpx.Request) -> None:
            if when == moment and request.url.path.endswith("createRoom") and not lost:
                lost.append(when)
                raise httpx.ReadError("lost")

        world.homeserver.fault = lose
        assert await world.bridge.portals.answer_query(alias)
        assert lost == [moment]
        (room,) = world.homeserver.rooms.values()
        assert room.members[BOT] == "join"
        assert world.bridge.links.of_matrix(room.room_id) is not None


async def test_without_a_room_there_is_no_link(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        _, _, alias = await clubhouse(world)

        def lose(when: str, request: httpx.Request) -> None:
            if when == "before" and request.url.path.endswith("createRoom"):
                raise httpx.ReadError("lost")

        world.homeserver.fault = lose
        with pytest.raises(ServerUnreachable):
            await world.bridge.portals.answer_query(alias)
        assert not world.bridge.links.all()
