"""Messages from device to device."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import to_device
from tests.server.clients.support import Client, Server


async def send(client: Client, messages: Any, txn: str = "t1", event_type: str = "m.test") -> Any:
    return await client.call("PUT", f"/sendToDevice/{event_type}/{txn}", {"messages": messages})


async def received(client: Client) -> list[Any]:
    events: list[Any] = (await client.sync())["to_device"]["events"]
    return events


async def test_a_message_reaches_the_device_it_names_once(server: Server, alice: Client, bob: Client) -> None:
    tablet = await server.user("bob", "TABLET")
    for _ in range(2):
        (await send(alice, {bob.user_id: {"DEVICE": {"n": 1}}})).ok()
    assert await received(bob) == [{"content": {"n": 1}, "sender": alice.user_id, "type": "m.test"}]
    assert await received(tablet) == []


async def test_a_star_reaches_every_device(server: Server, alice: Client, bob: Client) -> None:
    tablet = await server.user("bob", "TABLET")
    (await send(alice, {bob.user_id: {"*": {"n": 1}}})).ok()
    assert len(await received(bob)) == len(await received(tablet)) == 1


async def test_a_device_that_is_not_there_gets_nothing(server: Server, alice: Client, bob: Client) -> None:
    (await send(alice, {bob.user_id: {"GONE": {}}, "@nobody:a.example": {"*": {}}})).ok()
    assert server.store.to_device_position() == 0


@pytest.mark.parametrize(
    ("messages", "status", "errcode"),
    [
        ({"bob": {"*": {}}}, 400, "M_INVALID_PARAM"),
        ({"@bob:b.example": {"*": {}}}, 403, "M_FORBIDDEN"),
        ({"@bob:a.example": []}, 400, "M_BAD_JSON"),
        ({"@bob:a.example": {"DEVICE": 1}}, 400, "M_BAD_JSON"),
        ({"@bob:a.example": {"DEVICE": {"x": "y" * 65_536}}}, 413, "M_TOO_LARGE"),
        ({"@bob:a.example": {"DEVICE": {"algorithm": "m.mls.v1.welcome.x"}}}, 403, "M_FORBIDDEN"),
        (None, 400, "M_BAD_JSON"),
    ],
)
async def test_what_cannot_be_delivered_is_refused_whole(
    server: Server, alice: Client, messages: Any, status: int, errcode: str
) -> None:
    await server.user("bob")
    body = {} if messages is None else {"messages": messages}
    (await alice.call("PUT", "/sendToDevice/m.test/t1", body)).refused(status, errcode)
    assert server.store.to_device_position() == 0


async def test_what_only_servers_send_no_device_sends(alice: Client, bob: Client) -> None:
    answer = await send(alice, {bob.user_id: {"*": {}}}, event_type="m.mls.commit")
    answer.refused(403, "M_FORBIDDEN")


async def test_one_request_reaches_a_bounded_number_of_devices(
    server: Server, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.user("bob", "TABLET")
    monkeypatch.setattr(to_device, "MAX_MESSAGES", 1)
    (await send(alice, {bob.user_id: {"*": {}}})).refused(400, "M_INVALID_PARAM")


async def test_devices_are_looked_up_once_for_each_of_a_bounded_number_of_users(
    server: Server, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []
    real = type(server.store).devices

    def devices(store: Any, user_id: str) -> Any:
        lookups.append(user_id)
        return real(store, user_id)

    monkeypatch.setattr(type(server.store), "devices", devices)
    (await send(alice, {bob.user_id: {f"GONE{number}": {} for number in range(1000)}})).ok()
    assert lookups == [bob.user_id]
    many: dict[str, Any] = {f"@user{number}:a.example": {"X": {}} for number in range(501)}
    (await send(alice, many, txn="t2")).refused(400, "M_INVALID_PARAM")
    assert lookups == [bob.user_id]
