from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridges.matrix.commands import HELP, MAX_COMMAND, PREFIX, Command, parse
from bridges.matrix.links import Phase
from bridges.matrix.queue import Incoming
from bridges.matrix.status import bridged_rooms
from linearized.exceptions import ConfigError
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import (
    ALICE,
    BOB,
    BOT,
    CAROL,
    GHOST_BOB,
    MATRIX_ROOM,
    World,
    bob_of_b,
    open_world,
)
from tests.bridges.test_import import history
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message

DIRECT = f"!direct:{DOMAIN}"


def incoming(content: Any, **event: Any) -> Incoming:
    value = {"type": "m.room.message", "sender": ALICE, "content": content, **event}
    return Incoming(position=1, room_id=MATRIX_ROOM, event_id="$e", event=value)


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


@pytest.mark.parametrize(
    ("body", "direct", "verb", "arguments"),
    [
        ("!mimi", False, "help", ()),
        ("!mimi HELP", False, "help", ()),
        ("  !mimi   invite  mimi://b.example/u/bob ", False, "invite", ("mimi://b.example/u/bob",)),
        ("status", True, "status", ()),
        ("!mimi status", True, "status", ()),
    ],
)
def test_a_command_is_its_words(body: str, direct: bool, verb: str, arguments: tuple[str, ...]) -> None:
    command = Command(sender=ALICE, room_id=MATRIX_ROOM, event_id="$e", verb=verb, arguments=arguments)
    assert parse(incoming(text(body)), direct=direct) == command


@pytest.mark.parametrize(
    "event",
    [
        incoming(text("status")),
        incoming(text("!mimify the world")),
        incoming(text("")),
        incoming({"msgtype": "m.notice", "body": "!mimi help"}),
        incoming({"msgtype": "m.text", "body": 7}),
        incoming("no object"),
        incoming(text("!mimi help", **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}})),
        incoming(text(f"!mimi {'x' * MAX_COMMAND}")),
        incoming(text("!mimi help"), type="m.room.encrypted"),
        incoming(text("!mimi help"), state_key=""),
    ],
)
def test_what_is_no_command_is_none(event: Incoming) -> None:
    assert parse(event, direct=False) is None


def answers(room: MatrixRoom) -> list[str]:
    return [event["content"]["body"] for event in by(room, BOT)]


async def tell(world: World, room: MatrixRoom, sender: str, body: str) -> str:
    """Say a command; returns the answer."""
    before = len(answers(room))
    world.homeserver.say(room, sender, body)
    await world.settle()
    (answer,) = answers(room)[before:]
    return answer


def direct_room(world: World, person: str = ALICE) -> MatrixRoom:
    room = world.homeserver.create(DIRECT, person)
    content = {"membership": "invite", "is_direct": True}
    world.homeserver.emit(room, person, "m.room.member", content, state_key=BOT)
    return room


async def test_in_a_direct_chat_the_bot_joins_explains_itself_and_bridges_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = direct_room(world)
        await world.settle()
        assert room.members[BOT] == "join"
        assert answers(room) == [HELP]
        assert world.bridge.links.of_matrix(DIRECT) is None
        assert await tell(world, room, ALICE, "help") == HELP
        assert await tell(world, room, ALICE, f"{PREFIX} help") == HELP
        assert "There is no such command" in await tell(world, room, ALICE, "dance")
        assert "not bridged" in await tell(world, room, ALICE, "status")


async def test_an_invitation_by_somebody_without_power_bridges_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        world.homeserver.member(room, BOT, "invite", sender=BOB)
        await world.settle()
        assert world.bridge.links.of_matrix(MATRIX_ROOM) is None
        assert f"has to say {PREFIX} bridge" in answers(room)[0]
        assert "takes the power" in await tell(world, room, BOB, f"{PREFIX} bridge")
        assert world.bridge.links.of_matrix(MATRIX_ROOM) is None
        # Somebody who has it says so.
        assert "Importing" in await tell(world, room, ALICE, f"{PREFIX} bridge")
        link = world.bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        assert link.phase is Phase.LIVE
        assert await tell(world, room, ALICE, f"{PREFIX} bridge") == "The room is bridged already."


