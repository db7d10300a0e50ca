"""A day in three rooms that are bridged from a real homeserver, one of them encrypted: whatever people say on
one side, of every kind, the others see on the other side, once, in order, and as the tables say.

Short here; ``LINEARIZED_SOAK_DAY=ROUNDS`` has everything said so many times, which ``make soak`` does.
"""

from __future__ import annotations

import os
from random import Random

import trio

from tests.homeserver import doings
from tests.homeserver.doings import Hall
from tests.homeserver.people import Eyes, crowd, people
from tests.homeserver.said_in_matrix import END_HERE, MATRIX
from tests.homeserver.said_there import END_THERE, THERE
from tests.homeserver.scene import Room, Row, Writes, bridged_room, share
from tests.homeserver.shapes import FILES
from tests.homeserver.stage import Stage

ROUNDS = int(os.environ.get("LINEARIZED_SOAK_DAY", "1"))
SEED = 20261126
CROWD = ("ann", "ben", *(f"user{number}" for number in range(16)))
GUESTS = ("cat", "dan")
SPEAKERS = ("bea", "bill", "bo")
ACTORS = ("amy", "al", "bess")


def script() -> list[Row]:
    """Both tables, taken turns by, each in its order."""
    rows: list[Row] = []
    for number in range(max(len(MATRIX), len(THERE))):
        rows += [*MATRIX[number : number + 1], *THERE[number : number + 1]]
    return rows


async def talk(room: Room, seed: int) -> None:
    """Everything that can be said, by authors that the seed chooses among who is in the room."""
    random = Random(seed)  # noqa: S311 - chooses who speaks
    here = list(room.crowd.crypto) if room.matrix_id in room.crowd.encrypted else room.members
    for row in script():
        there = isinstance(row, Writes)
        await room.play(row, random.choice(list(room.people) if there else here))
    await room.check()


async def act(room: Room) -> None:
    """Everything that can be done to a room and its members; the words at its end come after all of it."""
    hall = Hall(room)
    await hall.arrived(ACTORS)
    await doings.play(hall)
    await room.play(END_HERE, "ann")
    await room.play(END_THERE, "amy")
    await room.settled()
    hall.finish()


async def test_a_day_of_every_kind_crosses_once_in_order_and_as_the_tables_say(stage: Stage) -> None:
    async with (
        crowd(stage.files, (*CROWD, *GUESTS), encrypting=("ann", "ben")) as here,
        people(stage, (*SPEAKERS, *ACTORS), "day") as there,
        trio.open_nursery() as nursery,
    ):
        eyes = Eyes(here.users["ann"], here.crypto["ann"])
        nursery.start_soon(eyes.watch)
        uploads = await share(there["bea"], FILES)
        speakers, actors = ({name: there[name] for name in names} for names in (SPEAKERS, ACTORS))
        hall = await bridged_room(stage, here, eyes, actors, members=CROWD[:2])
        hall.files = FILES
        for number in range(ROUNDS):
            garden = await bridged_room(stage, here, eyes, speakers, members=CROWD)
            vault = await bridged_room(stage, here, eyes, speakers, members=CROWD[:2], encrypted=True)
            async with trio.open_nursery() as day:
                if not number:
                    day.start_soon(act, hall)
                for room in (garden, vault):
                    room.uploads, room.files = uploads, FILES
                day.start_soon(talk, garden, SEED + 2 * number)
                day.start_soon(talk, vault, SEED + 2 * number + 1)
        nursery.cancel_scope.cancel()
