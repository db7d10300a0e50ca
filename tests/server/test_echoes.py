"""What LPDUs have become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.server.echoes import ECHO_SECONDS, Echoes
from linearized.store.base import Reply
from linearized.store.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "a.db", synchronous="OFF", in_thread=False)
    await nursery.start(opened.run)
    yield opened
    await opened.aclose()


async def test_of_two_who_wait_for_the_same_one_may_give_up(
    store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    echoes = Echoes(store)
    heard: list[str] = []

    async def wait(seconds: float) -> None:
        with trio.move_on_after(seconds), echoes.expected("key") as echo:
            heard.append(await echo.event_id())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, ECHO_SECONDS)
        await trio.sleep(2)
        echoes.arrived([Reply(scope="echo !room:a.example", key="key", value="$event")])
    assert heard == ["$event"]


async def test_an_echo_that_does_not_come_in_time_is_not_waited_for_longer(
    store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError), Echoes(store).expected("key") as echo:
        await echo.event_id()
    assert trio.current_time() == began + ECHO_SECONDS
