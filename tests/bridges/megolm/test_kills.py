"""A bridge that dies at any commit of its database loses nothing of an encrypted room and says nothing twice.

Just before each commit and just after it is a point. The points are taken one after another in one room:
each time something is said on both sides, the bridge dies at the next point, is started again, and both sides
have heard it once. Some of the points are tested here; set ``ALL_KILL_POINTS=1`` to test each one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bridges import support
from tests.bridges.megolm.talk import Talk, talking
from tests.bridges.mortal import DEATH, MortalDatabase
from tests.bridges.test_live import body_of, heard
from tests.client.support import drain, message
from tests.client.test_kills import Killed

STEP = 1 if os.environ.get("ALL_KILL_POINTS") else 13


async def live_through(talk: Talk, point: int) -> bool:
    """Let both say something, and the bridge die at a point; whether it did."""
    world = talk.world
    talk.alice.outbound.clear()  # a new session, so that a key crosses as well
    await talk.bob.send(world.room_id(), message(f"mimi {point}"))
    DEATH.left = point
    try:
        await talk.alice_says(f"matrix {point}")
    except Killed:
        died = True
    else:
        died = False
    DEATH.left = 0
    if died:
        await talk.world.restart()
    return died


async def test_a_bridge_that_dies_at_any_commit_brings_every_encrypted_message_across_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "Database", MortalDatabase)
    # A new session for each message: every message of the ghost's gives its key, too.
    async with talking(tmp_path, rotation_period_msgs=1) as talk:
        await live_through(talk, 0)
        assert await talk.bob_hears() == ["matrix 0"]
        said, point, died = ["mimi 0"], 1, True
        while died:
            died = await live_through(talk, point)
            said.append(f"mimi {point}")
            assert [body_of(item) for item in await heard(talk.bob)] == [f"matrix {point}"], point
            assert await talk.alice_hears() == said, point
            point += STEP
        assert point > 50
        assert not await drain(talk.bob)
