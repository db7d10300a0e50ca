"""Access tokens that end and are renewed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from linearized.server.clients.sessions import ACCESS_TOKEN_MS
from linearized.store.base import UserRow
from tests.server.clients.support import BRIDGE_TOKEN, START_MS, V3, Answer, Server, part

CAROL = "@carol:matrix.example"


async def log_in(server: Server, **extra: Any) -> Any:
    """A session of a bridged user: no password to be hashed."""
    body = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": CAROL},
        "device_id": "PHONE",
        **extra,
    }
    return (await server.call("POST", f"{V3}/login", body, token=BRIDGE_TOKEN)).ok()


@pytest.fixture
async def session(server: Server) -> Any:
    await server.store.put_user(UserRow(user_id=CAROL, password_hash=None, created_ts=START_MS))
    return await log_in(server, refresh_token=True)


async def whoami(server: Server, session: Any) -> Answer:
    return await server.call("GET", f"{V3}/account/whoami", token=session["access_token"])


async def renew(server: Server, session: Any) -> Answer:
    return await server.call("POST", f"{V3}/refresh", {"refresh_token": session["refresh_token"]})


def soft(answer: Answer) -> Any:
    return answer.refused(401, "M_UNKNOWN_TOKEN")["soft_logout"]


async def test_a_session_is_renewable_only_if_asked_for(server: Server) -> None:
    session = await log_in(server)
    assert session.keys() == {"user_id", "device_id", "access_token"}
    server.clock.now += 100 * ACCESS_TOKEN_MS
    (await whoami(server, session)).ok()


async def test_an_access_token_ends_and_is_renewed(server: Server, session: Any) -> None:
    assert session["expires_in_ms"] == ACCESS_TOKEN_MS
    server.clock.now += ACCESS_TOKEN_MS - 1
    (await whoami(server, session)).ok()
    server.clock.now += 1
    assert soft(await whoami(server, session)) is True
    renewed = (await renew(server, session)).ok()
    assert (await whoami(server, renewed)).ok()["device_id"] == "PHONE"
    server.clock.now += ACCESS_TOKEN_MS
    assert soft(await whoami(server, renewed)) is True


async def test_a_replaced_access_token_is_a_soft_logout(server: Server, session: Any) -> None:
    renewed = (await renew(server, session)).ok()
    assert soft(await whoami(server, session)) is True
    again = (await renew(server, renewed)).ok()
    assert soft(await whoami(server, renewed)) is True
    assert soft(await whoami(server, session)) is False
    (await whoami(server, again)).ok()


async def test_whoever_lost_the_answer_asks_again(server: Server, session: Any) -> None:
    lost = (await renew(server, session)).ok()
    renewed = (await renew(server, session)).ok()
    (await whoami(server, renewed)).ok()
    assert soft(await renew(server, lost)) is False
    again = (await renew(server, renewed)).ok()
    assert soft(await renew(server, session)) is False
    (await whoami(server, again)).ok()


async def test_what_is_no_refresh_token_is_refused(server: Server, session: Any) -> None:
    for token in ("x", session["access_token"]):
        assert soft(await renew(server, {"refresh_token": token})) is False
    (await server.call("POST", f"{V3}/refresh", {})).refused(400, "M_BAD_JSON")
    (await server.call("POST", f"{V3}/refresh", {"refresh_token": 1})).refused(400, "M_BAD_JSON")
    assert soft(await server.call("GET", f"{V3}/account/whoami", token=session["refresh_token"])) is False


async def test_logging_out_ends_both_tokens(server: Server, session: Any) -> None:
    renewed = (await renew(server, session)).ok()
    (await server.call("POST", f"{V3}/logout", token=renewed["access_token"])).ok()
    for tokens in (session, renewed):
        assert soft(await whoami(server, tokens)) is False
        assert soft(await renew(server, tokens)) is False


async def test_a_new_login_of_the_device_ends_both_tokens(server: Server, session: Any) -> None:
    (await whoami(server, await log_in(server))).ok()
    assert soft(await whoami(server, session)) is False
    assert soft(await renew(server, session)) is False


async def test_renaming_a_device_leaves_its_session(server: Server, session: Any) -> None:
    path, token = f"{V3}/devices/{part('PHONE')}", session["access_token"]
    (await server.call("PUT", path, {"display_name": "Mobile"}, token=token)).ok()
    (await renew(server, session)).ok()


async def test_the_database_holds_no_token(server: Server, session: Any, tmp_path: Path) -> None:
    renewed = (await renew(server, session)).ok()
    dump = "\n".join(sqlite3.connect(tmp_path / "store.sqlite3").iterdump())
    for tokens in (session, renewed):
        assert tokens["access_token"] not in dump
        assert tokens["refresh_token"] not in dump
