"""Rooms of other servers by their aliases: resolved and entered, and asked for within bounds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator

from linearized.server import room_aliases
from linearized.server.app import build_app
from linearized.server.endpoints import ALIAS
from linearized.server.http import HttpError, Request, Response, Route, json_response
from tests.server.support import PASSWORD, Network, Server, running_server

V3 = "/_matrix/client/v3"
TEA = "#tea:a.example"
SCHEMA = Path(__file__).parents[2] / "schemas" / "linearized" / "alias.json"


@dataclass(frozen=True)
class User:
    """Somebody who is logged in at a server."""

    server: Server
    http: httpx.AsyncClient
    token: str

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self.token}"}
        url = f"https://{self.server.name}{V3}{path}"
        answer = await self.http.request(method, url, json=body, headers=headers)
        return answer.status_code, answer.json()

    async def resolve(self, alias: str) -> tuple[int, Any]:
        return await self.call("GET", f"/directory/room/{quote(alias, safe='')}")


async def signed_in(server: Server, name: str) -> User:
    user_id, http = await server.user(name), server.http()
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user_id},
        "password": PASSWORD,
    }
    answer = await http.post(f"https://{server.name}{V3}/login", json=body)
    return User(server, http, answer.json()["access_token"])


@asynccontextmanager
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Network, User, User]]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
    ):
        yield network, await signed_in(a, "alice"), await signed_in(b, "bob")


def asked(network: Network) -> int:
    return sum("/aliases/" in str(entry) for entry in network.log)


async def test_a_room_of_another_server_is_found_and_entered_by_its_alias(tmp_path: Path) -> None:
    async with servers(tmp_path) as (network, alice, bob):
        body = {"room_alias_name": "tea", "preset": "public_chat", "room_version": "I.1"}
        _, created = await alice.call("POST", "/createRoom", body)
        status, found = await bob.resolve(TEA)
        assert (status, found) == (200, {"room_id": created["room_id"], "servers": ["a.example"]})
        Draft202012Validator(json.loads(SCHEMA.read_text())).validate(found)
        assert await bob.call("POST", f"/join/{quote(TEA, safe='')}", {}) == (200, created)
        assert asked(network) == 1  # kept for the join


async def test_an_answer_is_kept_for_a_while_and_only_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(tmp_path) as (network, _, bob):
        for alias in (TEA, TEA):
            assert (await bob.resolve(alias))[0] == 404
        assert asked(network) == 1
        monkeypatch.setattr(room_aliases, "MAX_KEPT", 1)
        for alias in ("#other:a.example", TEA):
            assert (await bob.resolve(alias))[0] == 404
        assert asked(network) == 3
        monkeypatch.setattr(room_aliases, "KEPT_MS", 0)
        for alias in ("#other:a.example", "#other:a.example"):
            assert (await bob.resolve(alias))[1]["errcode"] == "M_NOT_FOUND"
        assert asked(network) == 5


async def test_only_who_is_logged_in_makes_us_ask_and_not_too_often(tmp_path: Path) -> None:
    async with servers(tmp_path) as (network, _, bob):
        answer = await bob.http.get(f"https://b.example{V3}/directory/room/{quote(TEA, safe='')}")
        assert (answer.status_code, answer.json()["errcode"]) == (401, "M_MISSING_TOKEN")
        assert asked(network) == 0
        statuses = [(await bob.resolve(f"#{number}:a.example"))[0] for number in range(60)]
        assert set(statuses) == {404, 429}
        assert asked(network) == statuses.count(404)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"room_id": "tea", "servers": []},
        {"room_id": "!tea:a.example"},
        {"room_id": "!tea:a.example", "servers": "a.example"},
        HttpError(403, "M_FORBIDDEN", "no"),
        HttpError(404, "M_UNRECOGNIZED", "what?"),
        HttpError(500, "M_UNKNOWN", "oh"),
    ],
)
async def test_what_is_no_answer_is_a_failure_and_not_kept(tmp_path: Path, answer: Any) -> None:
    async def say(_: Request) -> Response:
        if isinstance(answer, HttpError):
            raise answer
        return json_response(answer)

    async with servers(tmp_path) as (network, _, bob):
        network.views["b.example", "a.example"] = build_app([Route("GET", ALIAS, say)])
        for _ in range(2):
            status, _ = await bob.resolve(TEA)
            assert status in {403, 404, 502}
        assert asked(network) >= 2


async def test_servers_are_taken_from_an_answer_as_far_as_they_are_names_and_few(tmp_path: Path) -> None:
    async def say(_: Request) -> Response:
        named = [7, "not a name", "127.0.0.1", *(f"s{number}.example" for number in range(30))]
        return json_response({"room_id": "!tea:a.example", "servers": named})

    async with servers(tmp_path) as (network, _, bob):
        network.views["b.example", "a.example"] = build_app([Route("GET", ALIAS, say)])
        _, found = await bob.resolve(TEA)
    assert found["servers"] == [f"s{number}.example" for number in range(room_aliases.MAX_SERVERS)]


async def test_a_server_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async with servers(tmp_path) as (network, _, bob):
        network.down.add("a.example")
        assert (await bob.resolve(TEA))[0] == 502
        assert (await bob.resolve("#tea"))[1]["errcode"] == "M_NOT_FOUND"
