"""Logging in and out, registering, devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from linearized.server.clients import accounts
from linearized.server.clients.passwords import SALT_BYTES, hash_password
from linearized.store.base import UserRow
from tests.server.clients.support import BOT, BRIDGE_TOKEN, START_MS, V3, Answer, Server

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password(PASSWORD, salt=bytes(range(SALT_BYTES)))


@pytest.fixture
async def account(server: Server, stored: str) -> str:
    user_id = "@dora:a.example"
    await server.store.put_user(UserRow(user_id=user_id, password_hash=stored, created_ts=START_MS))
    return user_id


async def log_in(server: Server, user: str, password: str = PASSWORD, **extra: Any) -> Answer:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    }
    address = extra.pop("address", "192.0.2.1")
    return await server.call("POST", f"{V3}/login", {**body, **extra}, address=address)


async def whoami(server: Server, token: str) -> Answer:
    return await server.call("GET", f"{V3}/account/whoami", token=token)


async def test_the_ways_to_log_in_are_listed(server: Server) -> None:
    flows = (await server.call("GET", f"{V3}/login")).ok()["flows"]
    assert [flow["type"] for flow in flows] == [
        "m.login.password",
        "m.login.application_service",
        "m.login.token",
    ]


@pytest.mark.parametrize("user", ["dora", "@dora:a.example"])
async def test_a_password_opens_a_session(server: Server, account: str, user: str) -> None:
    session = (await log_in(server, user, initial_device_display_name="Laptop")).ok()
    assert session["user_id"] == account
    answer = (await whoami(server, session["access_token"])).ok()
    assert answer["device_id"] == session["device_id"]
    listed = (await server.call("GET", f"{V3}/devices", token=session["access_token"])).ok()
    assert listed == {"devices": [{"device_id": session["device_id"], "display_name": "Laptop"}]}


async def test_clients_from_before_identifiers_log_in_too(server: Server, account: str) -> None:
    body = {"type": "m.login.password", "user": "dora", "password": PASSWORD}
    assert (await server.call("POST", f"{V3}/login", body)).ok()["user_id"] == account


async def test_logging_in_again_on_a_device_replaces_its_token(server: Server, account: str) -> None:
    first = (await log_in(server, account, device_id="PHONE", initial_device_display_name="Phone")).ok()
    second = (await log_in(server, account, device_id="PHONE", initial_device_display_name="Other")).ok()
    (await whoami(server, first["access_token"])).refused(401, "M_UNKNOWN_TOKEN")
    listed = (await server.call("GET", f"{V3}/devices", token=second["access_token"])).ok()
    assert listed == {"devices": [{"device_id": "PHONE", "display_name": "Phone"}]}


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(server: Server, account: str) -> None:
    wrong = (await log_in(server, account, "wrong")).refused(403, "M_FORBIDDEN")
    unknown = (await log_in(server, "nobody")).refused(403, "M_FORBIDDEN")
    assert wrong == unknown


async def test_an_unknown_user_costs_as_much_as_a_known_one(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def pretend(password: str, *, salt: bytes) -> str:
        hashed.append(password)
        return ""

    monkeypatch.setattr(accounts, "hash_password", pretend)
    await log_in(server, "nobody", "guess")
    assert hashed == ["guess"]


async def test_an_account_without_a_password_has_no_password_login(server: Server) -> None:
    await server.user("alice")
    (await log_in(server, "alice", "")).refused(403, "M_FORBIDDEN")


async def test_a_password_longer_than_anybody_types_is_not_even_tried(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "check_password", lambda *_: pytest.fail("hashed it"))
    (await log_in(server, account, "x" * 513)).refused(403, "M_FORBIDDEN")


async def test_guessing_one_account_is_slowed_down_from_wherever_it_comes(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "check_password", lambda password, stored: password == PASSWORD)
    for attempt in range(10):
        (await log_in(server, account, "x", address=f"192.0.2.{attempt}")).refused(403, "M_FORBIDDEN")
    body = (await log_in(server, account, PASSWORD, address="192.0.2.99")).refused(429, "M_LIMIT_EXCEEDED")
    server.clock.now += body["retry_after_ms"]
    (await log_in(server, account, PASSWORD, address="192.0.2.99")).ok()


async def test_guessing_from_one_address_is_slowed_down_whatever_the_account(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "hash_password", lambda password, salt: "")
    for attempt in range(10):
        (await log_in(server, f"user{attempt}")).refused(403, "M_FORBIDDEN")
    (await log_in(server, account)).refused(429, "M_LIMIT_EXCEEDED")
    (await log_in(server, account, address="198.51.100.7")).ok()


@pytest.mark.parametrize("proxy", ["127.0.0.1", "::1"])
async def test_guesses_behind_a_proxy_beside_us_keep_nobody_else_out(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setattr(accounts, "hash_password", lambda password, salt: "")
    for attempt in range(20):
        (await log_in(server, f"user{attempt}", address=proxy)).refused(403, "M_FORBIDDEN")
    (await log_in(server, account, address=proxy)).ok()


async def test_an_unknown_address_is_bounded_as_any_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "hash_password", lambda password, salt: "")
    for attempt in range(10):
        (await log_in(server, f"user{attempt}", address="unknown")).refused(403, "M_FORBIDDEN")
    (await log_in(server, "one more", address="unknown")).refused(429, "M_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({}, 400, "M_BAD_JSON"),
        ({"type": 1}, 400, "M_BAD_JSON"),
        ({"type": "m.login.sso"}, 400, "M_UNKNOWN"),
        ({"type": "m.login.token"}, 400, "M_BAD_JSON"),
        ({"type": "m.login.token", "token": "x"}, 403, "M_FORBIDDEN"),
        ({"type": "m.login.password", "password": "x"}, 400, "M_BAD_JSON"),
        ({"type": "m.login.password", "user": "dora"}, 400, "M_BAD_JSON"),
        ({"type": "m.login.password", "user": "@dora", "password": "x"}, 400, "M_INVALID_PARAM"),
        (
            {"type": "m.login.password", "identifier": {"type": "m.id.thirdparty"}, "password": "x"},
            400,
            "M_UNKNOWN",
        ),
        ({"type": "m.login.application_service", "user": "x"}, 401, "M_MISSING_TOKEN"),
    ],
)
async def test_a_malformed_login_is_refused(server: Server, body: Any, status: int, errcode: str) -> None:
    (await server.call("POST", f"{V3}/login", body)).refused(status, errcode)


async def test_a_body_that_is_not_json_is_told_apart_from_one_of_the_wrong_shape(server: Server) -> None:
    (await server.call("POST", f"{V3}/login", raw=b"{")).refused(400, "M_NOT_JSON")
    (await server.call("POST", f"{V3}/login", raw=b"[]")).refused(400, "M_BAD_JSON")


async def test_a_device_id_has_to_be_one(server: Server, account: str) -> None:
    (await log_in(server, account, device_id="a b\n")).refused(400, "M_INVALID_PARAM")


async def test_an_account_cannot_collect_devices_without_end(
    server: Server, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MAX_DEVICES", 1)
    (await log_in(server, account, device_id="ONE")).ok()
    (await log_in(server, account, device_id="TWO")).refused(403, "M_LIMIT_EXCEEDED")
    (await log_in(server, account, device_id="ONE")).ok()


async def test_a_bridge_logs_its_users_in(server: Server) -> None:
    body = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": "@carol:matrix.example"},
        "device_id": "BRIDGE",
    }
    session = (await server.call("POST", f"{V3}/login", body, token=BRIDGE_TOKEN)).ok()
    assert (await whoami(server, session["access_token"])).ok()["user_id"] == "@carol:matrix.example"
    body["identifier"] = {"type": "m.id.user", "user": "@dora:a.example"}
    (await server.call("POST", f"{V3}/login", body, token=BRIDGE_TOKEN)).refused(403, "M_FORBIDDEN")
    (await server.call("POST", f"{V3}/login", body, token="x")).refused(401, "M_UNKNOWN_TOKEN")


async def test_registration_is_closed_to_people(server: Server) -> None:
    body = {"username": "eve", "password": "x"}
    (await server.call("POST", f"{V3}/register", body)).refused(403, "M_FORBIDDEN")
    guest = await server.call("POST", f"{V3}/register", {}, query={"kind": "guest"})
    guest.refused(403, "M_GUEST_ACCESS_FORBIDDEN")


async def register(server: Server, username: str, *, token: str = BRIDGE_TOKEN, **extra: Any) -> Answer:
    body = {"type": "m.login.application_service", "username": username, **extra}
    return await server.call("POST", f"{V3}/register", body, token=token)


@pytest.mark.parametrize(
    ("username", "user_id"),
    [
        ("carol", "@carol:matrix.example"),
        ("@carol:matrix.example", "@carol:matrix.example"),
        ("_bridge", BOT),
    ],
)
async def test_a_bridge_registers_its_users(server: Server, username: str, user_id: str) -> None:
    assert (await register(server, username, inhibit_login=True)).ok() == {"user_id": user_id}
    (await register(server, username)).refused(400, "M_USER_IN_USE")


async def test_registering_opens_a_session_unless_told_not_to(server: Server) -> None:
    session = (await register(server, "carol", device_id="BRIDGE")).ok()
    assert (await whoami(server, session["access_token"])).ok()["device_id"] == "BRIDGE"


@pytest.mark.parametrize(
    ("username", "status", "errcode"),
    [
        ("Carol Smith", 400, "M_INVALID_USERNAME"),
        ("Carol", 400, "M_INVALID_USERNAME"),
        ("", 400, "M_INVALID_USERNAME"),
        ("@carol:other.example", 403, "M_FORBIDDEN"),
        ("@carol", 400, "M_INVALID_PARAM"),
    ],
)
async def test_a_bridge_registers_nobody_else(
    server: Server, username: str, status: int, errcode: str
) -> None:
    (await register(server, username)).refused(status, errcode)


async def test_only_a_bridge_registers_as_one(server: Server) -> None:
    (await register(server, "carol", token="x")).refused(401, "M_UNKNOWN_TOKEN")


async def test_logging_out_ends_the_session_and_its_device(server: Server, account: str) -> None:
    first = (await log_in(server, account)).ok()
    second = (await log_in(server, account)).ok()
    assert (await server.call("POST", f"{V3}/logout", {}, token=first["access_token"])).ok() == {}
    (await whoami(server, first["access_token"])).refused(401, "M_UNKNOWN_TOKEN")
    assert [device.device_id for device in server.store.devices(account)] == [second["device_id"]]


async def test_logging_out_everywhere_ends_every_session(server: Server, account: str) -> None:
    sessions = [(await log_in(server, account)).ok() for _ in range(2)]
    (await server.call("POST", f"{V3}/logout/all", {}, token=sessions[0]["access_token"])).ok()
    for session in sessions:
        (await whoami(server, session["access_token"])).refused(401, "M_UNKNOWN_TOKEN")


async def test_a_bridge_of_several_domains_gives_full_user_ids(server: Server) -> None:
    bridge = replace(server.node.config.bridges[0], domains=("matrix.example", "other.example"))
    server.node.config = replace(server.node.config, bridges=(bridge,))
    (await register(server, "carol")).refused(400, "M_INVALID_USERNAME")
    answer = await register(server, "@carol:other.example", inhibit_login=True)
    assert answer.ok() == {"user_id": "@carol:other.example"}


async def test_a_device_without_a_name_is_listed_without_one(server: Server, account: str) -> None:
    session = (await log_in(server, account, device_id="PHONE")).ok()
    listed = (await server.call("GET", f"{V3}/devices", token=session["access_token"])).ok()
    assert listed == {"devices": [{"device_id": "PHONE"}]}
