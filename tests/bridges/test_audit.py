from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from bridges.matrix.audit import (
    AUDIT_PAGE,
    CATCH_UP_DEADLINE,
    MAX_PAGES,
    QUIET_AUDITS,
    Audits,
    CatchingUp,
)
from bridges.matrix.database import Database
from bridges.matrix.failures import RETRY_PAUSE
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.queue import Incoming, IncomingQueue
from linearized.client import ApiError, Page, ServerUnreachable

ROOM, OTHER = "!r:hs.test", "!other:hs.test"


class Timeline:
    """A homeserver's rooms, oldest first, each with the same events. ``failures`` are what it answers first,
    ``silent`` is a room of which it says nothing, ``meanwhile`` what happens before it has answered.
    """

    def __init__(self, *, size: int = 0, silent: str = "") -> None:
        self.silent = silent
        self.failures: list[Exception] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.events = [{"event_id": f"${number}"} for number in range(size)]
        self.asked: list[str] = []

    async def messages_before(self, room_id: str, token: str | None, *, limit: int) -> Page:
        self.asked.append(room_id)
        if self.failures:
            raise self.failures.pop(0)
        if room_id == self.silent:
            await trio.sleep_forever()
        end = len(self.events) if token is None else int(token)
        start = max(0, end - limit)
        chunk: list[dict[str, Any]] = [{**event, "room_id": room_id} for event in self.events[start:end]]
        self.meanwhile()
        return Page(chunk=chunk[::-1], end=str(start) if start else None)


@dataclass
class Restored:
    """What is asked whether the homeserver was restored."""

    suspected: int = 0
    looked: list[str] = field(default_factory=list)

    def suspect(self) -> None:
        self.suspected += 1

    async def look(self, link: Link) -> bool:
        self.looked.append(link.matrix_room_id)
        return False


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database(":memory:")
    yield found
    found.close()


def links(database: Database) -> list[Link]:
    found = RoomLinks(database)
    for room in (ROOM, OTHER):
        found.begin(room)
        found.set_phase(room, Phase.LIVE)
    return [found.begin(room) for room in (ROOM, OTHER)]


async def test_what_was_forgotten_is_queued_oldest_first(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=3)
    audits, room = Audits(server, queue), links(database)[0]
    assert await audits.run(room) == 3
    first = queue.next()
    assert first is not None
    assert [first.event_id, *(one.event_id for one in queue.behind(first, 5))] == ["$0", "$1", "$2"]
    assert await audits.run(room) == 0


async def test_an_audit_reads_three_pages_and_a_look_before_a_transaction_one(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=5 * AUDIT_PAGE)
    room = links(database)[0]
    for number in range(5 * AUDIT_PAGE):
        queue.add({"event_id": f"${number}", "room_id": ROOM})
    audits = Audits(server, queue)
    await audits.run(room)
    assert len(server.asked) == 3
    await audits.catch_up(room)
    assert len(server.asked) == 4


async def test_an_audit_ends_after_so_many_pages(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=(MAX_PAGES + 1) * AUDIT_PAGE)
    assert await Audits(server, queue).run(links(database)[0]) == MAX_PAGES * AUDIT_PAGE


async def test_where_something_was_found_an_audit_looks_again_until_it_has_been_quiet(
    database: Database,
) -> None:
    queue, server = IncomingQueue(database), Timeline(size=8 * AUDIT_PAGE)
    audits, room = Audits(server, queue), links(database)[0]
    late = [*range(110, 120), *range(310, 320)]
    for number in set(range(8 * AUDIT_PAGE)) - set(late):
        queue.add({"event_id": f"${number}", "room_id": ROOM})
    # So far back looks nobody who has no reason to.
    assert await audits.run(room) == 0
    # What is new on the third page leads to the fifth, whose end is remembered.
    whole = server.events
    server.events = [event for event in whole if int(event["event_id"][1:]) not in late]
    server.events[-250:-250] = [{"event_id": "$x"}]
    server.events[-350:-350] = [{"event_id": "$y"}]
    assert await audits.run(room) == 2
    # Something more turns up there later, when nothing before it is new, and much has been said since.
    server.events[-355:-355] = [{"event_id": "$z"}]
    server.events += [{"event_id": f"$new{number}"} for number in range(5 * AUDIT_PAGE)]
    for number in range(5 * AUDIT_PAGE):
        queue.add({"event_id": f"$new{number}", "room_id": ROOM})
    assert await audits.run(room) == 1
    # Something newer that is found on the way does not make it forget how far it went.
    server.events[-5:-5] = [{"event_id": "$n"}]
    assert await audits.run(room) == 1
    server.events[-870:-870] = [{"event_id": "$o"}]
    assert await audits.run(room) == 1
    for _ in range(QUIET_AUDITS):
        del server.asked[:]
        assert await audits.run(room) == 0
        assert len(server.asked) > 3
    del server.asked[:]
    assert await audits.run(room) == 0
    assert len(server.asked) == 3


# --- before the next event of a room ---


