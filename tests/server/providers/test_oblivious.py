"""The oblivious gateway: what it opens, what it fetches, and what it never does."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openmls
import pytest

from linearized.mimi.binary_http import BinaryRequest, BinaryResponse
from linearized.mimi.ohttp import (
    KEYS_TYPE,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    SIGNATURE_LABEL,
    UNKNOWN_KEY_PROBLEM,
    Exchange,
    GatewayKey,
    SignedKeyConfigs,
    decode_key_configs,
    seal_request,
)
from linearized.server.assets import asset_url
from linearized.server.buckets import Buckets
from linearized.server.providers import PREFIX
from linearized.server.providers.oblivious import GATEWAY_PATH, MAX_REQUEST_BYTES
from tests.server.support import Network, Server, running_server
from tests.server.test_assets import PICTURE, uploaded
from tests.server.test_two_providers import shared_room, signed_in

B = "b.example"


@dataclass
class Gateway:
    """The gateway of a.example, whose room has a user of b.example; we are b.example's relay."""

    server: Server
    picture: str  # the URL of a file at a.example
    theirs: str  # and of one at b.example

    def seal(self, url: str, *, method: str = "GET") -> tuple[bytes, Exchange]:
        parts = urlsplit(url)
        request = BinaryRequest(method=method, scheme=parts.scheme, authority=parts.netloc, path=parts.path)
        return self.seal_bytes(request.encode())

    def seal_bytes(self, plain: bytes, key: GatewayKey | None = None) -> tuple[bytes, Exchange]:
        config = (key or self.server.node.gateway_keys[0]).config()
        return seal_request(config, plain, ephemeral=secrets.token_bytes(32))

    async def post(
        self, body: bytes, *, provider: str = B, content_type: str = REQUEST_TYPE
    ) -> httpx.Response:
        async with self.server.http() as http:
            http._transport = self.server.network.transport(provider)
            headers = {"From": f"mimi@{provider}", "Content-Type": content_type}
            return await http.post(GATEWAY_PATH, content=body, headers=headers)

    async def get(self, url: str, *, provider: str = B, method: str = "GET") -> BinaryResponse:
        sealed, exchange = self.seal(url, method=method)
        answer = await self.post(sealed, provider=provider)
        assert (answer.status_code, answer.headers["content-type"]) == (200, RESPONSE_TYPE)
        return BinaryResponse.decode(exchange.open_response(answer.content))


