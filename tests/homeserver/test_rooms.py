"""How rooms begin, move and end on a real homeserver: a direct chat from either side, an upgrade, and a bot
that is put out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from bridges.matrix import added
from linearized.client import Session
from tests.bridges.megolm.test_real_homeserver import BOT, DEADLINE, GHOST, Real, real_world
from tests.bridges.test_live import body_of, heard
from tests.client.support import drain, message
from tests.client.test_real_server import Club

GHOST_DAN = GHOST.replace("b.example_bob", "a.example_dan")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(DEADLINE):
        while not await condition():  # noqa: ASYNC110 - both sides are real programs
            await trio.sleep(0.1)


async def arrives(real: Real, session: Session, matrix_room_id: str) -> str:
    """Somebody at a provider comes into the room's group; its ID there."""
    with trio.fail_after(DEADLINE):
        while True:
            link = None if real.bridge is None else real.bridge.links.of_matrix(matrix_room_id)
            if link is not None and link.room_id is not None and session.device.in_group(link.room_id):
                await drain(session)
                return link.room_id
            await session.step(200)


async def bodies(real: Real, room_id: str, sender: str) -> list[str]:
    answer = await real.user.call("GET", f"/rooms/{room_id}/messages", query={"dir": "b", "limit": "50"})
    said = [event for event in answer["chunk"] if event["sender"] == sender and "state_key" not in event]
    return [str(event["content"].get("body")) for event in said[::-1]]


async def says(real: Real, room_id: str, body: str) -> None:
    await real.user.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body})


async def test_direct_chats_of_a_real_homeserver_begin_on_either_side_move_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added, "LOOK_SECONDS", 0.5)
    async with real_world(tmp_path) as real, real.bridging() as bridge:
        # A direct chat, but that the ghost has no power: who has as much as alice, alice cannot put out.
        body = {"preset": "private_chat", "is_direct": True, "invite": [GHOST]}
        chat = (await real.user.call("POST", "/createRoom", body=body))["room_id"]
        room_id = await arrives(real, real.bob, chat)
        await says(real, chat, "hello bob")
        assert [body_of(item) for item in await heard(real.bob)] == ["hello bob"]
        await real.bob.send(room_id, message("hello alice"))

        async def answered() -> bool:
            return "hello alice" in await bodies(real, chat, GHOST)

        await until(answered)
        # Dan, at the provider, begins one with alice, whom it knows by now.
        async with AsyncExitStack() as stack:
            club = Club(tmp_path, stack)
            club.network = real.hub.network
            dan = await club.device(real.hub, "dan")
            levels: dict[str, Any] = {"power_level_content_override": {"invite": 0}}
            begun = await dan.create_room(users=[real.user.user_id], **levels)
            await dan.send(begun, message("hello from dan"))

            async def invited() -> bool:
                # Not by a sync: Synapse gives the answer to the first one again, for a while.
                return bridge.links.of_room(begun) is not None and bridge.puppets.openings.all() == []

            await until(invited)
            link = bridge.links.of_room(begun)
            assert link is not None
            await real.user.call("POST", f"/join/{link.matrix_room_id}", body={})
            assert await bodies(real, link.matrix_room_id, GHOST_DAN) == ["hello from dan"]
            await says(real, link.matrix_room_id, "hello dan")
            assert "hello dan" in [body_of(item) for item in await heard(dan)]
        # The first one is upgraded, and goes on in the new room, where the bot has to be invited.
        upgrade = await real.user.call("POST", f"/rooms/{chat}/upgrade", body={"new_version": "11"})
        new = upgrade["replacement_room"]
        await real.user.call("POST", f"/rooms/{new}/invite", body={"user_id": BOT})

        async def moved() -> bool:
            link = bridge.links.of_matrix(new)
            members = (await real.user.call("GET", f"/rooms/{new}/joined_members"))["joined"]
            return link is not None and link.room_id == room_id and GHOST in members

        await until(moved)
        await says(real, new, "here we are")
        assert [body_of(item) for item in await heard(real.bob)] == ["here we are"]
        await real.bob.send(room_id, message("so am I"))

        async def heard_there() -> bool:
            return "so am I" in await bodies(real, new, GHOST)

        await until(heard_there)
        # Who puts the bot out ends it.
        await real.user.call("POST", f"/rooms/{new}/kick", body={"user_id": BOT})

        async def ended() -> bool:
            members = (await real.user.call("GET", f"/rooms/{new}/joined_members"))["joined"]
            return set(members) == {real.user.user_id} and bridge.links.of_matrix(new) is None

        await until(ended)
        assert "no longer bridged" in body_of((await heard(real.bob))[-1])
