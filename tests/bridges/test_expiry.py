"""Messages that expire, from providers: gone from Matrix at their time, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trio
from trio.testing import MockClock

from bridges.matrix.aside import SetAside
from bridges.matrix.commands import PREFIX
from bridges.matrix.content import Known
from bridges.matrix.expiry import MAX_SLEEP, Expiry
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, Phase
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.status import bridged_rooms
from linearized.client import Session
from linearized.mimi.content import Expiration, MimiContent, MultiPart, PartSemantics, delete, edit
from tests.bridges import support
from tests.bridges.doubles.rig import DoublesRig, doubles_rig
from tests.bridges.fake_homeserver import DOMAIN, START, MatrixRoom
from tests.bridges.support import ALICE, AS_TOKEN, BOT, CAROL, GHOST_BOB, MATRIX_ROOM, World
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import message, wall_clock

DAY = 86_400


@dataclass
class Clock:
    """The machine's time, in milliseconds since the Unix epoch."""

    now: int = field(default_factory=wall_clock)

    def __call__(self) -> int:
        return self.now

    def at(self, seconds: int) -> Expiration:
        """So many seconds from now."""
        return Expiration(relative=False, time=self.now // 1000 + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(support, "wall_clock", clock)
    return clock


@dataclass
class Talk:
    world: World
    room: MatrixRoom
    bob: Session

    async def says(self, content: MimiContent) -> bytes:
        """Bob says something; its message ID."""
        await self.bob.send(self.world.room_id(), content)
        await self.world.settle()
        return self.bob.message_id(self.world.room_id(), content)

    async def due(self) -> list[str]:
        """The events that are redacted once the bridge has looked at the time."""
        await self.world.bridge.expiry.redact_due()
        await self.world.settle()
        found = [e for e in self.room.timeline if e["type"] == "m.room.redaction"]
        return [event["redacts"] for event in found]

    def said(self) -> list[dict[str, Any]]:
        return by(self.room, GHOST_BOB)


@asynccontextmanager
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking(tmp_path) as (world, room, bob):
        yield Talk(world, room, bob)


def until(expires: Expiration | None, text: str = "a secret") -> MimiContent:
    return replace(message(text), expires=expires)


async def test_a_message_that_expires_is_redacted_in_matrix_at_its_time_and_not_before(
    tmp_path: Path, clock: Clock
) -> None:
    async with talk(tmp_path) as here:
        clock.now -= clock.now % 1000
        await here.says(until(Expiration(relative=True, time=60)))
        await here.says(until(clock.at(90)))
        await here.says(until(None, "stays"))
        one, two, _ = [event["event_id"] for event in here.said()]
        clock.now += 59_999
        assert await here.due() == []
        clock.now += 1
        assert await here.due() == [one]
        await here.world.restart()
        clock.now += 30_000
        assert await here.due() == [one, two]
        assert len(by(here.room, GHOST_BOB, "m.room.redaction")) == 2
        await here.world.restart()
        assert await here.due() == [one, two]
        assert bridged_rooms(here.world.bridge.config)[0].aside == 0
        # Nobody at the provider is told to delete what expires there by itself.
        here.world.homeserver.say(here.room, ALICE, "the end")
        await here.world.settle()
        assert [body_of(item) for item in await heard(here.bob)] == ["the end"]


async def test_every_part_and_every_version_of_a_message_expires_with_the_first(
    tmp_path: Path, clock: Clock
) -> None:
    async with talk(tmp_path) as here:
        parts = (message("one").part, message("two").part)
        both = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=parts)
        first = await here.says(replace(message(""), part=both, expires=clock.at(60)))
        await here.says(edit(first, "better", salt=b"e" * 16))
        # What an edit says of its end is not for an edit to say.
        await here.says(replace(edit(first, "best", salt=b"f" * 16), expires=clock.at(DAY)))
        assert len(here.said()) == 4
        clock.now += 60_000
        assert sorted(await here.due()) == sorted(event["event_id"] for event in here.said())
        # Afterwards there is nothing to edit.
        await here.says(edit(first, "too late", salt=b"g" * 16))
        assert len(here.said()) == 4
        other = await here.says(until(None))
        await here.says(replace(edit(other, "still here", salt=b"h" * 16), expires=clock.at(1)))
        clock.now += 60_000
        assert len(await here.due()) == 4


async def test_a_message_that_has_expired_when_it_comes_says_nothing_in_matrix(
    tmp_path: Path, clock: Clock
) -> None:
    async with talk(tmp_path) as here:
        await here.says(until(clock.at(0)))
        await here.says(until(clock.at(-DAY)))
        assert here.said() == []
        assert bridged_rooms(here.world.bridge.config)[0].aside == 0
        own = await here.says(until(clock.at(60)))
        await here.says(replace(delete(own, salt=b"d" * 16), expires=clock.at(-DAY)))
        assert len(await here.due()) == 1  # a deletion counts at any time


async def test_a_bridge_killed_while_it_says_a_message_redacts_it_all_the_same(
    tmp_path: Path, clock: Clock
) -> None:
    async with talk(tmp_path) as here:

        def kill(when: str, request: httpx.Request) -> None:
            if when == "after" and "/send/m.room.message/" in request.url.path:
                raise KeyboardInterrupt

        here.world.homeserver.fault = kill
        with pytest.raises(KeyboardInterrupt):
            await here.says(until(clock.at(60)))
        here.world.homeserver.fault = None
        (event,) = here.said()
        clock.now += 60_000
        # It goes on where it was. Until it has, it does not know what it said.
        assert await here.due() == []
        assert await here.due() == [event["event_id"]]
        assert len(here.said()) == 1


