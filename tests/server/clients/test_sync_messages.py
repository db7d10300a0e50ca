"""Messages to devices in sync."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio

from linearized.server.clients import sync as sync_module
from linearized.store.base import NewToDevice
from linearized.store.sqlite import SqliteStore
from tests.server.clients.support import Client, Server


async def put(server: Server, client: Client, *bodies: str) -> None:
    messages = [
        NewToDevice(
            user_id=client.user_id,
            device_id=client.device_id or "",
            type="m.test",
            sender="@x:a.example",
            content=orjson.dumps({"n": body}),
        )
        for body in bodies
    ]
    await server.store.put_to_device(messages)
    server.node.notifier.users_changed([client.user_id])


def bodies(answer: Any) -> list[str]:
    return [event["content"]["n"] for event in answer["to_device"]["events"]]


async def test_a_message_to_a_device_stays_until_its_token_comes_back(server: Server, alice: Client) -> None:
    await put(server, alice, "1", "2")
    first = await alice.sync()
    assert bodies(first) == ["1", "2"]
    assert bodies(await alice.sync()) == ["1", "2"]
    await put(server, alice, "3")
    second = await alice.sync(first["next_batch"])
    assert bodies(second) == ["3"]
    left = server.store.to_device(alice.user_id, "DEVICE", after=0, limit=10)
    assert [orjson.loads(row.content)["n"] for row in left] == ["3"]
    assert bodies(await alice.sync(first["next_batch"])) == ["3"]
    assert bodies(await alice.sync(second["next_batch"])) == []
    assert server.store.to_device(alice.user_id, "DEVICE", after=0, limit=10) == []


async def test_a_token_that_acknowledges_nothing_new_writes_nothing(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(server, alice, "1")
    since = (await alice.sync())["next_batch"]
    await alice.sync(since)
    await put(server, alice, "2")
    monkeypatch.setattr(SqliteStore, "delete_to_device", lambda *_: pytest.fail("wrote"))
    assert bodies(await alice.sync(since)) == ["2"]


async def test_many_messages_come_in_several_answers(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "MAX_TO_DEVICE", 2)
    await put(server, alice, "1", "2", "3", "4", "5")
    told: list[str] = []
    answer = await alice.sync()
    while bodies(answer):
        told += bodies(answer)
        answer = await alice.sync(answer["next_batch"])
    assert told == ["1", "2", "3", "4", "5"]


async def test_a_message_to_a_device_ends_its_wait(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await alice.sync(since, timeout=30_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        await put(server, alice, "1")
    assert bodies(answers[0]) == ["1"]


async def test_messages_are_for_one_device_only(server: Server, alice: Client) -> None:
    tablet = await server.user("alice", "TABLET")
    await put(server, tablet, "1")
    assert bodies(await alice.sync()) == []
    assert bodies(await tablet.sync()) == ["1"]
    assert bodies(await server.bridge().sync()) == []
