from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridges.matrix import shared_state
from bridges.matrix.runner import Bridge
from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, CAROL, MATRIX_ROOM, World, open_world
from tests.bridges.test_import import history
from tests.bridges.test_live import by
from tests.client.support import drain

DAN = "@dan:a.example"
GHOST = f"@_lin_a.example_dan:{DOMAIN}"
BRIDGE = "@_bridge:a.example"


@asynccontextmanager
async def shared(tmp_path: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session]]:
    """A bridged room in which alice invited dan, a user of the provider."""
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 3)
        await world.import_room(room)
        dan = await world.club.device(world.hub, "dan")
        world.homeserver.member(room, GHOST, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(GHOST)
        await world.settle()
        await drain(dan)
        yield world, room, dan


async def here(world: World, kind: str) -> Any:
    """What stands at the provider."""
    event = await world.bridge.puppets.bot.api.state_event(world.room_id(), kind)
    return event["content"]


def there(world: World, room: MatrixRoom, kind: str) -> Any:
    """What stands in Matrix."""
    return world.homeserver.state(room)[kind, ""]["content"]


def levels(**users: int) -> dict[str, Any]:
    known = {"alice": ALICE, "bob": BOB, "carol": CAROL, "ghost": GHOST, "bot": BOT}
    named = {known[name]: level for name, level in users.items()}
    return {"users": named, "events_default": 0, "state_default": 50}


async def promote(world: World, room: MatrixRoom, dan: Session) -> None:
    """Give dan, by his ghost, the power to do everything."""
    content = levels(alice=100, bot=100, ghost=100)
    world.homeserver.emit(room, ALICE, "m.room.power_levels", content, state_key="")
    await world.settle()
    await dan.step(1000)
    await drain(dan)


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("m.room.name", {"name": "one"}, {"name": "two"}),
        ("m.room.topic", {"topic": "one"}, {"topic": "two"}),
        ("m.room.join_rules", {"join_rule": "invite"}, {"join_rule": "knock"}),
        ("m.room.history_visibility", {"history_visibility": "joined"}, {"history_visibility": "shared"}),
        ("m.room.guest_access", {"guest_access": "forbidden"}, {"guest_access": "can_join"}),
    ],
)
async def test_a_change_of_state_arrives_once_on_the_other_side(
    tmp_path: Path, kind: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        world.homeserver.emit(room, ALICE, kind, first, state_key="")
        await world.settle()
        assert await here(world, kind) == first
        assert not by(room, BOT, kind)
        await dan.api.send_state(world.room_id(), kind, "", second)
        await world.settle()
        assert there(world, room, kind) == second
        await world.settle()
        assert len(by(room, BOT, kind)) == 1
        assert await here(world, kind) == second


async def test_power_levels_name_the_users_of_each_side_and_move_roles(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        eve = "@eve:elsewhere.example"
        content = levels(alice=100, bot=100, ghost=100, carol=50)
        content["users"][eve] = 50
        world.homeserver.emit(room, ALICE, "m.room.power_levels", content, state_key="")
        await world.settle()
        wanted = {ALICE: 100, CAROL: 50, DAN: 100, BRIDGE: 100}
        assert (await here(world, "m.room.power_levels"))["users"] == wanted
        listed = world.bridge.puppets.bot.device.participants(world.room_id())
        assert listed.role_of("mimi://a.example/u/dan") == 2
        assert listed.role_of("mimi://matrix.example/u/carol") == 1

        await dan.step(1000)
        await drain(dan)
        new = {**content, "users": {**wanted, CAROL: 60}}
        await dan.api.send_state(world.room_id(), "m.room.power_levels", "", new)
        await world.settle()
        users = there(world, room, "m.room.power_levels")["users"]
        assert users == {ALICE: 100, CAROL: 60, GHOST: 100, BOT: 100, eve: 50}


async def test_a_picture_of_the_room_is_copied_once_and_back_to_the_original(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        url = world.homeserver.upload(b"a picture", "image/png")
        world.homeserver.emit(room, ALICE, "m.room.avatar", {"url": url}, state_key="")
        await world.settle()
        copy = (await here(world, "m.room.avatar"))["url"]
        assert copy.startswith("mxc://a.example/")
        other = await dan.api.upload_media(b"another", content_type="image/png")
        await dan.api.send_state(world.room_id(), "m.room.avatar", "", {"url": other})
        await world.settle()
        new = there(world, room, "m.room.avatar")["url"]
        assert world.homeserver.media[new.rpartition("/")[2]][0] == b"another"
        # The first one again, each way: no side gets a copy of a copy.
        await dan.api.send_state(world.room_id(), "m.room.avatar", "", {"url": copy})
        await world.settle()
        assert there(world, room, "m.room.avatar") == {"url": url}
        world.homeserver.emit(room, ALICE, "m.room.avatar", {"url": new}, state_key="")
        await world.settle()
        assert await here(world, "m.room.avatar") == {"url": other}
        # None at all.
        world.homeserver.emit(room, ALICE, "m.room.avatar", {}, state_key="")
        await world.settle()
        assert await here(world, "m.room.avatar") == {}


async def test_rules_that_name_rooms_name_bridged_ones_or_become_stricter(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        unknown = {"type": "m.room_membership", "room_id": "!unknown:matrix.example"}
        known = {"type": "m.room_membership", "room_id": MATRIX_ROOM}
        for rule, allow, wanted in (
            ("restricted", [unknown], {"join_rule": "invite"}),
            ("knock_restricted", "nonsense", {"join_rule": "knock"}),
            (
                "restricted",
                [unknown, known, "nonsense"],
                {
                    "join_rule": "restricted",
                    "allow": [{"type": "m.room_membership", "room_id": world.room_id()}],
                },
            ),
        ):
            content = {"join_rule": rule, "allow": allow}
            world.homeserver.emit(room, ALICE, "m.room.join_rules", content, state_key="")
            await world.settle()
            assert await here(world, "m.room.join_rules") == wanted
        await dan.api.send_state(world.room_id(), "m.room.join_rules", "", {"join_rule": "invite"})
        await world.settle()
        content = {
            "join_rule": "restricted",
            "allow": [
                {"type": "m.room_membership", "room_id": world.room_id()},
                {"type": "m.room_membership", "room_id": "!other:b.example"},
            ],
        }
        await dan.api.send_state(world.room_id(), "m.room.join_rules", "", content)
        await world.settle()
        assert there(world, room, "m.room.join_rules") == {"join_rule": "restricted", "allow": [known]}


async def test_pins_name_the_messages_of_each_side(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        said = world.homeserver.say(room, ALICE, "remember this")
        pins = {"pinned": [said, "$unknown"]}
        world.homeserver.emit(room, ALICE, "m.room.pinned_events", pins, state_key="")
        await world.settle()
        (pinned,) = (await here(world, "m.room.pinned_events"))["pinned"]
        assert pinned not in (said, "$unknown")
        await dan.api.send_state(world.room_id(), "m.room.pinned_events", "", {"pinned": []})
        await world.settle()
        assert there(world, room, "m.room.pinned_events") == {"pinned": []}
        await dan.api.send_state(world.room_id(), "m.room.pinned_events", "", {"pinned": [pinned]})
        await world.settle()
        assert there(world, room, "m.room.pinned_events") == {"pinned": [said]}


async def test_what_the_provider_refuses_is_set_back_in_matrix_and_said(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        # Carol may in Matrix, by a level that came without an event; the log does not know of it.
        world.homeserver.emit(room, CAROL, "m.room.topic", {"topic": "carol's"}, state_key="")
        await world.settle()
        assert there(world, room, "m.room.topic") == {"topic": "the old days"}
        assert await here(world, "m.room.topic") == {"topic": "the old days"}
        notice = by(room, BOT)[-1]["content"]["body"]
        assert notice.startswith(f"The provider does not take this change of m.room.topic ({CAROL}: ")
        assert notice.endswith("I have set it back.")
        room.forbidden.add((BOT, "m.room.topic"))
        world.homeserver.emit(room, CAROL, "m.room.topic", {"topic": "again"}, state_key="")
        await world.settle()
        assert by(room, BOT)[-1]["content"]["body"].endswith("the two sides differ.")


async def test_what_the_homeserver_refuses_is_set_back_at_the_provider_and_said(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        room.forbidden.add((BOT, "m.room.name"))
        await dan.api.send_state(world.room_id(), "m.room.name", "", {"name": "bob's"})
        await world.settle()
        assert await here(world, "m.room.name") == {}
        assert ("m.room.name", "") not in world.homeserver.state(room)
        notice = by(room, BOT)[-1]["content"]["body"]
        assert f"({DAN}: " in notice
        assert notice.endswith("I have set it back.")


@pytest.mark.parametrize("url", ["https://evil.example/x", "mxc://a.example/../x", 7])
async def test_a_picture_that_is_no_file_of_a_server_is_fetched_from_nowhere(
    tmp_path: Path, url: object
) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        await dan.api.send_state(world.room_id(), "m.room.avatar", "", {"url": url})
        world.homeserver.requests.clear()
        await world.settle()
        assert not [one for one in world.homeserver.requests if "upload" in one]
        assert ("m.room.avatar", "") not in world.homeserver.state(room)
        assert "the picture is no file of a server" in by(room, BOT)[-1]["content"]["body"]
        assert await here(world, "m.room.avatar") == {}


async def test_changes_on_both_sides_at_once_end_with_the_same_on_both(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        for number in range(3):
            world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": f"alice {number}"}, state_key="")
            await dan.api.send_state(world.room_id(), "m.room.topic", "", {"topic": f"bob {number}"})
            await world.settle()
            assert there(world, room, "m.room.topic") == await here(world, "m.room.topic")
        # In the other order: the log's change is carried while the Matrix one still waits.
        await dan.api.send_state(world.room_id(), "m.room.topic", "", {"topic": "bob"})
        bot = world.bridge.puppets.bot
        await bot.step(50)
        world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": "alice"}, state_key="")
        for item in list(bot.device.state.inbox):
            await world.bridge.inbound.handle(item)
            bot.device.acknowledge(item)
        await world.settle()
        assert there(world, room, "m.room.topic") == await here(world, "m.room.topic") == {"topic": "bob"}


async def test_of_several_changes_that_waited_the_last_one_is_carried(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        for number in range(3):
            world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": str(number)}, state_key="")
        await world.settle()
        page = await world.bridge.puppets.bot.api.log(world.room_id(), after=0, limit=500)
        topics = [pdu["content"]["topic"] for pdu in page.pdus if pdu["type"] == "m.room.topic"]
        assert topics == ["the old days", "2"]


async def _audited(bridge: Bridge) -> None:
    link = bridge.links.of_matrix(MATRIX_ROOM)
    assert link is not None
    await bridge.shared.align(link)


async def test_the_bridge_steps_aside_from_a_fight_and_makes_the_sides_the_same_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_state, "FIGHT_CHANGES", 4)
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        for number in range(6):
            # A program on each side that insists on its topic.
            await dan.api.send_state(world.room_id(), "m.room.topic", "", {"topic": f"log {number}"})
            await world.settle()
            world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": f"matrix {number}"}, state_key="")
            await world.settle()
        assert len(by(room, BOT, "m.room.topic")) == 2
        said = [event["content"]["body"] for event in by(room, BOT)]
        assert len([text for text in said if "back and forth" in text]) == 1
        assert await here(world, "m.room.topic") == {"topic": "log 5"}
        await _audited(world.bridge)
        assert await here(world, "m.room.topic") == {"topic": "matrix 5"}
        before = len(world.homeserver.requests)
        await _audited(world.bridge)
        assert len(world.homeserver.requests) == before


async def test_state_with_a_key_or_of_an_unknown_type_stays_on_its_side(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await promote(world, room, dan)
        before = len(room.timeline)
        world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": "keyed"}, state_key="x", push=True)
        await dan.api.send_state(world.room_id(), "m.room.topic", "x", {"topic": "keyed"})
        await dan.api.send_state(world.room_id(), "org.example.state", "", {"a": 1})
        await world.settle()
        assert len(room.timeline) == before + 1
        assert await here(world, "m.room.topic") == {"topic": "the old days"}
