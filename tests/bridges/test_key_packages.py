"""The clients of bridged users can always be added."""

from __future__ import annotations

from pathlib import Path

from bridges.matrix.puppets import USER_KEY_PACKAGES
from tests.bridges.support import CAROL, World, open_world
from tests.bridges.test_import import history


async def left(world: World) -> int:
    """How many key packages of carol's the provider has, beside the one of last resort."""
    answer = await world.bridge.puppets.session(CAROL).api.sync(since=None, timeout_ms=0)
    count = answer["device_one_time_keys_count"]["mls"]
    assert isinstance(count, int)
    return count


async def test_whoever_is_added_more_often_than_was_foreseen_can_be_added_and_has_new_key_packages(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        bot = world.bridge.puppets.bot
        # One was used. The stock is filled up when the client follows, or is out of them.
        assert await left(world) == USER_KEY_PACKAGES - 1
        # Somebody takes them and does not use them.
        for _ in range(USER_KEY_PACKAGES - 1):
            await bot.groups.key_packages(world.room_id(), CAROL)
        assert await left(world) == 0
        for membership in ("leave", "join"):
            world.homeserver.member(room, CAROL, membership)
            await world.settle()
        assert CAROL in {owner.user_id for owner in bot.device.members(world.room_id()).values()}
        assert await left(world) == USER_KEY_PACKAGES