async def test_unbridging_redacts_at_once_what_nobody_could_redact_later(
    tmp_path: Path, clock: Clock
) -> None:
    async with talk(tmp_path) as here:
        await here.says(until(clock.at(DAY)))
        await here.says(until(None, "stays"))
        (event, _) = here.said()
        here.world.homeserver.say(here.room, ALICE, f"{PREFIX} unbridge")
        await here.world.settle()
        assert here.room.members[GHOST_BOB] == "leave"
        assert await here.due() == [event["event_id"]]


LINK = Link(matrix_room_id=MATRIX_ROOM, room_id="!r:a", phase=Phase.LIVE, walk_token=None, walked=True)


@dataclass
class Timers:
    """The timers alone, with the fake homeserver; ``say`` is what becomes of a message of bob's."""

    rig: DoublesRig
    expiry: Expiry

    async def say(self, log_event_id: str, expires: Expiration) -> str:
        self.expiry.begin(LINK, log_event_id, GHOST_BOB, until(expires))
        event_id = await self.rig.say("a secret", log_event_id)
        known = Known(matrix_event_id=event_id, log_event_id=log_event_id, message_id=b"i", sender=GHOST_BOB)
        Messages(self.rig.database).put(MATRIX_ROOM, known)
        self.expiry.said(log_event_id)
        return event_id


@asynccontextmanager
async def timers(clock: Callable[[], int] | None = None) -> AsyncIterator[Timers]:
    async with doubles_rig() as rig:
        bot = HomeserverApi(f"https://{DOMAIN}", token=AS_TOKEN, http=rig.http, user_id=BOT)
        expiry = Expiry(
            database=rig.database,
            ghosts=Ghosts(bot, rig.database, Names(domain=DOMAIN)),
            speaking=rig.speaking,
            bot=bot,
            clock=clock or (lambda: rig.now),
        )
        yield Timers(rig, expiry)


def soon(seconds: int) -> Expiration:
    return Expiration(relative=True, time=seconds)


async def test_where_the_ghost_may_not_redact_the_bot_does_and_what_nobody_may_is_reported() -> None:
    async with timers() as here:
        rig = here.rig
        one, _ = await here.say("$one", soon(60)), await here.say("$two", soon(120))
        rig.room.forbidden.add((GHOST_BOB, "m.room.redaction"))
        rig.now += 60_000
        await here.expiry.redact_due()
        assert rig.redactions() == [(BOT, one)]
        rig.room.forbidden.add((BOT, "m.room.redaction"))
        rig.now += 60_000
        with structlog.testing.capture_logs() as logs:
            await here.expiry.redact_due()
        errors = [entry for entry in logs if entry["log_level"] == "error"]
        assert [(entry["event"], entry["event_id"]) for entry in errors] == [
            ("an expired message stays", "$two")
        ]
        ((aside, reason),) = SetAside(rig.database).last(MATRIX_ROOM, 5)
        assert (aside, reason.partition(":")[0]) == ("$two", "it has expired and was not redacted")
        # It is not tried for ever.
        rig.room.forbidden.clear()
        await here.expiry.redact_due()
        assert rig.redactions() == [(BOT, one)]


async def test_a_homeserver_that_is_away_when_a_message_ends_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with timers() as here:
        event_id = await here.say("$one", soon(1))
        here.rig.now += 1000
        failures = [503, 503]

        def away(when: str, request: httpx.Request) -> None:
            if when == "before" and failures:
                failures.pop()
                raise httpx.ConnectError("away")

        here.rig.homeserver.fault = away
        await here.expiry.redact_due()
        assert here.rig.redactions() == [(GHOST_BOB, event_id)]


async def test_what_a_user_says_at_a_provider_expires_as_theirs() -> None:
    async with timers() as here:
        await here.rig.prove()
        event_id = await here.say("$one", soon(1))
        here.rig.now += 1000
        await here.expiry.redact_due()
        assert here.rig.redactions() == [(CAROL, event_id)]
        event = here.rig.room.timeline[-1]
        assert here.rig.speaking.is_echo(event), "it is not carried to the provider"


async def test_the_bridge_waits_for_the_next_end_and_looks_again_when_there_is_a_sooner_one(
    autojump_clock: MockClock,
) -> None:
    """The machine's time may be set while the bridge sleeps, here on by an hour."""
    ahead = 0.0

    def clock() -> int:
        return START + int((trio.current_time() + ahead) * 1000)

    async with timers(clock) as here, trio.open_nursery() as nursery:
        began = trio.current_time()
        redacted: list[tuple[str, int]] = []

        def note(when: str, request: httpx.Request) -> None:
            if when == "after" and "m.room.redaction" in request.url.path:
                event = here.rig.room.timeline[-1]
                redacted.append((event["redacts"], round(trio.current_time() - began)))

        here.rig.homeserver.fault = note
        nursery.start_soon(here.expiry.run)
        await trio.sleep(5)
        later = await here.say("$later", soon(100))
        await trio.sleep(5)
        sooner = await here.say("$sooner", soon(10))
        hours = await here.say("$hours", soon(3600))
        await trio.sleep(115)
        ahead = 3600.0
        await trio.sleep(MAX_SLEEP + 1)
        nursery.cancel_scope.cancel()
    (one, two, (three, when)) = redacted
    assert [one, two, three] == [(sooner, 20), (later, 105), hours]
    assert 125 <= when <= 125 + MAX_SLEEP
