"""Logging another device in with a token."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import login_tokens
from linearized.server.clients.login_tokens import LIFETIME_MS, LoginTokens
from tests.server.clients.support import DORA, PASSWORD, START_MS, V3, Answer, Client, Server

GET_TOKEN = "/_matrix/client/v1/login/get_token"


def auth(password: str = PASSWORD) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": "dora"}
    return {"auth": {"type": "m.login.password", "identifier": identifier, "password": password}}


async def log_in(server: Server, token: str) -> Answer:
    return await server.call("POST", f"{V3}/login", {"type": "m.login.token", "token": token})


async def test_a_token_logs_another_device_of_the_user_in_once(server: Server, laptop: Client) -> None:
    given = (await laptop.call("POST", GET_TOKEN, auth())).ok()
    assert given["expires_in_ms"] == LIFETIME_MS
    session = (await log_in(server, given["login_token"])).ok()
    assert (session["user_id"], session["device_id"] != "LAPTOP") == (DORA, True)
    who = await server.call("GET", f"{V3}/account/whoami", token=session["access_token"])
    assert who.ok()["user_id"] == DORA
    (await laptop.call("GET", "/account/whoami")).ok()
    (await log_in(server, given["login_token"])).refused(403, "M_FORBIDDEN")


async def test_a_token_ends_after_two_minutes(server: Server, laptop: Client) -> None:
    for passed, status in ((LIFETIME_MS - 1, 200), (LIFETIME_MS, 403)):
        token = (await laptop.call("POST", GET_TOKEN, auth())).ok()["login_token"]
        server.clock.now += passed
        assert (await log_in(server, token)).status == status


async def test_a_token_is_given_for_the_password_alone(server: Server, laptop: Client) -> None:
    asked = (await laptop.call("POST", GET_TOKEN, {})).refused(401, "M_FORBIDDEN")
    assert asked["flows"] == [{"stages": ["m.login.password"]}]
    (await laptop.call("POST", GET_TOKEN, auth("wrong"))).refused(401, "M_FORBIDDEN")
    (await server.bridge().call("POST", GET_TOKEN, auth())).refused(403, "M_FORBIDDEN")
    (await server.call("POST", GET_TOKEN, auth())).refused(401, "M_MISSING_TOKEN")


async def test_guessing_tokens_is_slowed_down(server: Server, laptop: Client) -> None:
    statuses = [(await log_in(server, f"guess {n}")).status for n in range(30)]
    assert (statuses[0], statuses[-1]) == (403, 429)


def test_tokens_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_tokens, "MAX_TOKENS", 2)
    tokens = LoginTokens(lambda: START_MS)
    for name in "abc":
        tokens.keep(name, f"@{name}")
    assert [tokens.spend(name) for name in "abc"] == [None, "@b", "@c"]
