"""The bridge, its provider and the homeserver are killed (SIGKILL) while people talk in two rooms, one of
them encrypted on both sides: nothing is lost, nothing comes twice, and what each of them says stays in order.

Short here; ``LINEARIZED_SOAK_KILLS=ROUNDS`` has so many rounds, which ``make soak`` does.
"""

from __future__ import annotations

import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random

import trio

from linearized.demo.participant import Participant
from linearized.demo.processes import Service
from linearized.demo.talk import body_of
from linearized.mimi.content import text
from linearized.protocol.identifiers import user_id_from_uri
from tests.bridges.encrypting_client import EncryptingClient, NoKeyError
from tests.homeserver.people import Eyes, crowd, heard, people, until_taken
from tests.homeserver.scene import Room, bridged_room
from tests.homeserver.stage import Stage

ROUNDS = int(os.environ.get("LINEARIZED_SOAK_KILLS", "3"))
SEED = 20261126
HERE, THERE = ("kay", "kim", "ken"), ("brad", "bree")
# Those of them who have clients that encrypt, and who talk in the encrypted room.
ENCRYPTING = HERE[:2]
# Of each in a round, so far apart that some fall before the kill, some after it and some between.
MESSAGES = 5
MAX_PAUSE_S = 0.4
# How long what is killed stays away.
MAX_AWAY_S = 1.0

Words = dict[str, list[str]]


async def say_here(room: Room, name: str, words: list[str], random: Random) -> None:
    user, room_id = room.crowd.users[name], room.matrix_id
    for body in words:
        kind, content = "m.room.message", {"msgtype": "m.text", "body": body}
        if room_id in room.crowd.encrypted:
            kind, content = await room.crowd.sealed(name, room_id, kind, content)
        path = f"/rooms/{room_id}/send/{kind}/{secrets.token_hex(8)}"
        await until_taken(partial(user.call, "PUT", path, body=content))
        await trio.sleep(random.random() * MAX_PAUSE_S)


async def say_there(room: Room, person: Participant, words: list[str], random: Random) -> None:
    session = person.session
    for body in words:
        content, txn_id = text(body, salt=secrets.token_bytes(16)), session.api.transaction_id()
        await until_taken(partial(session.send, room.room_id, content, txn_id=txn_id))
        await trio.sleep(random.random() * MAX_PAUSE_S)


async def kill(services: list[Service], random: Random) -> None:
    for service in services:
        await trio.sleep(random.random() * MESSAGES * MAX_PAUSE_S / 2)
        await service.kill()
        await trio.sleep(random.random() * MAX_AWAY_S)
        await service.start()


def victims(stage: Stage, number: int, random: Random) -> list[Service]:
    """Each alone first, then whatever chance brings, two at a time as well."""
    all_three = [stage.bridge, stage.a, stage.homeserver]
    return (
        [all_three[number]] if number < len(all_three) else random.choices(all_three, k=random.choice((1, 2)))
    )


def by_sender(pairs: list[tuple[str, str]]) -> Words:
    found: Words = defaultdict(list)
    for sender, body in pairs:
        found[sender].append(body)
    return found


async def give_keys(eyes: Eyes, crypto: EncryptingClient) -> None:
    """Answer devices that ask for a key, as clients do, for ever."""
    answered = 0
    while True:
        while answered < len(crypto.requests):
            request, answered = crypto.requests[answered], answered + 1
            asking = request["content"]["requesting_device_id"]
            for device in await crypto.devices_of([request["sender"]]):
                if device["device_id"] == asking and request["content"]["action"] == "request":
                    with suppress(NoKeyError):  # it will ask again
                        await crypto.answer_request(device, request)
        await eyes.news()


@dataclass(kw_only=True)
class Talk:
    """A room, who talks in it, and what each of them has said, by user ID: here, and there."""

    room: Room
    speakers: Sequence[str]
    said: Words = field(default_factory=lambda: defaultdict(list))

    async def round(self, number: int, random: Random) -> None:
        """Everybody says something at the same time."""
        room = self.room
        async with trio.open_nursery() as talk:
            for name in (*self.speakers, *room.people):
                words = [f"{number} {name} {count}" for count in range(MESSAGES)]
                own = Random(random.random())  # noqa: S311 - chooses what happens when
                if name in room.people:
                    self.said[room.stage.ghost(name)] += words
                    talk.start_soon(say_there, room, room.people[name], words, own)
                else:
                    self.said[room.crowd.users[name].user_id] += words
                    talk.start_soon(say_here, room, name, words, own)


async def test_whoever_is_killed_nothing_is_lost_or_said_twice_and_everybodys_words_stay_in_order(
    stage: Stage,
) -> None:
    async with (
        crowd(stage.files, HERE, encrypting=ENCRYPTING) as here,
        people(stage, THERE, "kills") as there,
        trio.open_nursery() as nursery,
    ):
        watching = {name: Eyes(here.users[name], here.crypto[name]) for name in ENCRYPTING}
        for name, eyes in watching.items():
            nursery.start_soon(eyes.watch)
            nursery.start_soon(give_keys, eyes, here.crypto[name])
        kay = watching["kay"]
        garden = await bridged_room(stage, here, kay, there, members=HERE)
        vault = await bridged_room(stage, here, kay, there, members=ENCRYPTING, encrypted=True)
        talks = [Talk(room=garden, speakers=HERE), Talk(room=vault, speakers=ENCRYPTING)]
        for number in range(ROUNDS):
            random = Random(f"{SEED} {number}")  # noqa: S311 - chooses what happens when
            async with trio.open_nursery() as everything:
                for talk in talks:
                    everything.start_soon(talk.round, number, Random(random.random()))  # noqa: S311 - as above
                everything.start_soon(kill, victims(stage, number, random), random)
            for talk in talks:
                await arrived(talk.room, talk.said, number)
        nursery.cancel_scope.cancel()


async def arrived(room: Room, said: Words, number: int) -> None:
    """Wait until the last words of all are there, then compare everything since the beginning."""
    wanted_there = {name: words for name, words in said.items() if not name.startswith("@_lin_")}
    wanted_here = {name: words for name, words in said.items() if name.startswith("@_lin_")}

    def heard_by(person: Participant) -> list[tuple[str, str]]:
        # As it is shown: what the key came late for, is told of first and then edited.
        shown = {}
        for item in room.there(person):
            place = item.content.replaces or item.message_id
            shown[place] = (user_id_from_uri(item.sender_uri), body_of(item))
        return list(shown.values())

    def seen() -> list[tuple[str, str]]:
        # Of what could not be decrypted, there is no body.
        return [(event["sender"], str(event["content"].get("body"))) for event in room.here()]

    def everything(wanted: Words, found: Callable[[], list[tuple[str, str]]], _: object = None) -> bool:
        return {body for words in wanted.values() for body in words} <= {body for _, body in found()}

    for person in room.people.values():
        found = partial(heard_by, person)
        try:
            await heard(person, "everything", partial(everything, wanted_there, found))
        finally:
            assert by_sender(found()) == wanted_there, f"round {number}"
    try:
        await room.eyes.until("everything", partial(everything, wanted_here, seen))
    finally:
        assert by_sender(seen()) == wanted_here, f"round {number}"
