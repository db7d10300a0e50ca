"""Nobody is taken for somebody else, whatever they are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linearized.client import DecryptedMessage
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import ALICE, BOT, GHOST_BOB, call
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message


async def test_a_participant_who_claims_a_homeserver_users_name_says_nothing_in_matrix(
    tmp_path: Path,
) -> None:
    """The group's credentials are the hub's to check. If it lets one by, the homeserver's users are still
    spoken for by nobody but themselves: the bridge knows every message that it sent for them.
    """
    async with talking(tmp_path) as (world, room, bob):
        await bob.send(world.room_id(), message("I am alice"))
        bot = world.bridge.puppets.bot
        found: list[DecryptedMessage] = []
        while not found:
            await bot.step(1000)
            found = [item for item in bot.device.state.inbox if isinstance(item, DecryptedMessage)]
        before = len(room.timeline)
        forged = replace(found[0], sender_uri=f"mimi://{DOMAIN}/u/alice")
        await world.bridge.inbound.handle(forged)
        assert len(room.timeline) == before
        await world.settle()
        assert [event["content"]["body"] for event in by(room, GHOST_BOB)] == ["I am alice"]
        assert not [event for event in by(room, ALICE) if event["content"].get("body") == "I am alice"]


async def test_a_participant_called_like_a_ghost_or_the_bot_gets_a_ghost_of_their_own(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path) as (world, _, _bob):
        for name in (BOT, GHOST_BOB):
            localpart = name[1:].partition(":")[0]
            taken = world.bridge.config.names.matrix_user(f"mimi://{DOMAIN}/u/{localpart}")
            assert taken not in (name, BOT, GHOST_BOB)
            assert taken.startswith(f"@_lin_{DOMAIN}_")


@pytest.mark.parametrize(
    "user",
    [
        ALICE,
        BOT,
        f"@_lin_b.example:{DOMAIN}",
        "@_lin_b.example_bob:elsewhere.example",
        f"@lin_b.example_bob:{DOMAIN}",
        "@_lin_b.example_bob",
        "_lin_b.example_bob",
    ],
)
async def test_a_user_outside_the_namespace_is_not_made(tmp_path: Path, user: str) -> None:
    async with talking(tmp_path) as (world, _, _bob):
        before = set(world.homeserver.users)
        assert await call(world.bridge, "GET", f"/_matrix/app/v1/users/{user}") == 404
        assert world.homeserver.users == before


async def test_what_one_says_is_theirs_on_both_sides(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.say(room, ALICE, f"<{GHOST_BOB}> I am bob")
        await world.settle()
        (got,) = await heard(bob)
        assert got.sender_uri == f"mimi://{DOMAIN}/u/alice"
        assert body_of(got) == f"<{GHOST_BOB}> I am bob"
        await drain(bob)
