"""The oblivious relay: to the hubs of one's rooms, with nothing of the client's, and not too often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from linearized.client import Session
from linearized.mimi.ohttp import REQUEST_TYPE, RESPONSE_TYPE
from linearized.server.app import build_app
from linearized.server.buckets import Buckets
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.providers.client import DIRECTORY_PATH, GATEWAY, GATEWAY_KEYS
from linearized.server.providers.oblivious import GATEWAY_PATH, MAX_REQUEST_BYTES
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import shared_room, signed_in

RELAY = "/_matrix/client/unstable/dev.linearized.1/ohttp"
SEALED = b"nobody but the gateway reads this"


@dataclass
class Relay:
    """b.example, whose Bob is in a room of a.example; its gateway is the test's."""

    server: Server
    bob: Session
    answer: Response
    requests: list[tuple[Request, bytes]] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)

    async def post(
        self, gateway: str = "a.example", *, body: bytes = SEALED, content_type: str = REQUEST_TYPE
    ) -> httpx.Response:
        async with self.server.http() as http:
            headers = {
                "Authorization": f"Bearer {self.bob.api._token}",
                "Content-Type": content_type,
                "User-Agent": "bob's telephone",
                "Cookie": "bob=1",
                "X-Forwarded-For": "192.0.2.7",
            }
            return await http.post(f"{RELAY}/{gateway}", content=body, headers=headers)

    async def directory(self, _request: Request) -> Response:
        return json_response(self.urls)

    async def gateway(self, request: Request) -> Response:
        self.requests.append((request, await request.body()))
        return self.answer


@asynccontextmanager
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await shared_room(alice, bob)
        r = Relay(b, bob, Response(body=b"sealed answer", content_type=RESPONSE_TYPE))
        r.urls = {GATEWAY: f"https://a.example{GATEWAY_PATH}", GATEWAY_KEYS: "https://a.example/keys"}
        b.node.providers._directories.clear()
        network.views["b.example", "a.example"] = build_app(
            [
                Route("GET", DIRECTORY_PATH, r.directory),
                Route("POST", GATEWAY_PATH, r.gateway),
                Route("GET", "/keys", r.gateway),
            ]
        )
        yield r


async def test_a_request_goes_on_with_nothing_that_names_the_client(tmp_path: Path) -> None:
    async with relay(tmp_path) as r:
        answer = await r.post()
        assert (answer.status_code, answer.headers["content-type"]) == (200, RESPONSE_TYPE)
        assert answer.content == b"sealed answer"
        ((request, body),) = r.requests
        assert body == SEALED
        assert set(request.headers) <= {"host", "from", "content-type", "content-length", "user-agent"}
        assert request.headers["from"] == "mimi@b.example"
        assert "bob" not in str(request.headers)
        assert request.authorization == ()


@pytest.mark.parametrize("gateway", ["c.example", "b.example", "127.0.0.1", "a.example.evil.example"])
async def test_only_hubs_of_ones_rooms_are_relayed_to(tmp_path: Path, gateway: str) -> None:
    async with relay(tmp_path) as r:
        r.server.network.log.clear()
        assert (await r.post(gateway)).status_code == 404
        assert {entry[1] for entry in r.server.network.log} == {"b.example"}


async def test_somebody_in_no_room_of_the_hub_is_relayed_nothing(tmp_path: Path) -> None:
    async with relay(tmp_path) as r, signed_in(r.server, await r.server.user("dan")) as dan:
        r.bob = dan
        assert (await r.post()).status_code == 404
        assert r.requests == []


async def test_what_is_no_oblivious_request_or_too_large_is_refused(tmp_path: Path) -> None:
    async with relay(tmp_path) as r:
        assert (await r.post(content_type="application/json")).status_code == 415
        assert (await r.post(body=bytes(MAX_REQUEST_BYTES + 1))).status_code == 413
        assert r.requests == []


async def test_who_relays_too_often_hears_so(tmp_path: Path) -> None:
    async with relay(tmp_path) as r:
        r.server.node.relay_limit = Buckets(lambda: 0, per_second=1, burst=2)
        assert [(await r.post()).status_code for _ in range(3)] == [200, 200, 429]
        assert len(r.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Response(body=b"page", content_type="text/html"),
        Response(status=400, body=b"{}", content_type="application/problem+json"),
    ],
    ids=["not sealed", "refused"],
)
async def test_a_gateway_that_does_not_seal_its_answer_is_a_bad_gateway(
    tmp_path: Path, answer: Response
) -> None:
    async with relay(tmp_path) as r:
        r.answer = answer
        assert (await r.post()).status_code == 502


@pytest.mark.parametrize(
    "urls",
    [
        {},
        {GATEWAY: "https://a.example/gateway?to={x}"},
        {GATEWAY: "https://a.example/gateway#x"},
        {GATEWAY: "http://a.example/gateway"},
    ],
)
async def test_a_hub_without_a_gateway_is_a_bad_gateway(tmp_path: Path, urls: dict[str, str]) -> None:
    async with relay(tmp_path) as r:
        r.urls = urls
        assert (await r.post()).status_code == 502
        assert r.requests == []


async def test_the_gateways_keys_come_as_they_are(tmp_path: Path) -> None:
    async with relay(tmp_path) as r:
        r.answer = Response(body=b"signed keys", content_type="application/octet-stream")
        assert await r.bob.api.gateway_keys("a.example") == b"signed keys"
        r.answer = Response(status=404)
        async with r.server.http() as http:
            headers = {"Authorization": f"Bearer {r.bob.api._token}"}
            assert (await http.get(f"{RELAY}/a.example/keys", headers=headers)).status_code == 502
            assert (await http.get(f"{RELAY}/c.example/keys", headers=headers)).status_code == 404
