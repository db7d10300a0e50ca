"""Carol of the homeserver, who is also bob of b.example, in a bridged room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from linearized.client import Session
from tests.bridges.doubles.rig import TOKEN, URI, sentence_in
from tests.bridges.fake_homeserver import JsonObject, MatrixRoom
from tests.bridges.support import CAROL, World
from tests.bridges.test_bot_commands import answers, direct_room, tell
from tests.bridges.test_live import by, talking
from tests.client.support import message


@dataclass
class Person:
    """Both sides of one person, the bridged room, and their chat with the bot."""

    world: World
    room: MatrixRoom
    chat: MatrixRoom
    bob: Session

    async def tell(self, body: str) -> str:
        """Carol tells the bot something in their chat; its answer."""
        return await tell(self.world, self.chat, CAROL, body)

    async def bob_says(self, body: str) -> None:
        await self.bob.send(self.world.room_id(), message(body))
        await self.world.settle()

    def told(self) -> list[str]:
        """What the bot said in the chat."""
        return answers(self.chat)

    def events(self, user: str, kind: str = "m.room.message") -> list[JsonObject]:
        return by(self.room, user, kind)


@asynccontextmanager
async def linked(directory: Path) -> AsyncIterator[Person]:
    """Carol and bob, whom the bridge knows to be one."""
    async with talking(directory) as (world, room, bob):
        chat = direct_room(world, CAROL)
        await world.settle()
        world.homeserver.tokens[TOKEN] = CAROL
        person = Person(world, room, chat, bob)
        await person.bob_says(sentence_in(await person.tell(f"login {TOKEN} {URI}")))
        yield person
