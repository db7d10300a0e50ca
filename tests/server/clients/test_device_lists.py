"""Whose devices changed, as ``/sync`` tells it."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from linearized.protocol.canonical import JsonObject
from linearized.server import device_lists
from tests.server.clients.support import Client, Server
from tests.server.device_support import device_object


@pytest.fixture
async def clients(alice: Client, bob: Client) -> tuple[Client, Client]:
    """Alice and Bob of one server, in one room."""
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{quote(room_id)}", {})).ok()
    return alice, bob


async def publish(client: Client) -> None:
    said = device_object(client.user_id, client.device_id or "")
    (await client.call("POST", "/keys/upload", {"device_keys": said})).ok()


def changed(answer: JsonObject) -> list[str]:
    users: list[str] = answer["device_lists"]["changed"]
    return users


async def test_a_client_hears_once_whose_devices_changed(
    server: Server, clients: tuple[Client, Client]
) -> None:
    alice, bob = clients
    await publish(alice)
    first = await bob.sync()
    assert changed(first) == [], "a first sync knows no devices that could have changed"
    await publish(alice)
    await publish(bob)
    second = await bob.sync(since=first["next_batch"])
    assert changed(second) == sorted([alice.user_id, bob.user_id])
    assert changed(await bob.sync(since=first["next_batch"])) == changed(second), "until it says it heard"
    third = await bob.sync(since=second["next_batch"])
    assert changed(third) == []
    stranger = await server.user("carol")
    before = await stranger.sync()
    await publish(alice)
    assert changed(await stranger.sync(since=before["next_batch"])) == []


async def test_messages_that_still_wait_are_not_skipped_for_a_changed_device(
    server: Server, clients: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linearized.server.clients.sync.MAX_TO_DEVICE", 2)
    alice, bob = clients
    token = (await bob.sync())["next_batch"]

    async def message(number: int) -> None:
        body = {"messages": {bob.user_id: {"*": {"n": number}}}}
        (await alice.call("PUT", f"/sendToDevice/m.test/t{number}", body)).ok()

    await message(0)
    await publish(alice)
    for number in (1, 2):
        await message(number)
    await publish(alice)
    heard: list[object] = []
    for _ in range(3):
        answer = await bob.sync(since=token)
        token = answer["next_batch"]
        heard.append(([event["content"]["n"] for event in answer["to_device"]["events"]], changed(answer)))
    assert heard == [([0, 1], [alice.user_id]), ([2], [alice.user_id]), ([], [])]


async def test_what_is_noted_for_a_user_is_bounded(
    server: Server, clients: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lists, "MAX_NOTED", 3)
    alice, bob = clients
    for _ in range(6):
        await publish(alice)
    assert len(server.store.to_device(bob.user_id, device_lists.CHANGED, after=0, limit=99)) == 3