async def test_bridging_by_invitation_can_be_switched_off(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.bridge._dispatching._config = replace(world.bridge.config, bridge_invited_rooms=False)
        room = history(world.homeserver, 1)
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        await world.settle()
        assert answers(room) == [HELP]
        assert world.bridge.links.of_matrix(MATRIX_ROOM) is None


async def test_a_command_is_not_carried_across_and_a_text_like_one_is(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        assert await tell(world, room, CAROL, f"{PREFIX} help") == HELP
        world.homeserver.say(room, CAROL, "help")
        await world.settle()
        (got,) = await heard(bob)
        assert body_of(got) == "help"
        # What the bot says is not for the other side either, and a ghost commands nothing.
        await bob.send(world.room_id(), message(f"{PREFIX} unbridge"))
        await world.settle()
        assert world.bridge.links.of_matrix(MATRIX_ROOM) is not None
        assert answers(room) == [HELP]


async def test_a_room_is_named_by_its_id_or_alias(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        room.aliases.add("#old:matrix.example")
        chat = direct_room(world, CAROL)
        await world.settle()
        for name in (MATRIX_ROOM, "#old:matrix.example"):
            answer = await tell(world, chat, CAROL, f"status {name}")
            assert answer.startswith(f"{MATRIX_ROOM} is {world.room_id()} at the provider: live\nimported: ")
        assert "There is no room #gone" in await tell(world, chat, CAROL, "status #gone:matrix.example")
        assert "neither a room ID nor an alias" in await tell(world, chat, CAROL, "status old")
        assert "I am not in !far:x" in await tell(world, chat, CAROL, "status !far:x")
        assert "I do not understand 'now'" in await tell(world, chat, CAROL, f"status {MATRIX_ROOM} now")
        assert await tell(world, chat, CAROL, f"unbridge {DIRECT}") == f"{DIRECT} is not bridged."


async def test_only_who_is_in_a_room_learns_of_it_and_operators_do(tmp_path: Path) -> None:
    dave = f"@dave:{DOMAIN}"
    async with talking(tmp_path) as (world, _, _bob):
        chat = direct_room(world, dave)
        await world.settle()
        assert await tell(world, chat, dave, f"status {MATRIX_ROOM}") == f"You are not in {MATRIX_ROOM}."
        assert await tell(world, chat, dave, f"unbridge {MATRIX_ROOM}") == f"You are not in {MATRIX_ROOM}."


async def test_an_operator_needs_no_power_in_the_room(tmp_path: Path) -> None:
    async with open_world(tmp_path, operators=frozenset({CAROL})) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        chat = direct_room(world, CAROL)
        await world.settle()
        assert await tell(world, chat, CAROL, "status") == f"1 rooms:\n{MATRIX_ROOM}: live"
        assert "no longer bridged" in await tell(world, chat, CAROL, f"unbridge {MATRIX_ROOM}")
        assert "I am not in" in await tell(world, chat, CAROL, f"unbridge {MATRIX_ROOM}")


async def test_somebody_is_invited_by_their_uri(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        bob = await bob_of_b(world)
        uri = "mimi://b.example/u/bob"
        assert await tell(world, room, ALICE, f"{PREFIX} invite {uri}") == "@bob:b.example is in the room."
        assert room.members[GHOST_BOB] == "join"
        await bob.step(5000)
        await drain(bob)
        assert bob.device.in_group(world.room_id())
        assert "could not be added" in await tell(
            world, room, ALICE, f"{PREFIX} invite mimi://b.example/u/nobody"
        )
        assert "is no user's URI" in await tell(world, room, ALICE, f"{PREFIX} invite bob")
        assert "Whom?" in await tell(world, room, ALICE, f"{PREFIX} invite")
        own = f"{PREFIX} invite mimi://{DOMAIN}/u/carol"
        assert "invite them in Matrix" in await tell(world, room, ALICE, own)


async def test_inviting_takes_the_power_to_invite(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        levels = {"users": {ALICE: 100}, "invite": 50}
        world.homeserver.emit(room, ALICE, "m.room.power_levels", levels, state_key="")
        answer = await tell(world, room, CAROL, f"{PREFIX} invite mimi://b.example/u/bob")
        assert answer == "You may not invite people here."


async def test_unbridging_leaves_both_sides_usable_and_the_room_can_be_bridged_again(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        old = world.room_id()
        dan = await world.club.device(world.hub, "dan")
        await tell(world, room, ALICE, f"{PREFIX} invite mimi://a.example/u/dan")
        await drain(dan)
        assert "takes the power" in await tell(world, room, CAROL, f"{PREFIX} unbridge")
        world.homeserver.say(room, ALICE, f"{PREFIX} unbridge")
        await world.settle()
        # In Matrix: the ghost and the bot are gone, everybody else is there.
        assert room.members[GHOST_BOB] == room.members[BOT] == "leave"
        assert {room.members[user] for user in (ALICE, BOB, CAROL)} == {"join"}
        assert answers(room)[-1] == f"{ALICE} ends the bridging of this room."
        # At the providers: they are told, decide about the room, and can go on in it.
        (farewell,) = await heard(dan)
        assert "no longer bridged" in body_of(farewell)
        await dan.catch_up()
        await drain(dan)
        state = await dan.api.state(old)
        members = {e["state_key"]: e["content"]["membership"] for e in state if e["type"] == "m.room.member"}
        assert sorted(user for user, membership in members.items() if membership == "join") == [
            "@bob:b.example",
            "@dan:a.example",
        ]
        (levels,) = [e["content"]["users"] for e in state if e["type"] == "m.room.power_levels"]
        assert levels["@bob:b.example"] == 100
        await dan.groups.update_keys(old)
        inside = {owner.user_id for owner in dan.device.members(old).values()}
        assert inside == {"@bob:b.example", "@dan:a.example"}
        await dan.send(old, message("still here"))
        assert "still here" in [body_of(item) for item in await heard(bob, 2)]
        assert world.bridge.links.all() == []
        # And again: the invitation makes a new room of it.
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        await world.settle()
        assert world.room_id() != old


async def test_unbridging_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, _):
        link = world.bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        # The bot was thrown out of the Matrix room meanwhile.
        world.homeserver.member(room, BOT, "leave", sender=ALICE)
        await world.bridge.unbridging.run(link)
        world.bridge.links.begin(MATRIX_ROOM)
        await world.bridge.unbridging.run(link)
        assert world.bridge.links.of_matrix(MATRIX_ROOM) is None


async def test_while_a_room_is_imported_it_is_neither_bridged_nor_unbridged(tmp_path: Path) -> None:
    async with open_world(tmp_path, operators=frozenset({ALICE})) as world:
        room = history(world.homeserver, 1)
        world.homeserver.member(room, BOT, "join", push=False)
        chat = direct_room(world)
        await world.settle()
        world.bridge.links.begin(MATRIX_ROOM)
        world.bridge.importing.add(MATRIX_ROOM)
        assert await tell(world, chat, ALICE, f"bridge {MATRIX_ROOM}") == "The import is under way."
        assert "unbridge the room when it is done" in await tell(
            world, chat, ALICE, f"unbridge {MATRIX_ROOM}"
        )
        uri = "mimi://b.example/u/bob"
        assert "still under way" in await tell(world, chat, ALICE, f"invite {uri} {MATRIX_ROOM}")
        # One that failed is begun again.
        world.bridge.importing.clear()
        assert "Importing" in await tell(world, chat, ALICE, f"bridge {MATRIX_ROOM}")
        assert world.room_id()


async def test_a_command_waits_for_the_homeserver(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        failures = [503]

        def fault(when: str, request: httpx.Request) -> None:
            if when == "before" and "/send/" in request.url.path and failures:
                failures.pop()
                raise httpx.ConnectError("away")

        world.homeserver.fault = fault
        assert await tell(world, room, ALICE, f"{PREFIX} help") == HELP


async def test_the_status_is_read_beside_the_running_bridge(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.import_room(history(world.homeserver, 3))
        (status,) = bridged_rooms(world.bridge.config)
        assert (status.matrix_room_id, status.room_id, status.phase) == (MATRIX_ROOM, world.room_id(), "live")
        assert status.imported > 3


async def test_a_name_that_no_room_has_is_the_operators_mistake(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        with pytest.raises(ConfigError, match="There is no room #x:y"):
            await world.bridge.find_room("#x:y")
