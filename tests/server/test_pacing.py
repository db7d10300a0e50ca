"""How many requests events cost, and how long one waits for its turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from linearized.server.batches import MAX_PDUS
from linearized.server.pacing import (
    BURST,
    FEWEST_FULL_PER_SECOND,
    FEWEST_PER_SECOND,
    FULL,
    LONGEST_LINGER,
    REQUESTS_PER_SECOND,
    Pace,
)
from tests.server.deliveries import OTHER, Setting, delivering, linear, mimi, quiet

SPACING = 1 / REQUESTS_PER_SECOND


async def turns(pace: Pace, count: int) -> list[float]:
    """When ``count`` workers that ask at the same time have their turn, in seconds from then on."""
    began, given = trio.current_time(), list[float]()

    async def worker() -> None:
        await pace.turn()
        given.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(worker)
    return given


async def test_after_a_quiet_time_some_go_at_once_and_the_others_in_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace()
    for _ in range(2):
        given = await turns(pace, BURST + 10)
        assert given == pytest.approx([0.0] * BURST + [n * SPACING for n in range(1, 11)])
        await trio.sleep(1)


async def test_without_a_quiet_time_there_are_as_many_turns_as_planned(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace, given = Pace(), 0

    async def worker() -> None:
        nonlocal given
        while True:
            await pace.turn()
            given += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(worker)
        await trio.sleep(2 + SPACING / 2)
        nursery.cancel_scope.cancel()
    assert given == BURST + 2 * REQUESTS_PER_SECOND


async def test_nobody_waits_longer_than_the_bound(autojump_clock: trio.testing.MockClock) -> None:
    given = await turns(Pace(), BURST + 3 * REQUESTS_PER_SECOND)
    assert max(given) == pytest.approx(LONGEST_LINGER)


async def test_a_turn_that_was_not_needed_is_the_next_ones(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace()
    await turns(pace, BURST)
    assert await turns(pace, 1) == pytest.approx([SPACING])
    pace.give_back()
    assert await turns(pace, 2) == pytest.approx([0.0, SPACING])


async def test_a_full_request_counts_for_half_a_turn(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace()
    await turns(pace, BURST)
    began = trio.current_time()
    for _ in range(10):
        await pace.turn()
        pace.was_full()
    assert trio.current_time() - began == pytest.approx(10 * FULL / REQUESTS_PER_SECOND, abs=0.01)


async def test_a_loop_that_is_too_busy_is_given_fewer_requests_and_more_when_it_has_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace, work, given = Pace(), 0.005, 0  # seconds that the loop spends on a request: twice what it has

    async def worker() -> None:
        nonlocal given
        while True:
            await pace.turn()
            given += 1
            autojump_clock.jump(work)  # nobody else has the loop meanwhile
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(worker)
        await trio.sleep(10)
        began, given = trio.current_time(), 0
        late = []
        for _ in range(400):  # what comes in, meanwhile
            due = trio.current_time() + 0.025
            await trio.sleep_until(due)
            late.append(trio.current_time() - due)
        seconds = trio.current_time() - began
        assert FEWEST_PER_SECOND * seconds < given < 0.95 * seconds / work
        assert sum(late) / len(late) < 2 * work
        work = 0.0
        await trio.sleep(20)
        assert pace.per_second == pytest.approx(REQUESTS_PER_SECOND)
        nursery.cancel_scope.cancel()


async def test_the_slowest_machine_makes_some_requests(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace()

    async def worker() -> None:
        while True:
            await pace.turn()
            autojump_clock.jump(0.2)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(worker)
        await trio.sleep(200)
        assert pace.per_second == pytest.approx(FEWEST_PER_SECOND)
        nursery.cancel_scope.cancel()
    began = trio.current_time()
    for _ in range(2 * BURST):
        await pace.turn()
        pace.was_full()
    assert trio.current_time() - began <= 2 * BURST / FEWEST_FULL_PER_SECOND, "full ones are not made fuller"
    await trio.sleep(60)
    await pace.turn()
    assert pace.per_second == pytest.approx(REQUESTS_PER_SECOND), "after a quiet time it starts over"


# --- what it means for followers ---


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3") as running:
        yield running


def providers(count: int) -> list[str]:
    return [f"p{number}.example" for number in range(count)]


async def busy(setting: Setting, followers: int, *, events: int, per_second: int) -> list[float]:
    """Append events at a fixed rate; how long each needed to each follower, who all get all in order."""
    await setting.room(*(replace(linear(), provider=name) for name in providers(followers)))
    began = trio.current_time()
    for number in range(events):
        await trio.sleep_until(began + number / per_second)
        await setting.append()
    await trio.sleep(2 * LONGEST_LINGER)
    delays: list[float] = []
    for name in providers(followers):
        at = [time for time, to, _, pdus in setting.peer.sent if to == name for _ in pdus]
        assert len(at) == events
        delays += [time - began - number / per_second for number, time in enumerate(at)]
    assert setting.cursor() == [events] * followers
    return delays


async def test_an_event_after_a_quiet_time_is_sent_at_once(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    delays = await busy(setting, BURST, events=5, per_second=1)
    assert delays == pytest.approx([0.0] * 5 * BURST)
    assert len(setting.peer.sent) == 5 * BURST


async def test_ten_followers_of_a_busy_room_share_the_turns(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    delays = await busy(setting, 10, events=200, per_second=100)
    assert len(setting.peer.sent) <= BURST + 2.1 * REQUESTS_PER_SECOND, "not 2,000"
    assert max(delays) <= 11 * SPACING


async def test_a_hundred_followers_of_a_busy_room_get_many_events_at_a_time(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    delays = await busy(setting, 100, events=100, per_second=100)
    assert len(setting.peer.sent) <= BURST + 1.4 * REQUESTS_PER_SECOND, "not 10,000"
    assert max(delays) <= 101 * SPACING


async def test_a_backlog_goes_in_full_requests(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(linear())
    await setting.append(100 * MAX_PDUS)
    await trio.sleep(1)
    assert setting.cursor() == [100 * MAX_PDUS]
    assert [len(pdus) for *_, pdus in setting.peer.sent] == [MAX_PDUS] * 100


async def test_what_costs_no_request_costs_no_turn(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(mimi())
    await setting.room(replace(linear(), provider="c.example", room_id=OTHER), room_id=OTHER)
    for _ in range(10 * BURST):
        await setting.append()  # nothing that MIMI has a message for
        await quiet()
    began = trio.current_time()
    for _ in range(BURST):
        await setting.append(room_id=OTHER)
        await quiet()
    assert [time for time, *_ in setting.peer.sent] == [began] * BURST
