"""Devices: listed, named, and ended with the account's password."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients.devices import MAX_DISPLAY_NAME
from tests.server.clients.support import PASSWORD, V3, Client, Server, part


@pytest.fixture
async def phone(server: Server, laptop: Client) -> Client:
    return await server.user("dora", "PHONE")


def auth(**changed: Any) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": "dora"}
    return {
        "type": "m.login.password",
        "identifier": identifier,
        "password": PASSWORD,
        "session": "s",
        **changed,
    }


async def remaining(client: Client) -> list[str]:
    return [device["device_id"] for device in (await client.call("GET", "/devices")).ok()["devices"]]


async def test_a_device_gets_a_name_and_keeps_it_until_it_gets_another(laptop: Client, phone: Client) -> None:
    (await laptop.call("PUT", "/devices/PHONE", {"display_name": "Pocket"})).ok()
    assert (await laptop.call("GET", "/devices/PHONE")).ok() == {
        "device_id": "PHONE",
        "display_name": "Pocket",
    }
    (await laptop.call("PUT", "/devices/PHONE", {})).ok()
    assert (await phone.call("GET", "/devices/PHONE")).ok()["display_name"] == "Pocket"


async def test_a_name_does_not_log_the_device_out(laptop: Client, phone: Client) -> None:
    (await laptop.call("PUT", "/devices/PHONE", {"display_name": "Pocket"})).ok()
    (await phone.call("GET", "/account/whoami")).ok()


async def test_only_ones_own_devices_are_there(server: Server, laptop: Client) -> None:
    await server.user("eve", "EVE")
    for method, body in (("GET", None), ("PUT", {"display_name": "mine"})):
        (await laptop.call(method, "/devices/EVE", body)).refused(404, "M_NOT_FOUND")
        (await laptop.call(method, "/devices/NONE", body)).refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "code"), [("x" * (MAX_DISPLAY_NAME + 1), "M_INVALID_PARAM"), (1, "M_BAD_JSON")]
)
async def test_a_name_that_is_none_is_refused(laptop: Client, name: Any, code: str) -> None:
    (await laptop.call("PUT", "/devices/LAPTOP", {"display_name": name})).refused(400, code)


async def test_the_password_ends_a_device_and_its_session(laptop: Client, phone: Client) -> None:
    asked = (await laptop.call("DELETE", "/devices/PHONE", {})).refused(401, "M_FORBIDDEN")
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    (await laptop.call("DELETE", "/devices/PHONE", {"auth": auth(session=asked["session"])})).ok()
    (await phone.call("GET", "/account/whoami")).refused(401, "M_UNKNOWN_TOKEN")
    assert await remaining(laptop) == ["LAPTOP"]
    (await laptop.call("DELETE", "/devices/PHONE", {"auth": auth()})).ok()


async def test_several_devices_are_ended_at_once_and_none_of_anybody_else(
    server: Server, laptop: Client, phone: Client
) -> None:
    eve = await server.user("eve", "EVE")
    named = ["PHONE", "EVE", "NONE", "PHONE"]
    (await laptop.call("POST", "/delete_devices", {"devices": named, "auth": auth()})).ok()
    assert (await remaining(laptop), await remaining(eve)) == (["LAPTOP"], ["EVE"])


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"password": "wrong"}, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "eve"}}, "M_FORBIDDEN"),
        ({"type": "m.login.token"}, "M_UNRECOGNIZED"),
    ],
)
async def test_without_the_right_password_no_device_ends(
    laptop: Client, phone: Client, changed: dict[str, Any], code: str
) -> None:
    for method, path, body in (
        ("DELETE", "/devices/PHONE", {}),
        ("POST", "/delete_devices", {"devices": ["PHONE"]}),
    ):
        told = (await laptop.call(method, path, {**body, "auth": auth(**changed)})).refused(401, code)
        assert (told["session"], told["flows"]) == ("s", [{"stages": ["m.login.password"]}])
    assert await remaining(laptop) == ["LAPTOP", "PHONE"]


async def test_guessing_a_password_this_way_is_limited_as_logging_in_is(laptop: Client) -> None:
    for _ in range(30):
        answer = await laptop.call("DELETE", "/devices/PHONE", {"auth": auth(password="wrong")})
        if answer.status == 429:
            break
    answer.refused(429, "M_LIMIT_EXCEEDED")


async def test_a_bridge_ends_its_users_devices_without_a_password(server: Server) -> None:
    user_id = "@ghost:matrix.example"
    body = {"type": "m.login.application_service", "username": user_id, "device_id": "GHOST"}
    (await server.bridge().call("POST", "/register", body)).ok()
    ghost = server.bridge(user_id)
    assert await remaining(ghost) == ["GHOST"]
    (await ghost.call("DELETE", f"/devices/{part('GHOST')}")).ok()
    assert await remaining(ghost) == []


async def test_nobody_without_a_session_gets_as_far_as_the_password(server: Server, laptop: Client) -> None:
    answer = await server.call("DELETE", f"{V3}/devices/LAPTOP", {"auth": auth()})
    answer.refused(401, "M_MISSING_TOKEN")
    assert await remaining(laptop) == ["LAPTOP"]
