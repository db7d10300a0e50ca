"""Syncs that wait for news."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from linearized.server.clients import sync as sync_module
from tests.server.clients.rows import append, entry
from tests.server.clients.support import Client, Server, part
from tests.server.clients.sync_support import ROOM, types


async def test_a_sync_without_news_waits_until_its_time_is_up(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    answer = await alice.sync(since, timeout=30_000)
    assert trio.current_time() - start == pytest.approx(30)
    assert answer["rooms"]["join"] == {}


async def test_no_sync_waits_longer_than_the_bound(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    await alice.sync(since, timeout=10**9)
    assert trio.current_time() - start == pytest.approx(sync_module.MAX_WAIT_MS / 1000)


async def test_news_ends_the_wait_at_once(
    server: Server, alice: Client, bob: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    since = (await bob.sync())["next_batch"]
    start = trio.current_time()
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await bob.sync(since, timeout=30_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        (await alice.send(room_id, "hello", "t1")).ok()
    assert trio.current_time() - start == pytest.approx(5)
    assert types(answers[0]["rooms"]["join"][room_id]["timeline"]["events"]) == ["m.room.message"]


async def test_a_change_that_tells_the_user_nothing_does_not_end_the_wait(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    tokens: list[str] = []

    async def wait() -> None:
        tokens.append((await alice.sync(since, timeout=30_000))["next_batch"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        await append(server.store, ROOM, entry(ROOM, 1))
        server.node.notifier.users_changed([alice.user_id])
    assert trio.current_time() - start == pytest.approx(30)
    assert tokens == [f"s{server.store.position()}_0"]


async def test_a_device_that_logs_out_stops_waiting(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    statuses: list[int] = []

    async def wait() -> None:
        answer = await alice.call("GET", "/sync", query={"since": since, "timeout": 30_000})
        statuses.append(answer.status)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        (await alice.call("POST", "/logout", {})).ok()
    assert statuses == [401]
    assert trio.current_time() - start == pytest.approx(5)
