"""Cursors that move ahead of the database, and are written together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
import structlog.testing
import trio

from linearized.exceptions import StoreError
from linearized.server.progress import CLOSE_SECONDS, WRITE_SECONDS, Progress
from linearized.store.base import FollowerRow, Store

ROW = FollowerRow(room_id="!r:a.example", provider="b.example", protocol="linearized", cursor=3)
OTHER = replace(ROW, provider="c.example")


@dataclass
class Disk:
    """Records each write, or fails, or takes as long as it is told to."""

    writes: list[list[tuple[str, int]]] = field(default_factory=list)
    full: bool = False
    seconds: float = 0

    async def move_cursors(self, followers: Sequence[FollowerRow]) -> None:
        await trio.sleep(self.seconds)
        if self.full:
            raise StoreError("the disk is full")
        self.writes.append([(row.provider, row.cursor) for row in followers])


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def progress(disk: Disk, nursery: trio.Nursery) -> Progress:
    made = Progress(cast("Store", disk))
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def test_a_cursor_is_known_at_once_and_written_soon_with_all_others(
    progress: Progress, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    for cursor in (4, 5):
        progress.move(ROW, cursor)
    progress.move(OTHER, 9)
    assert (progress.of(ROW).cursor, progress.of(OTHER).cursor) == (5, 9)
    assert progress.of(replace(ROW, protocol="mimi")).cursor == 3
    assert disk.writes == []
    await trio.sleep(2 * WRITE_SECONDS)
    assert disk.writes == [[("b.example", 5), ("c.example", 9)]]
    assert progress.of(ROW) is ROW, "from now on the database knows"


async def test_a_stop_that_was_written_in_between_counts(progress: Progress) -> None:
    progress.move(ROW, 5)
    assert progress.of(replace(ROW, stop_seq=5)) == replace(ROW, cursor=5, stop_seq=5)
    assert progress.of(replace(ROW, cursor=7)).cursor == 7


async def test_what_moves_while_it_is_written_is_written_again(
    progress: Progress, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    disk.seconds = WRITE_SECONDS
    progress.move(ROW, 4)
    await trio.sleep(1.5 * WRITE_SECONDS)
    progress.move(ROW, 5)
    await trio.sleep(WRITE_SECONDS)
    assert disk.writes == [[("b.example", 4)]]
    assert progress.of(ROW).cursor == 5
    await trio.sleep(2 * WRITE_SECONDS)
    assert disk.writes == [[("b.example", 4)], [("b.example", 5)]]


async def test_nothing_is_written_while_nothing_moves(
    progress: Progress, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    progress.move(ROW, 4)
    await trio.sleep(1000)
    assert len(disk.writes) == 1


async def test_a_write_that_fails_is_made_up_for(
    progress: Progress, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    disk.full = True
    progress.move(ROW, 4)
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(2 * WRITE_SECONDS)
    assert {entry["event"] for entry in logs} == {"cursors_not_written"}
    assert progress.of(ROW).cursor == 4
    disk.full = False
    await trio.sleep(2 * WRITE_SECONDS)
    assert disk.writes == [[("b.example", 4)]]


async def test_the_last_moves_are_written_when_the_server_stops(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    progress = Progress(cast("Store", disk))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run)
        progress.move(ROW, 4)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert disk.writes == [[("b.example", 4)]]


async def test_a_disk_that_hangs_does_not_hold_up_the_stop(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    progress = Progress(cast("Store", disk))
    disk.seconds = 10 * CLOSE_SECONDS
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run)
        progress.move(ROW, 4)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - before == pytest.approx(CLOSE_SECONDS)
