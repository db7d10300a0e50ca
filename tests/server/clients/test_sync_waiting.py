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


async def test_hundreds_of_idle_syncs_ask_the_store_for_nothing_and_all_hear_the_news(
    alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room()
    since, polls, reads = (await alice.sync())["next_batch"], 200, 0
    store = alice.server.store
    read = store.changed_rooms
    told: list[Any] = []

    def counted(position: int) -> dict[str, int]:
        nonlocal reads
        reads += 1
        return read(position)

    async def wait() -> None:
        told.append(await alice.sync(since, timeout=50_000))

    async with trio.open_nursery() as nursery:
        for _ in range(polls):
            nursery.start_soon(wait)
        await trio.sleep(1)
        with monkeypatch.context() as patch:
            patch.setattr(store, "changed_rooms", counted)
            await trio.sleep(40)
        assert (len(told), reads) == (0, 0)
        (await alice.send(room_id, "hello", "t")).ok()
    assert [types(answer["rooms"]["join"][room_id]["timeline"]["events"]) for answer in told] == [
        ["m.room.message"]
    ] * polls
