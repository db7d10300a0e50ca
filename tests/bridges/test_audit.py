from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from bridges.matrix.audit import AUDIT_PAGE, CATCH_UP_DEADLINE, MAX_PAGES, QUIET_AUDITS, Audits
from bridges.matrix.database import Database
from bridges.matrix.records import IncomingQueue, Link, Phase, RoomLinks
from linearized.client import Page, ServerUnreachable

ROOM, OTHER = "!r:hs.test", "!other:hs.test"


class Timeline:
    """A homeserver's rooms, oldest first. One that is away does not answer, or never."""

    def __init__(self, *, away: str = "", silent: str = "", size: int = 0) -> None:
        self.away, self.silent = away, silent
        self.events = [{"event_id": f"${number}"} for number in range(size)]
        self.asked: list[str] = []

    async def messages_before(self, room_id: str, token: str | None, *, limit: int) -> Page:
        self.asked.append(room_id)
        if room_id == self.away:
            raise ServerUnreachable("away")
        if room_id == self.silent:
            await trio.sleep_forever()
        end = len(self.events) if token is None else int(token)
        start = max(0, end - limit)
        chunk: list[dict[str, Any]] = [{**event, "room_id": room_id} for event in self.events[start:end]]
        return Page(chunk=chunk[::-1], end=str(start) if start else None)


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
    await audits.catch_up([room])
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


async def test_a_room_that_the_homeserver_does_not_show_keeps_no_other_from_catching_up(
    database: Database,
) -> None:
    queue, server = IncomingQueue(database), Timeline(away=ROOM, size=2)
    assert await Audits(server, queue).catch_up(links(database)) == 2


async def test_a_transaction_does_not_wait_for_a_homeserver_that_says_nothing(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    queue, server = IncomingQueue(database), Timeline(silent=OTHER, size=2)
    began = trio.current_time()
    assert await Audits(server, queue).catch_up(links(database)) == 2
    assert trio.current_time() - began == pytest.approx(CATCH_UP_DEADLINE)
