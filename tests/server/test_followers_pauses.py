"""Delivery to other providers that fail: what a failure costs whom, and for how long."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.exceptions import StoreError
from linearized.server.outbound import OutboundError
from linearized.server.pauses import LONGEST_ASKED_PAUSE, LONGEST_PAUSE
from linearized.server.providers.client import Answer, ProviderError
from linearized.store.base import FollowerRow
from tests.room.support import ROOM
from tests.server.deliveries import (
    OTHER,
    Setting,
    delivering,
    linear,
    messages,
    mimi,
    quiet,
)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3") as running:
        yield running


async def test_pauses_double_up_to_a_longest_and_start_over_after_a_success(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    (entry,) = messages(1)
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(10)]
    await setting.append_rows([entry])
    await trio.sleep(500)
    times = setting.peer.times
    assert len(times) == 11
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE])
    assert setting.cursor() == [1]
    setting.peer.answers = [ProviderError("down again")]
    await setting.append_rows(messages(1))
    await trio.sleep(10)
    assert setting.peer.times[-1] - setting.peer.times[-2] == pytest.approx(0.5)


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0.25), (0.999, 0.7495)])
async def test_pauses_are_spread(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, jitter: float, wait: float
) -> None:
    async with delivering(tmp_path / "store.sqlite3", jitter=jitter) as setting:
        await setting.room(mimi())
        setting.peer.answers = [ProviderError("down")]
        await setting.append_rows(messages(1))
        await trio.sleep(10)
        first, second = setting.peer.times
        assert second - first == pytest.approx(wait)


@pytest.mark.parametrize(("asked", "wait"), [(7.0, 7.0), (1e9, LONGEST_ASKED_PAUSE)])
async def test_a_pause_that_was_asked_for_is_kept_whoever_calls(
    setting: Setting, autojump_clock: trio.testing.MockClock, asked: float, wait: float
) -> None:
    await setting.room(mimi())
    setting.peer.answers = [Answer(429, b"", retry_after_s=asked)]
    await setting.append_rows(messages(1))
    await trio.sleep(1)
    setting.followers.contacted("b.example")
    await setting.append()
    await trio.sleep(2 * LONGEST_ASKED_PAUSE)
    first, second = setting.peer.times[:2]
    assert second - first == pytest.approx(wait)
    assert setting.cursor() == [2]


async def test_a_provider_that_calls_is_back(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(9)]
    await setting.append_rows(messages(1))
    await trio.sleep(130)
    assert len(setting.peer.times) == 9
    now = trio.current_time()
    setting.followers.contacted("b.example")
    setting.followers.contacted("nobody.example")
    await quiet()
    assert setting.peer.times[9:] == [now]
    assert setting.cursor() == [1]


async def test_something_new_ends_no_pause(setting: Setting, autojump_clock: trio.testing.MockClock) -> None:
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(4)]
    await setting.append_rows(messages(1))
    await trio.sleep(3.6)
    assert len(setting.peer.times) == 4
    for _ in range(3):
        await setting.append()
        await quiet()
    assert len(setting.peer.times) == 4
    await trio.sleep(4)
    assert setting.cursor() == [4]


async def test_a_room_that_is_refused_holds_up_no_other(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(mimi())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    setting.peer.refused_rooms.add("mimi://a.example/r/clubhouse")
    await setting.append_rows(messages(1))
    await quiet()
    await setting.append_rows(messages(1))  # still refused: not tried again for that
    await setting.append(room_id=OTHER)
    await quiet()
    assert (len(setting.peer.notified), len(setting.peer.sent)) == (1, 1)
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    await trio.sleep(0.5)
    await quiet()
    assert len(setting.peer.notified) == 2
    setting.followers.contacted("b.example")
    await quiet()
    assert len(setting.peer.notified) == 3
    setting.peer.refused_rooms.clear()
    await trio.sleep(100)
    assert setting.cursor() == [2]


async def test_an_outage_is_met_once_not_once_for_each_room(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    setting.peer.send_answer = OutboundError("unreachable")
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert len(setting.peer.sent) == 1
    setting.peer.send_answer = {}
    await trio.sleep(1)
    assert (setting.cursor(), setting.cursor(OTHER)) == ([1], [1])


async def test_our_own_trouble_ends_no_worker(
    setting: Setting, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    real, broken = setting.store.cursors, True

    def cursors(room_id: str, provider: str) -> list[FollowerRow]:
        if room_id == ROOM and broken:
            raise StoreError("the disk is broken")
        return real(room_id, provider)

    monkeypatch.setattr(setting.store, "cursors", cursors)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    broken = False
    await trio.sleep(1)
    assert setting.cursor() == [1]
