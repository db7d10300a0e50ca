"""The homeserver's database is restored from a backup: what it has forgotten is put right."""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridges.matrix import kept
from bridges.matrix.content import Known
from bridges.matrix.database import Database
from bridges.matrix.doubles.sealing import Sealing
from bridges.matrix.expiry import Expirations, Expiring, State
from bridges.matrix.heads import Heads
from bridges.matrix.kept import Kept, Said
from bridges.matrix.links import RoomLinks
from bridges.matrix.message_map import Messages
from linearized.client import DecryptedMessage, Session
from linearized.mimi.content import Expiration, MimiContent, delete, text
from tests.bridges import support
from tests.bridges.fake_homeserver import FakeHomeserver, MatrixRoom
from tests.bridges.megolm.talk import talking as encrypted_talk
from tests.bridges.mortal import DEATH, MortalDatabase
from tests.bridges.support import ALICE, BOB, BOT, GHOST_BOB, World
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message
from tests.client.test_kills import Killed

HOUR_MS = 3_600_000
# Commits between those at which the bridge dies.
STEP = 1 if os.environ.get("ALL_KILL_POINTS") else 7


class Backup:
    """A copy of everything that a homeserver's database holds."""

    _FIELDS = (
        "rooms",
        "users",
        "devices",
        "names",
        "avatars",
        "media",
        "transactions",
        "tokens",
        "keys",
    )

    def __init__(self, homeserver: FakeHomeserver) -> None:
        fields = {name: getattr(homeserver, name) for name in self._FIELDS}
        self._saved: dict[str, Any] = copy.deepcopy(fields)

    def forget_device(self, user: str) -> None:
        """As if somebody's device had been made later."""
        self._saved["devices"] = {place for place in self._saved["devices"] if place[0] != user}
        for table in (self._saved["keys"].devices, self._saved["keys"].one_time):
            for place in [place for place in table if place[0] == user]:
                del table[place]

    def restore(self, homeserver: FakeHomeserver) -> MatrixRoom:
        """Put it back; what had to be pushed is forgotten as well. Gives the only room."""
        for name, value in self._saved.items():
            setattr(homeserver, name, value)
        homeserver.pushes = []
        return next(iter(homeserver.rooms.values()))


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session]]:
    async with talking(tmp_path) as found:
        yield found


async def noticed(world: World) -> None:
    """One round of the loop that audits, and what follows from it."""
    (link,) = world.bridge.links.all()
    await world.bridge.restored.look(link)
    await world.bridge.restored.mend()
    await world.settle()


def said_by_bob(room: MatrixRoom) -> list[str]:
    return [event["content"]["body"] for event in by(room, GHOST_BOB)]


async def says(world: World, bob: Session, *bodies: str) -> None:
    for body in bodies:
        await bob.send(world.room_id(), message(body))
        await world.settle()


