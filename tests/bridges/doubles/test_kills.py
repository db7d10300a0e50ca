"""As ``megolm.test_kills``, with somebody who has an account on both sides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linearized.mimi.content import edit, reaction
from tests.bridges import support
from tests.bridges.doubles.support import linked
from tests.bridges.mortal import DEATH, MortalDatabase
from tests.bridges.support import CAROL, GHOST_BOB
from tests.bridges.test_live import body_of, heard
from tests.client.support import drain, message
from tests.client.test_kills import Killed

STEP = 1 if os.environ.get("ALL_KILL_POINTS") else 17


async def test_a_bridge_that_dies_at_any_commit_says_everything_once_as_who_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "Database", MortalDatabase)
    async with linked(tmp_path) as person:
        world, salt = person.world, b"s" * 16
        before = len(person.events(CAROL))
        said: list[str] = []
        point, died = 1, True
        while died:
            sent = await person.bob.send(world.room_id(), message(f"mimi {point}"))
            await person.bob.send(world.room_id(), edit(sent.message_id, f"new {point}", salt=salt))
            await person.bob.send(world.room_id(), reaction(sent.message_id, "+1", salt=salt))
            world.homeserver.say(person.room, CAROL, f"matrix {point}")
            DEATH.left, died = point, False
            try:
                await world.settle()
            except Killed:
                died = True
            DEATH.left = 0
            if died:
                await world.restart()
            said += [f"matrix {point}", f"mimi {point}", f"* new {point}"]
            assert [event["content"]["body"] for event in person.events(CAROL)[before:]] == said, point
            assert len(person.events(CAROL, "m.reaction")) == len(said) / 3, point
            assert [body_of(item) for item in await heard(person.bob)] == [f"matrix {point}"], point
            point += STEP
        assert point > 40
        assert person.events(GHOST_BOB) == []
        assert not await drain(person.bob)
