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


async def test_whom_one_meets_and_whom_one_meets_no_more_is_told(
    server: Server, alice: Client, bob: Client
) -> None:
    room_id, second = [await alice.create_room(preset="public_chat") for _ in range(2)]
    before = [await client.sync() for client in (alice, bob)]
    for known in (room_id, second):
        (await bob.call("POST", f"/join/{quote(known)}", {})).ok()
    tokens = []
    for client, other, answer in zip((alice, bob), (bob, alice), before, strict=True):
        met = await client.sync(since=answer["next_batch"])
        assert met["device_lists"] == {"changed": [other.user_id], "left": []}
        tokens.append(met["next_batch"])
    (await bob.call("POST", f"/rooms/{quote(second)}/leave", {})).ok()
    kept = [await client.sync(since=token) for client, token in zip((alice, bob), tokens, strict=True)]
    assert [answer["device_lists"]["left"] for answer in kept] == [[], []], "one room is left to them"
    (await bob.call("POST", f"/rooms/{quote(room_id)}/leave", {})).ok()
    for client, other, answer in zip((alice, bob), (bob, alice), kept, strict=True):
        parted = await client.sync(since=answer["next_batch"])
        assert parted["device_lists"] == {"changed": [], "left": [other.user_id]}
        after = await client.sync(since=parted["next_batch"])
        assert after["device_lists"] == {"changed": [], "left": []}


async def test_an_invitation_turned_down_parts_nobody(server: Server, alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    token = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"/rooms/{quote(room_id)}/leave", {})).ok()
    answer = await bob.sync(since=token)
    assert room_id in answer["rooms"]["leave"]
    assert answer["device_lists"] == {"changed": [], "left": []}


async def test_a_first_sync_and_one_of_all_state_name_nobody(
    server: Server, clients: tuple[Client, Client]
) -> None:
    _, bob = clients
    first = await bob.sync()
    assert first["device_lists"] == {"changed": [], "left": []}
    again = await bob.sync(since=first["next_batch"], full_state="true")
    assert again["device_lists"] == {"changed": [], "left": []}


async def test_no_more_users_than_allowed_are_named_as_left(
    server: Server, clients: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = clients
    carol = await server.user("carol")
    (room_id,) = (await bob.sync())["rooms"]["join"]
    (await carol.call("POST", f"/join/{quote(room_id)}", {})).ok()
    token = (await bob.sync())["next_batch"]
    monkeypatch.setattr("linearized.server.clients.sync.MAX_LEFT", 1)
    (await bob.call("POST", f"/rooms/{quote(room_id)}/leave", {})).ok()
    assert (await bob.sync(since=token))["device_lists"]["left"] == [alice.user_id]