async def test_what_the_homeserver_forgot_is_shown_again_once_in_order_with_its_time_and_nothing_else(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    await says(world, bob, "before 1", "before 2")
    backup = Backup(world.homeserver)
    await says(world, bob, "after 1", "after 2", "after 3")
    old = by(room, GHOST_BOB)
    times = [event["origin_server_ts"] for event in old]
    room = backup.restore(world.homeserver)
    assert said_by_bob(room) == ["before 1", "before 2"]
    for _ in range(3):
        await noticed(world)
        assert said_by_bob(room) == ["before 1", "before 2", "after 1", "after 2", "after 3"]
    assert [event["origin_server_ts"] for event in by(room, GHOST_BOB)] == times
    assert [item for item in await drain(bob) if isinstance(item, DecryptedMessage)] == []
    # What is about one of them finds it.
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": by(room, GHOST_BOB)[-1]["event_id"]}}}
    world.homeserver.say(room, ALICE, "yes", extra=reply)
    await world.settle()
    (item,) = await heard(bob)
    assert (body_of(item), item.content.in_reply_to is not None) == ("yes", True)


async def test_transactions_whose_numbers_come_again_with_other_events_are_taken(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    backup = Backup(world.homeserver)
    world.homeserver.say(room, ALICE, "forgotten")
    await world.settle()
    assert [body_of(item) for item in await heard(bob)] == ["forgotten"]
    room = backup.restore(world.homeserver)
    world.homeserver.say(room, ALICE, "new")
    # The homeserver is started again, so it comes by a new connection, which is a break.
    world.bridge.restored.suspect()
    await world.settle()
    assert [body_of(item) for item in await heard(bob)] == ["new"]
    # That what it pushed is there hides nothing: what had been the newest event is looked for.
    await noticed(world)
    assert world.bridge.restored.noticed.is_set() is False
    assert world.homeserver.requests.count(f"POST /_matrix/client/v3/join/{_quoted(room)}") > 1


def _quoted(room: MatrixRoom) -> str:
    return room.room_id.replace("!", "%21").replace(":", "%3A")


async def test_a_break_before_the_next_event_of_a_room_is_enough_to_notice(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    backup = Backup(world.homeserver)
    await says(world, bob, "forgotten")
    room = backup.restore(world.homeserver)
    world.homeserver.say(room, ALICE, "new")
    world.bridge._catching_up.note("1", None)
    world.bridge._catching_up.note("7", None)
    await world.settle()
    assert world.bridge.restored.noticed.is_set()
    await world.bridge.restored.mend()
    assert said_by_bob(room) == ["forgotten"]


async def test_what_was_redacted_or_had_expired_is_not_shown_again(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    short = text("soon gone", salt=bytes(16))
    expiring = MimiContent(salt=short.salt, expires=Expiration(relative=True, time=3600), part=short.part)
    await bob.send(world.room_id(), expiring)
    await world.settle()
    backup = Backup(world.homeserver)
    await world.bridge.expiry.redact_all(room.room_id)
    await says(world, bob, "to be removed", "stays")
    removed = by(room, GHOST_BOB)[-2]["event_id"]
    world.homeserver.emit(room, ALICE, "m.room.redaction", {"redacts": removed}, redacts=removed)
    await world.settle()
    room = backup.restore(world.homeserver)
    await noticed(world)
    assert said_by_bob(room) == ["soon gone", "stays"]
    await world.bridge.expiry.redact_due()
    assert [event["redacts"] for event in by(room, GHOST_BOB, "m.room.redaction")] == []
    (row,) = world.bridge.expiry._expirations.of_room(room.room_id)
    assert row.matrix_room_id == room.room_id


async def test_ghosts_and_members_are_those_they_have_to_be(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, _ = talk
    world.homeserver.member(room, BOB, "leave")
    await world.settle()
    backup = Backup(world.homeserver)
    # After the backup a user comes, and one goes who is there again afterwards; so does a ghost.
    world.homeserver.member(room, BOB, "join")
    world.homeserver.member(room, ALICE, "leave")
    await world.settle()
    inside = {owner.user_id for owner in world.bridge.puppets.bot.device.members(world.room_id()).values()}
    assert BOB in inside
    assert ALICE not in inside
    room = backup.restore(world.homeserver)
    world.homeserver.member(room, GHOST_BOB, "leave", push=False)
    world.homeserver.users.discard(GHOST_BOB)
    world.homeserver.users.add(ghost := GHOST_BOB.replace("_bob", "_stranger"))
    world.homeserver.member(room, ghost, "join", push=False)
    await noticed(world)
    assert (room.members[GHOST_BOB], room.members[ghost], room.members[BOT]) == ("join", "leave", "join")
    inside = {owner.user_id for owner in world.bridge.puppets.bot.device.members(world.room_id()).values()}
    assert ALICE in inside
    assert BOB not in inside


async def test_the_state_that_stands_in_the_log_stands_in_the_room_again(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, _ = talk
    backup = Backup(world.homeserver)
    world.homeserver.emit(room, ALICE, "m.room.topic", {"topic": "newer"}, state_key="")
    await world.settle()
    room = backup.restore(world.homeserver)
    await noticed(world)
    assert world.homeserver.state(room)["m.room.topic", ""]["content"]["topic"] == "newer"


async def test_a_homeserver_that_has_what_it_had_or_that_put_the_bot_out_was_not_restored(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    await says(world, bob, "here")
    (link,) = world.bridge.links.all()
    assert not await world.bridge.restored.look(link)
    del room.timeline[-1]
    room.members[BOT] = "leave"
    assert not await world.bridge.restored.look(link)
    assert said_by_bob(room) == []


async def test_a_bot_that_is_invited_again_by_who_may_bridge_puts_the_room_right(
    talk: tuple[World, MatrixRoom, Session],
) -> None:
    world, room, bob = talk
    room.public = False
    backup = Backup(world.homeserver)
    await says(world, bob, "while the bot was there")
    room = backup.restore(world.homeserver)
    room.members[BOT] = room.members[GHOST_BOB] = "leave"
    await noticed(world)
    assert said_by_bob(room) == []
    world.homeserver.member(room, BOT, "invite", sender=BOB)
    await world.settle()
    assert room.members[BOT] == "leave"
    world.homeserver.member(room, BOT, "invite", sender=ALICE)
    await world.settle()
    await world.bridge.restored.mend()
    assert (room.members[BOT], room.members[GHOST_BOB]) == ("join", "join")
    assert said_by_bob(room) == ["while the bot was there"]


# --- what is kept ---


def kept_in(database: Database, clock: list[int]) -> Kept:
    return Kept(database, Sealing(b"k" * 32, bytes), hours=2, clock=lambda: clock[0])


def said(number: int, content: MimiContent | None = None, room: str = "!r:hs") -> Said:
    return Said(
        matrix_room_id=room,
        log_event_id=f"$log{number}",
        message_id=b"\x01" + bytes([number]) * 31,
        sender=GHOST_BOB,
        ts=number,
        content=content or text(f"words {number}", salt=bytes(16)),
    )


def numbers(database: Database) -> list[int]:
    return [row["ts"] for row in database.all("SELECT ts FROM kept ORDER BY number")]


def test_what_is_kept_is_sealed_and_comes_back_the_same(tmp_path: Path) -> None:
    database = Database(tmp_path / "bridge.sqlite")
    found = kept_in(database, [0])
    one = said(1)
    found.put(one)
    found.put(one)
    assert b"words" not in database.one("SELECT payload FROM kept")["payload"]
    found.lost("$log1")
    assert found.next_lost("!r:hs") == one
    found.shown_again(one)
    assert found.next_lost("!r:hs") is None
    database.close()


def test_what_is_old_too_much_deleted_or_to_be_forgotten_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    database, clock = Database(":memory:"), [0]
    found = kept_in(database, clock)
    found.put(said(1, room="!other:hs"))
    for number in range(2, 7):
        found.put(said(number))
    assert numbers(database) == [1, 4, 5, 6]
    found.put(said(7, delete(b"\x01" + bytes([5]) * 31, salt=bytes(16))))
    assert numbers(database) == [1, 4, 6, 7]
    expiring = Expiring(log_event_id="$log8", matrix_room_id="!r:hs", sender=GHOST_BOB, at=60_000)
    Expirations(database).put(expiring, State.BEGUN)
    found.put(said(8))
    assert numbers(database) == [1, 4, 6, 7]
    known = Known(matrix_event_id="$e", log_event_id="$log4", message_id=None, sender=GHOST_BOB)
    Messages(database).put("!r:hs", known)
    found.redacted("$e")
    assert numbers(database) == [1, 6, 7]
    clock[0] = 2 * HOUR_MS + 1
    found.put(said(9))
    assert numbers(database) == [1, 9]
    RoomLinks(database).forget("!r:hs")
    assert numbers(database) == [1]
    database.close()


def test_the_newest_event_by_time_is_what_a_room_must_have_and_what_was_suspected_comes_first() -> None:
    database = Database(":memory:")
    heads = Heads(database)
    assert heads.of("!r:hs") is None

    def note(event_id: str, ts: object) -> None:
        heads.note({"room_id": "!r:hs", "event_id": event_id, "origin_server_ts": ts})

    note("$1", 10)
    note("$late", 5)
    note("$strange", 1 << 70)
    assert heads.of("!r:hs") == "$1"
    heads.suspect()
    note("$2", 11)
    heads.suspect()
    assert heads.of("!r:hs") == "$1"
    heads.found("!r:hs", "$1")
    assert heads.of("!r:hs") == "$2"
    heads.clear()
    assert heads.of("!r:hs") is None
    database.close()


# --- killed meanwhile, and in an encrypted room ---


async def test_a_bridge_that_dies_while_it_puts_things_right_shows_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "Database", MortalDatabase)
    async with talking(tmp_path) as (world, _, bob):
        wanted, point, died = ["before"], 1, True
        await says(world, bob, "before")
        while died:
            backup = Backup(world.homeserver)
            await says(world, bob, f"{point} a", f"{point} b")
            wanted += [f"{point} a", f"{point} b"]
            room = backup.restore(world.homeserver)
            DEATH.left, died = point, False
            try:
                await noticed(world)
            except Killed:
                died = True
            DEATH.left = 0
            if died:
                await world.restart()
                await noticed(world)
            assert said_by_bob(room) == wanted, point
            point += STEP
        assert point > 20


async def test_in_an_encrypted_room_devices_and_keys_are_made_known_again(tmp_path: Path) -> None:
    async with encrypted_talk(tmp_path) as talk:
        world, homeserver = talk.world, talk.world.homeserver
        await talk.bob_says("before")
        assert await talk.alice_hears() == ["before"]
        backup = Backup(homeserver)
        # The ghost's device is new after the backup.
        backup.forget_device(GHOST_BOB)
        await talk.bob_says("after")
        await talk.alice_says("lost")
        assert await talk.bob_hears() == ["lost"]
        talk.room = backup.restore(homeserver)
        await noticed(world)
        assert await talk.alice_hears() == ["before", "after"]
        assert any(user == GHOST_BOB for user, _ in homeserver.keys.devices)
        await talk.alice_says("new")
        assert await talk.bob_hears() == ["new"]
