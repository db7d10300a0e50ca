"""Events that no good homeserver pushes: none keeps what comes after it, none does anything."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import ALICE, BOT, GHOST_BOB, MATRIX_ROOM, push_events
from tests.bridges.test_live import body_of, heard, talking

TYPES = (
    "m.room.message",
    "m.room.member",
    "m.room.tombstone",
    "m.room.power_levels",
    "m.room.encryption",
    "m.room.encrypted",
    "m.room.retention",
    "m.room.redaction",
    "m.reaction",
    "m.sticker",
    "m.poll.response",
    7,
    None,
    "\u202e\x00",
)
CONTENTS: tuple[Any, ...] = (
    None,
    [],
    "text",
    {},
    {"membership": 7, "replacement_room": {}, "msgtype": [], "body": {}, "m.relates_to": "x", "info": 1},
    {"membership": "dance", "m.relates_to": {"rel_type": [], "event_id": {}, "key": 7}, "algorithm": None},
    {"membership": "invite", "msgtype": "m.audio", "url": "mxc://../x", "org.matrix.msc1767.audio": []},
)
KEYS = (None, 7, "", BOT, GHOST_BOB, f"@_lin_:{DOMAIN}", "\u202e")


async def test_events_that_are_none_are_nothing_and_what_comes_after_them_crosses(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        before = len(room.timeline)
        numbers = itertools.count()
        events = [
            {
                "event_id": f"$bad{next(numbers)}",
                "room_id": MATRIX_ROOM,
                "type": kind,
                "content": content,
                # The homeserver's own word: a stranger's, nobody's, or no name.
                "sender": (None, 7, "", "\u202e", "@eve:elsewhere.example")[number % 5],
                "origin_server_ts": (None, -1, 2**70, "now", 1.5)[number % 5],
                **({} if key is None else {"state_key": key}),
            }
            for number, (kind, content, key) in enumerate(
                itertools.islice(itertools.product(TYPES, CONTENTS, KEYS), 0, None, 11)
            )
        ]
        for start in range(0, len(events), 50):
            assert await push_events(world.bridge, events[start : start + 50]) == 200
        for event in ({}, {"event_id": 1, "room_id": []}, {"event_id": "$x"}, {"room_id": MATRIX_ROOM}):
            assert await push_events(world.bridge, [event]) == 200
        world.homeserver.say(room, ALICE, "after all that")
        await world.settle()
        assert "after all that" in [body_of(item) async for item in until(bob, "after all that")]
        # Nobody came, went, or spoke in Matrix because of it, and the room is bridged as it was.
        done = {event["type"] for event in room.timeline[before:] if event["sender"] != BOT}
        assert done == {"m.room.message"}
        assert {link.matrix_room_id for link in world.bridge.links.all()} == {MATRIX_ROOM}
        assert (room.members[BOT], room.members[GHOST_BOB]) == ("join", "join")


async def until(bob: Any, last: str) -> Any:
    while True:
        for item in await heard(bob):
            yield item
            if body_of(item) == last:
                return
