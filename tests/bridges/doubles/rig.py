"""Double puppeting by itself: on a database in memory, with the fake homeserver and no provider.

Carol of the homeserver is also bob of b.example; each of ``say`` is a message of bob's in the log.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bridges.matrix.commands import Command, Refused
from bridges.matrix.database import Database
from bridges.matrix.doubles.parts import double_puppeting
from bridges.matrix.doubles.sealing import Sealing
from bridges.matrix.homeserver import GHOST_DEVICE, HomeserverApi
from bridges.matrix.notices import Notices
from bridges.matrix.rendering import Act, SendEvent
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, JsonObject, MatrixRoom
from tests.bridges.support import ALICE, AS_TOKEN, BOT, CAROL, GHOST_BOB, MATRIX_ROOM, bridge_config
from tests.client.support import message

TOKEN = "user-carol-1"
URI = "mimi://b.example/u/bob"
CHAT = f"!chat:{DOMAIN}"


@dataclass
class DoublesRig:
    """``now`` is the time in milliseconds; ``encrypted`` whether every room is."""

    http: httpx.AsyncClient
    homeserver: FakeHomeserver
    now: int = 1_795_300_000_000
    encrypted: bool = False
    database: Database = field(default_factory=lambda: Database(":memory:"))

    def __post_init__(self) -> None:
        numbers = itertools.count(1)
        self.numbers = itertools.count(1)
        self.sealing = Sealing(b"k" * 32, lambda size: next(numbers).to_bytes(size, "big"))
        bot = HomeserverApi(f"https://{DOMAIN}", token=AS_TOKEN, http=self.http, user_id=BOT)
        self.ghost = bot.as_user(GHOST_BOB)
        parts = double_puppeting(
            config=bridge_config(Path(), "p" * 40),
            database=self.database,
            sealing=self.sealing,
            homeserver=bot,
            http=self.http,
            notices=Notices(bot),
            is_encrypted=self._is_encrypted,
            clock=lambda: self.now,
            ids=lambda size: f"code{next(numbers)}",
        )
        self.login, self.speaking, self.verbs = parts.login, parts.speaking, parts.commands.verbs
        self.room = self._room(MATRIX_ROOM, BOT, GHOST_BOB, CAROL)
        self.chat = self._room(CHAT, BOT, creator=CAROL)

    async def _is_encrypted(self, room_id: str) -> bool:
        del room_id
        return self.encrypted

    def _room(self, room_id: str, *members: str, creator: str = ALICE) -> MatrixRoom:
        room = self.homeserver.create(room_id, creator)
        for user in members:
            self.homeserver.member(room, user, "join", push=False)
            self.homeserver.devices.add((user, GHOST_DEVICE))
        return room

    async def tell(self, words: str, *, sender: str = CAROL, room: MatrixRoom | None = None) -> str:
        """Somebody says a command in the chat, or another room; the answer."""
        room = room or self.chat
        event_id = self.homeserver.say(room, sender, words)
        verb, *arguments = words.split()
        command = Command(
            sender=sender, room_id=room.room_id, event_id=event_id, verb=verb, arguments=tuple(arguments)
        )
        try:
            return await self.verbs[verb](command, lambda room_id: None)
        except Refused as refusal:
            return str(refusal)

    async def prove(self) -> None:
        """Carol logs in, and bob says that he is she."""
        self.homeserver.tokens[TOKEN] = CAROL
        assert await self.hear(sentence_in(await self.tell(f"login {TOKEN} {URI}")))

    async def hear(self, text: str, *, uri: str = URI) -> bool:
        """Somebody at a provider says something; whether it proves their address."""
        return await self.login.heard(uri, message(text))

    async def act(self, act: Act, log_event_id: str | None = None) -> str:
        """Bob does something; the Matrix event."""
        return await self.speaking.act(
            self.ghost,
            act,
            sender=GHOST_BOB,
            matrix_room_id=MATRIX_ROOM,
            log_event_id=log_event_id or f"$log{next(self.numbers)}",
            number=0,
            ts=7,
        )

    async def say(self, body: str, log_event_id: str | None = None) -> str:
        return await self.act(text_event(body), log_event_id)

    def said(self) -> list[tuple[str, str]]:
        """Who said what in the room."""
        return [
            (event["sender"], event["content"]["body"])
            for event in self.room.timeline
            if event["type"] == "m.room.message"
        ]

    def redactions(self, room: MatrixRoom | None = None) -> list[tuple[str, str]]:
        """Who redacted what."""
        timeline = (room or self.room).timeline
        return [(e["sender"], e["redacts"]) for e in timeline if e["type"] == "m.room.redaction"]

    def told(self) -> list[str]:
        """What the bot said in the chat."""
        return [
            event["content"]["body"]
            for event in self.chat.timeline
            if event["sender"] == BOT and "body" in event["content"]
        ]


def text_event(body: str, **more: JsonObject) -> SendEvent:
    return SendEvent("m.room.message", {"msgtype": "m.text", "body": body, **more})


def edit_event(event_id: str, body: str) -> SendEvent:
    relation = {"rel_type": "m.replace", "event_id": event_id}
    new = {"msgtype": "m.text", "body": body}
    return text_event(f"* {body}", **{"m.new_content": new, "m.relates_to": relation})


def sentence_in(answer: str) -> str:
    """What has to be said from the other account."""
    return next(line for line in answer.splitlines() if line.startswith("!mimi link"))


@asynccontextmanager
async def doubles_rig() -> AsyncIterator[DoublesRig]:
    homeserver = FakeHomeserver()
    async with homeserver.http() as http:
        rig = DoublesRig(http, homeserver)
        try:
            yield rig
        finally:
            rig.database.close()