def pushed(queue: IncomingQueue, *numbers: int, room_id: str = ROOM) -> None:
    for number in numbers:
        queue.add({"event_id": f"${number}", "room_id": room_id})


def catching_up(database: Database, server: Timeline, queue: IncomingQueue) -> CatchingUp:
    links(database)
    found = CatchingUp(Audits(server, queue), queue, RoomLinks(database), Restored())
    found.note("1", None)
    return found


async def handed_out(database: Database, next_one: Callable[[], Awaitable[Incoming | None]]) -> list[str]:
    """What comes, one after another."""
    found, queue = [], IncomingQueue(database)
    while (incoming := await next_one()) is not None:
        found.append(incoming.event_id)
        queue.finish(incoming)
    return found


async def test_what_was_forgotten_comes_in_its_place_though_what_is_newer_waits_or_is_held_already(
    database: Database,
) -> None:
    queue, server = IncomingQueue(database), Timeline(size=6)
    waits = catching_up(database, server, queue)
    pushed(queue, 0, 2, 3, 5)
    database.run("UPDATE incoming SET state = 'held' WHERE event_id = '$3'")
    first = await waits.next()
    assert first is not None
    assert first.event_id == "$0"
    rows = database.all("SELECT event_id, state FROM incoming ORDER BY position")
    assert [row["event_id"] for row in rows] == ["$0", "$1", "$2", "$3", "$4", "$5"]
    assert [row["event_id"] for row in rows if row["state"] == "held"] == ["$3"]


async def test_what_was_pushed_out_of_order_comes_in_the_homeservers_order(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=4)
    waits = catching_up(database, server, queue)
    pushed(queue, 0, 3, 1, 2)
    assert await handed_out(database, waits.next) == ["$0", "$1", "$2", "$3"]


async def test_what_is_pushed_while_a_room_is_read_stays_behind_what_was_read(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=4)
    waits = catching_up(database, server, queue)
    pushed(queue, 2)
    # One that is in the answer as well, before what is missing, and one that is newer than the answer.
    server.meanwhile = lambda: pushed(queue, 0, 4)
    assert await handed_out(database, waits.next) == ["$0", "$1", "$2", "$3", "$4"]


async def test_every_room_is_read_once_after_a_break_and_before_its_own_next_event(
    database: Database,
) -> None:
    queue, server = IncomingQueue(database), Timeline(size=1)
    waits = catching_up(database, server, queue)
    server.events = []
    pushed(queue, 10, 11)
    assert await handed_out(database, waits.next) == ["$10", "$11"]
    assert server.asked == [ROOM]
    # The transaction that shows the break has no event; the next one has one of the other room.
    waits.note("7", None)
    assert await waits.next() is None
    waits.note("8", None)
    pushed(queue, 12, room_id=OTHER)
    assert await handed_out(database, waits.next) == ["$12"]
    server.events = [{"event_id": "$13"}, {"event_id": "$14"}]
    pushed(queue, 14)
    assert await handed_out(database, waits.next) == ["$13", "$14"]
    assert server.asked == [ROOM, OTHER, ROOM]


async def test_where_each_transaction_is_a_break_each_event_waits_for_one_reading(
    database: Database,
) -> None:
    queue, server = IncomingQueue(database), Timeline()
    waits = catching_up(database, server, queue)
    numbers = iter(range(3, 100, 2))
    server.meanwhile = lambda: waits.note(str(next(numbers)), None)
    pushed(queue, 1, 2)
    assert await handed_out(database, waits.next) == ["$1", "$2"]
    assert server.asked == [ROOM, ROOM]


async def test_a_room_that_is_not_bridged_is_not_read(database: Database) -> None:
    queue, server = IncomingQueue(database), Timeline(size=1)
    waits = catching_up(database, server, queue)
    pushed(queue, 5, room_id="!chat:hs.test")
    assert await handed_out(database, waits.next) == ["$5"]
    assert server.asked == []


async def test_events_wait_while_the_homeserver_is_away_and_not_if_it_refuses(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    queue, server = IncomingQueue(database), Timeline(size=2)
    waits = catching_up(database, server, queue)
    pushed(queue, 1)
    server.failures = [ServerUnreachable("away")]
    began = trio.current_time()
    assert await handed_out(database, waits.next) == ["$0", "$1"]
    assert trio.current_time() - began == pytest.approx(RETRY_PAUSE)
    pushed(queue, 2, room_id=OTHER)
    server.failures = [ApiError(403, "M_FORBIDDEN", "no")]
    began = trio.current_time()
    assert await handed_out(database, waits.next) == ["$2"]
    assert trio.current_time() == began


async def test_events_do_not_wait_for_ever_for_a_homeserver_that_says_nothing(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    queue, server = IncomingQueue(database), Timeline(silent=ROOM)
    waits = catching_up(database, server, queue)
    pushed(queue, 1, 2)
    began = trio.current_time()
    assert await handed_out(database, waits.next) == ["$1", "$2"]
    assert trio.current_time() - began == pytest.approx(CATCH_UP_DEADLINE)
