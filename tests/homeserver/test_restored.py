"""The homeserver's database is put back to what it was a while ago, as by an operator who restores a backup:
the bridge shows again what people at providers had said, in a room that is encrypted and in one that is not.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from linearized.demo.talk import body_of
from linearized.mimi.content import text
from tests.homeserver.people import Crowd, Eyes, crowd, heard, people
from tests.homeserver.scene import Room, bridged_room
from tests.homeserver.stage import Stage

# How often the homeserver's database is asked whether something has happened.
POLL_S = 0.1


def database_of(stage: Stage) -> Path:
    return stage.files.directory / "homeserver.db"


def back_up(stage: Stage) -> Path:
    """A copy of the homeserver's database while it runs, as SQLite makes it."""
    copy = stage.files.directory / "backup.db"
    with closing(sqlite3.connect(database_of(stage))) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def put_back(stage: Stage, copy: Path) -> None:
    for old in stage.files.directory.glob("homeserver.db*"):
        old.unlink()
    copy.rename(database_of(stage))


async def restore(stage: Stage, copy: Path) -> None:
    """Stop the homeserver, put the copy in the place of its database, and start it."""
    await stage.homeserver.stop()
    put_back(stage, copy)
    await stage.homeserver.start()


async def inbox_empty(stage: Stage, user_id: str) -> None:
    """Wait until somebody's client has read all keys that came: a message can be decrypted only once."""
    with closing(sqlite3.connect(database_of(stage))) as database:
        while True:
            found = database.execute("SELECT 1 FROM device_inbox WHERE user_id = ?", (user_id,))
            if found.fetchone() is None:
                return
            await trio.sleep(POLL_S)


def seen(room: Room) -> list[str]:
    return [str(event["content"].get("body")) for event in room.here() if event["type"] == "m.room.message"]


async def shows(room: Room, bodies: list[str]) -> None:
    await room.eyes.until(str(bodies), lambda: len(seen(room)) >= len(bodies))
    assert seen(room) == bodies


async def hears(room: Room, bodies: list[str]) -> None:
    """Wait until somebody at b.example has heard this, and no more."""
    (person,) = room.people.values()

    def found(_: object = None) -> list[str]:
        return [body_of(item) for item in room.there(person)]

    await heard(person, str(bodies), lambda _: len(found()) >= len(bodies))
    assert found() == bodies


@asynccontextmanager
async def watching(here: Crowd) -> AsyncIterator[Eyes]:
    """What kit sees meanwhile."""
    async with trio.open_nursery() as nursery:
        eyes = Eyes(here.users["kit"], here.crypto["kit"])
        nursery.start_soon(eyes.watch)
        yield eyes
        nursery.cancel_scope.cancel()


async def test_what_a_restored_homeserver_lost_is_shown_again_and_everything_goes_on(stage: Stage) -> None:
    async with (
        crowd(stage.files, ["kit"], encrypting=["kit"]) as here,
        people(stage, ["bess"], "back") as there,
    ):
        bess = there["bess"].session

        async def bess_says(room: Room, body: str) -> None:
            await bess.send(room.room_id, text(body, salt=secrets.token_bytes(16)))

        async def kit_says(room: Room, body: str) -> None:
            content = {"msgtype": "m.text", "body": body}
            await here.send("kit", room.matrix_id, "m.room.message", content)

        async with watching(here) as eyes:
            plain = await bridged_room(stage, here, eyes, there, members=["kit"])
            sealed = await bridged_room(stage, here, eyes, there, members=["kit"], encrypted=True)
            for room in (plain, sealed):
                await bess_says(room, "before")
                await shows(room, ["before"])
            await inbox_empty(stage, here.users["kit"].user_id)
            copy = back_up(stage)
            for room in (plain, sealed):
                await bess_says(room, "after 1")
                await bess_says(room, "after 2")
                await shows(room, ["before", "after 1", "after 2"])
                await kit_says(room, "lost")
                await hears(room, ["lost"])
        await restore(stage, copy)
        async with watching(here) as eyes:
            plain.eyes = sealed.eyes = eyes  # what the others have seen is no more
            for room in (plain, sealed):
                await shows(room, ["before", "after 1", "after 2"])
                await kit_says(room, "new")
                await hears(room, ["lost", "new"])
                await bess_says(room, "at last")
                await shows(room, ["before", "after 1", "after 2", "at last"])
