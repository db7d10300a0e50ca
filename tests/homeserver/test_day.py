"""A day in three rooms that are bridged from a real homeserver, one of them encrypted: whatever people say on
one side, of every kind, the others see on the other side, once, in order, and as the tables say.

Short here; ``LINEARIZED_SOAK_DAY=ROUNDS`` has everything said so many times, which ``make soak`` does.
"""

from __future__ import annotations

import os
from random import Random

import trio

from tests.homeserver.people import Eyes, crowd, people
from tests.homeserver.scene import Room, bridged_room, share
from tests.homeserver.spoken import FILES, THERE, script
from tests.homeserver.stage import Stage

ROUNDS = int(os.environ.get("LINEARIZED_SOAK_DAY", "1"))
SEED = 20261126
CROWD = ("ann", "ben", *(f"user{number}" for number in range(18)))
SEVERAL = ("bea", "bill", "bo")


async def play(room: Room, seed: int) -> None:
    """Everything of the tables, by authors that the seed chooses among who is in the room."""
    random = Random(seed)  # noqa: S311 - chooses who speaks
    here = list(room.crowd.crypto) if room.matrix_id in room.crowd.encrypted else room.members
    for row in script():
        there = row in THERE
        await room.play(row, random.choice(list(room.people) if there else here))
    await room.check()


async def test_a_day_of_every_kind_of_message_crosses_once_in_order_and_as_the_tables_say(
    stage: Stage,
) -> None:
    async with (
        crowd(stage, CROWD, encrypting=("ann", "ben")) as here,
        people(stage, SEVERAL, "day") as there,
        trio.open_nursery() as nursery,
    ):
        eyes = Eyes(here.users["ann"], here.crypto["ann"])
        nursery.start_soon(eyes.watch)
        uploads = await share(there["bea"], FILES)
        rooms = []
        for members, encrypted in ((CROWD, False), (CROWD[:6], False), (CROWD[:2], True)):
            room = await bridged_room(stage, here, eyes, there, members=members, encrypted=encrypted)
            room.uploads, room.files = uploads, FILES
            rooms.append(room)
        async with trio.open_nursery() as day:
            for number, room in enumerate(rooms):
                day.start_soon(play, room, SEED + number)
        nursery.cancel_scope.cancel()