@asynccontextmanager
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server(B, tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await shared_room(alice, bob)
        ours, theirs = asset_url(*await uploaded(alice)), asset_url(*await uploaded(bob))
        network.log.clear()
        yield Gateway(a, ours, theirs)


async def test_a_relay_fetches_files_of_ours_and_of_a_peer_without_seeing_them(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        for url in (g.picture, g.theirs):
            response = await g.get(url)
            assert (response.status, response.content) == (200, PICTURE)


async def test_a_request_may_name_its_target_in_a_host_field(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        parts = urlsplit(g.picture)
        for hosts, status in (([parts.netloc], 200), ([], 404), ([parts.netloc, "b.example"], 404)):
            request = BinaryRequest(
                method="GET",
                scheme=parts.scheme,
                authority="",
                path=parts.path,
                headers=tuple((b"host", host.encode()) for host in hosts),
            )
            sealed, exchange = g.seal_bytes(request.encode())
            answer = await g.post(sealed)
            assert BinaryResponse.decode(exchange.open_response(answer.content)).status == status


async def test_the_path_of_what_is_asked_for_stands_in_no_request_line(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        await g.get(g.picture)
        assert [(method, path) for _, _, method, path in g.server.network.log] == [("POST", GATEWAY_PATH)]


@pytest.mark.parametrize(
    "url",
    [
        "https://c.example/_matrix/client/v1/media/download/c.example/abc",
        "https://a.example/_matrix/client/v3/sync",
        "https://a.example/_matrix/client/v1/media/download/a.example/..%2Fsigning.key",
        "http://127.0.0.1/",
        "https://a.example/_matrix/client/v1/media/download/a.example/abc",
    ],
)
async def test_the_gateway_fetches_nothing_but_files_of_its_peers(tmp_path: Path, url: str) -> None:
    async with gateway(tmp_path) as g:
        assert (await g.get(url)).status == 404
        assert {entry[1] for entry in g.server.network.log} == {"a.example"}


async def test_a_provider_that_shares_no_room_gets_no_file(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        assert (await g.get(g.picture, provider="c.example")).status == 404
        sealed, _ = g.seal(g.picture)
        assert (await g.post(sealed, provider="")).status_code == 401


async def test_nothing_but_get_is_done(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        for method in ("POST", "DELETE", "HEAD"):
            assert (await g.get(g.picture, method=method)).status == 405


async def test_a_peer_that_does_not_answer_is_a_bad_gateway_inside_the_seal(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        g.server.network.down.add(B)
        assert (await g.get(g.theirs)).status == 502


async def test_what_is_no_request_is_refused_inside_the_seal(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        sealed, exchange = g.seal_bytes(b"GET / HTTP/1.1\r\n\r\n")
        answer = await g.post(sealed)
        assert BinaryResponse.decode(exchange.open_response(answer.content)).status == 400


async def test_a_request_that_is_sent_again_tells_the_relay_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        sealed, exchange = g.seal(g.picture)
        first, again = (await g.post(sealed)).content, (await g.post(sealed)).content
        assert first != again
        assert len(first) == len(again)
        assert exchange.open_response(first) == exchange.open_response(again)


async def test_a_key_that_the_gateway_does_not_have_is_a_problem_of_its_own(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        key = g.server.node.gateway_keys[0]
        other = GatewayKey(key_id=(key.key_id + 1) % 256, secret=key.secret)
        answer = await g.post(g.seal_bytes(b"", other)[0])
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert answer.json()["type"] == UNKNOWN_KEY_PROBLEM


async def test_what_was_sealed_to_the_key_before_still_opens(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        sealed, exchange = g.seal(g.picture)
        present = g.server.node.gateway_keys[0]
        new = GatewayKey(key_id=(present.key_id + 1) % 256, secret=bytes(32))
        g.server.node.gateway_keys = (new, present)
        answer = await g.post(sealed)
        assert BinaryResponse.decode(exchange.open_response(answer.content)).content == PICTURE


async def test_what_is_truncated_of_another_type_or_too_large_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        sealed, _ = g.seal(g.picture)
        truncated = await g.post(sealed[:-1])
        assert (truncated.status_code, truncated.json()["type"]) == (400, "about:blank")
        assert (await g.post(b"")).status_code == 400
        assert (await g.post(sealed, content_type="application/octet-stream")).status_code == 415
        assert (await g.post(bytes(MAX_REQUEST_BYTES + 1))).status_code == 413


async def test_a_provider_that_asks_too_often_hears_so(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g:
        once = Buckets(lambda: 0, per_second=1, burst=1)
        g.server.node.limits = replace(g.server.node.limits, provider=once)
        assert [(await g.post(b"")).status_code for _ in range(2)] == [400, 429]


async def test_the_present_key_is_published_plainly_and_with_our_signature(tmp_path: Path) -> None:
    async with gateway(tmp_path) as g, g.server.http() as http:
        present = g.server.node.gateway_keys[0]
        g.server.node.gateway_keys = (present, GatewayKey(key_id=present.key_id ^ 1, secret=bytes(32)))
        plain = await http.get(GATEWAY_PATH)
        assert plain.headers["content-type"] == KEYS_TYPE
        assert decode_key_configs(plain.content) == (present.config(),)
        assert (await http.get(f"{PREFIX}/ohttpKeys")).status_code == 401
        http._transport = g.server.network.transport(B)
        answer = await http.get(f"{PREFIX}/ohttpKeys", headers={"From": f"mimi@{B}"})
        signed = SignedKeyConfigs.decode(answer.content)
        assert (signed.provider, signed.key_configs) == ("a.example", plain.content)
        openmls.verify_with_label(
            ciphersuite=1,
            public_key=g.server.node.mls_signer.public_key,
            label=SIGNATURE_LABEL,
            content=signed.signed(),
            signature=signed.signature,
        )
