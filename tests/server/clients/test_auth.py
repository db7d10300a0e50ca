"""Tokens: whose they are, how they travel, and how little of them is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.server.clients.support import BOT, BRIDGE_TOKEN, V3, Client, Server

WHOAMI = f"{V3}/account/whoami"


async def test_a_request_without_a_token_is_told_so(server: Server) -> None:
    (await server.call("GET", WHOAMI)).refused(401, "M_MISSING_TOKEN")


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer  ", "Token x"])
async def test_only_a_bearer_token_counts(server: Server, header: str) -> None:
    answer = await server.call("GET", WHOAMI, headers={"authorization": header})
    answer.refused(401, "M_MISSING_TOKEN")


async def test_a_token_in_the_query_is_refused_with_the_reason(server: Server, alice: Client) -> None:
    answer = await server.call("GET", WHOAMI, query={"access_token": alice.token})
    assert "header" in answer.refused(401, "M_MISSING_TOKEN")["error"]


async def test_an_unknown_token_is_refused(server: Server) -> None:
    assert (await server.call("GET", WHOAMI, token="x")).refused(401, "M_UNKNOWN_TOKEN")[
        "soft_logout"
    ] is False


async def test_the_database_holds_no_token(server: Server, alice: Client, tmp_path: Path) -> None:
    await alice.call("GET", "/account/whoami")
    dump = "\n".join(sqlite3.connect(tmp_path / "store.sqlite3").iterdump())
    assert alice.user_id in dump
    assert alice.token not in dump


async def test_a_device_is_who_it_is_whatever_the_query_says(alice: Client) -> None:
    answer = (await alice.call("GET", "/account/whoami", query={"user_id": "@bob:a.example"})).ok()
    assert answer == {"user_id": "@alice:a.example", "device_id": "DEVICE", "is_guest": False}


async def test_a_bridge_is_its_bot_unless_it_says_otherwise(server: Server) -> None:
    assert (await server.call("GET", WHOAMI, token=BRIDGE_TOKEN)).ok() == {"user_id": BOT, "is_guest": False}


async def test_a_bridge_acts_for_the_users_of_its_domains(server: Server) -> None:
    carol = server.bridge("@carol:matrix.example", "BRIDGE")
    assert (await carol.call("GET", "/account/whoami")).ok() == {
        "user_id": "@carol:matrix.example",
        "device_id": "BRIDGE",
        "is_guest": False,
    }


@pytest.mark.parametrize("user_id", ["@alice:a.example", "@x:other.example", "@x:sub.matrix.example"])
async def test_a_bridge_acts_for_nobody_else(server: Server, user_id: str) -> None:
    (await server.bridge(user_id).call("GET", "/account/whoami")).refused(403, "M_FORBIDDEN")


async def test_a_bridge_must_name_users_and_devices_that_can_exist(server: Server) -> None:
    (await server.bridge("nobody").call("GET", "/account/whoami")).refused(400, "M_INVALID_PARAM")
    strange = server.bridge("@carol:matrix.example", "a b\n")
    (await strange.call("GET", "/account/whoami")).refused(400, "M_INVALID_PARAM")


async def test_what_needs_a_device_tells_a_bridge_without_one(server: Server) -> None:
    (await server.bridge().call("POST", "/keys/upload", {})).refused(400, "M_MISSING_PARAM")


async def test_an_unknown_endpoint_and_a_wrong_method_are_unrecognized(alice: Client) -> None:
    (await alice.call("GET", "/nothing")).refused(404, "M_UNRECOGNIZED")
    (await alice.call("DELETE", "/sync")).refused(405, "M_UNRECOGNIZED")
