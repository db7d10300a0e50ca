"""Requests to another server over real loopback TLS: who answers, who is believed, what is sent."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme

from linearized.config import Address, Config, DiscoveryConfig, LimitsConfig, ListenConfig, TlsConfig
from linearized.exceptions import ConfigError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import canonical_json
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.server import connections, endpoints, exchange, outbound
from linearized.server.app import build_app
from linearized.server.endpoints import UNSTABLE
from linearized.server.http import HttpError, Request, Response, Route, json_response
from linearized.server.listener import Binding
from linearized.server.outbound import FederationClient, OutboundError, client_context
from linearized.server.providers.client import ProviderError
from linearized.server.xmatrix import authenticate, parse_header

from .test_xmatrix import Keys
from .tls_support import LOOPBACK, Authority, bind, serving

US = ServerIdentity("b.example", SigningKey.generate("one", b"b" * 32))
PATH = "/_matrix/federation/v1/thing"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca"))
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


@pytest.fixture(scope="module")
def their_tls(authority: Authority) -> TlsConfig:
    return authority.issue("a.example", "e.example")


@pytest.fixture(scope="module")
def our_tls(authority: Authority) -> TlsConfig:
    return authority.issue("b.example")


@dataclass
class Peer:
    """Server a.example: authenticates what it is asked and answers as told."""

    answer: Response = field(default_factory=lambda: json_response({"ok": True}))
    requests: list[Request] = field(default_factory=list)
    accepts_empty_content: bool = True
    document: bytes | None = None
    overlap: int = 0
    most_overlap: int = 0

    async def handle(self, request: Request) -> Response:
        content = await request.json() if request.method != "GET" else None
        self.requests.append(request)
        await authenticate(request, content, own_name="a.example", keys=Keys())
        if not self.accepts_empty_content and content is None:
            _refuse_content(request)
        self.overlap += 1
        self.most_overlap = max(self.overlap, self.most_overlap)
        await trio.lowlevel.checkpoint()
        self.overlap -= 1
        return self.answer

    async def keys(self, request: Request) -> Response:
        return await self.show(request) if self.document is None else Response(body=self.document)

    async def show(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(body=await request.body(), headers=(("retry-after", "7"),))

    def app(self) -> Any:
        return build_app(
            [
                Route("GET", PATH, self.handle),
                Route("PUT", PATH, self.handle),
                Route("PUT", "/_matrix/federation/v2/send/{txn}", self.handle),
                Route("GET", "/_matrix/key/v2/server", self.keys),
                Route("POST", "/mimi/{target}", self.show),
            ]
        )


def _refuse_content(request: Request) -> None:
    """Be a Matrix server, which verifies a GET without ``content``."""
    header = parse_header(request.authorization[0])
    bare = canonical_json(
        {"method": "GET", "uri": request.raw_target, "origin": header.origin, "destination": "a.example"}
    )
    if header.signature != encode_base64(US.key.sign(bare)):
        raise HttpError(401, "M_FORBIDDEN", "Signature error")


def config(tls: TlsConfig, *at: tuple[str, Address], seconds: int = 10) -> Config:
    return Config(
        server_name="b.example",
        data_dir=Path(),
        listen=ListenConfig(tls=Address(host="127.0.0.1", port=0)),
        tls=tls,
        discovery_overrides=dict(at),
        discovery=DiscoveryConfig(allowed_networks=(ip_network("127.0.0.0/8"),)),
        limits=LimitsConfig(request_seconds=seconds),
    )


@asynccontextmanager
async def talking(
    peer: Peer, their_tls: TlsConfig, our_tls: TlsConfig, *names: str, seconds: int = 10
) -> AsyncIterator[FederationClient]:
    async with serving(bind(their_tls, peer.app())) as (address,):
        overrides = [(name, address) for name in names or ("a.example",)]
        async with FederationClient(
            config(our_tls, *overrides, seconds=seconds), US, clock=lambda: 0
        ) as client:
            yield client


async def test_a_request_is_signed_and_shows_our_certificate(
    their_tls: TlsConfig, our_tls: TlsConfig
) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls) as client:
        assert await client.request("a.example", "PUT", PATH, json={"é": [1]}) == {"ok": True}
        assert await client.request("a.example", "GET", f"{PATH}?q=%21a:b") == {"ok": True}
    put, get = peer.requests
    assert put.peer_domains == ("b.example",)
    assert put.headers["user-agent"].startswith("linearized/")
    assert put.headers["host"] == "a.example"
    assert put.headers["content-type"] == "application/json"
    assert get.raw_target == f"{PATH}?q=%21a:b"


async def test_a_get_a_matrix_server_refuses_is_signed_as_it_expects(
    their_tls: TlsConfig, our_tls: TlsConfig
) -> None:
    peer = Peer(accepts_empty_content=False)
    async with talking(peer, their_tls, our_tls) as client:
        for _ in range(2):
            assert await client.request("a.example", "GET", PATH) == {"ok": True}
    assert len(peer.requests) == 3, "the second request starts with what worked"


async def test_the_certificate_must_be_for_the_server_we_ask(
    their_tls: TlsConfig, our_tls: TlsConfig
) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls, "a.example", "c.example") as client:
        await client.request("a.example", "GET", PATH)
        with pytest.raises(OutboundError, match=r"c\.example cannot be reached: ConnectError"):
            await client.request("c.example", "GET", PATH)
    assert len(peer.requests) == 1, "a connection that proves a.example is not used for c.example"


async def test_a_certificate_of_an_unknown_authority_is_refused(their_tls: TlsConfig, tmp_path: Path) -> None:
    other = Authority(trustme.CA(), tmp_path)
    other.ca.cert_pem.write_to_path(str(other.pem))
    async with talking(Peer(), replace(their_tls, trusted_ca=None), other.issue("b.example")) as client:
        with pytest.raises(OutboundError, match="cannot be reached"):
            await client.request("a.example", "GET", PATH)


async def test_a_refusal_carries_its_code(their_tls: TlsConfig, our_tls: TlsConfig) -> None:
    refusal = {"errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": 1500}
    async with talking(Peer(json_response(refusal, 429)), their_tls, our_tls) as client:
        with pytest.raises(OutboundError, match="answered 429: slow down") as caught:
            await client.request("a.example", "PUT", PATH, json={})
    error = caught.value
    assert (error.status, error.errcode, error.retry_after_s) == (429, "M_LIMIT_EXCEEDED", 1.5)


@pytest.mark.parametrize(
    "answer",
    [
        Response(body=b"<html>"),
        Response(body=b"[]"),
        Response(body=gzip.compress(b"{}"), headers=(("content-encoding", "gzip"),)),
        Response(status=502, body=b"<html>", headers=(("retry-after", "soon"),)),
        Response(status=500, body=b"[]"),
        Response(status=500, body=b'{"errcode": 5, "retry_after_ms": true}'),
        Response(status=302, headers=(("location", "https://elsewhere.example/"),)),
    ],
)
async def test_anything_but_a_200_with_an_object_is_an_error(
    their_tls: TlsConfig, our_tls: TlsConfig, answer: Response
) -> None:
    async with talking(Peer(answer), their_tls, our_tls) as client:
        with pytest.raises(OutboundError) as caught:
            await client.request("a.example", "PUT", PATH, json={})
    assert (caught.value.status, caught.value.errcode) == (answer.status, None)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 00:00:30 GMT", "date": "Mon, 23 Nov 2026 00:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 00:00:30 GMT", "date": "Mon, 23 Nov 2026 00:01:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 23 Nov 2026 00:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert exchange.retry_after(httpx.Headers(headers)) == seconds


async def test_an_answer_past_the_limit_is_cut_off(
    their_tls: TlsConfig, our_tls: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "MAX_RESPONSE_BYTES", 10)
    async with talking(Peer(), their_tls, our_tls) as client:
        with pytest.raises(OutboundError, match="its answer is too large"):
            await client.request("a.example", "PUT", PATH, json={})


async def test_a_server_that_never_answers_is_given_up(their_tls: TlsConfig, our_tls: TlsConfig) -> None:
    async with talking(Peer(), their_tls, our_tls) as client:
        client._seconds = 0
        with pytest.raises(OutboundError, match="did not answer within 0 seconds"):
            await client.request("a.example", "GET", PATH)


async def test_transactions_go_one_after_the_other(their_tls: TlsConfig, our_tls: TlsConfig) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls) as client, trio.open_nursery() as nursery:
        for number in range(10):
            path = f"/_matrix/federation/v2/send/{number}"
            nursery.start_soon(partial(client.request, "a.example", "PUT", path, json={}))
    assert len(peer.requests) == 10
    assert peer.most_overlap == 1


async def test_we_send_ourselves_nothing_and_nothing_to_what_is_no_server(our_tls: TlsConfig) -> None:
    async with FederationClient(config(our_tls), US, clock=lambda: 0) as client:
        for name in ("b.example", "a.example/x", ""):
            with pytest.raises(OutboundError):
                await client.request(name, "GET", PATH)


async def test_a_mimi_request_goes_to_the_url_with_its_headers(
    their_tls: TlsConfig, our_tls: TlsConfig
) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls) as client:
        answer = await client.raw(
            "a.example",
            "POST",
            "https://a.example/mimi/x%2Fy?q=1",
            content=b"\x00\x01",
            headers={"From": "mimi@b.example", "Content-Type": "application/octet-stream"},
        )
        assert (answer.status, answer.body, answer.retry_after_s) == (200, b"\x00\x01", 7.0)
        missing = await client.raw("a.example", "GET", "https://a.example/nothing")
        assert missing.status == 404
        for url in ("http://a.example/", "https://user@a.example/", "https:///x"):
            with pytest.raises(ProviderError, match="not https"):
                await client.raw("a.example", "GET", url)
        with pytest.raises(ProviderError, match="cannot be reached"):
            await client.raw("c.example", "GET", "https://c.example:1/")
        with pytest.raises(ProviderError, match="cannot be asked for that path"):
            await client.raw("a.example", "GET", "https://a.example/x\x00")
        await client.raw("a.example", "POST", "https://a.example/mimi/é%2F y?ü=\x20")
    assert peer.requests[1].raw_target == "/mimi/%C3%A9%2F%20y?%C3%BC=%20"
    request = peer.requests[0]
    assert request.raw_target == "/mimi/x%2Fy?q=1"
    assert request.headers["from"] == "mimi@b.example"
    assert request.headers["host"] == "a.example"
    assert request.peer_domains == ("b.example",)
    assert request.authorization == ()


async def test_connections_to_idle_servers_make_room(
    their_tls: TlsConfig, our_tls: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_DESTINATIONS", 1)
    async with talking(Peer(), their_tls, our_tls, "a.example", "e.example") as client:
        for name in ("a.example", "e.example", "a.example"):
            await client.raw(name, "GET", f"https://{name}/nothing")
            assert len(client._connections) == 1


def test_unusable_tls_files_are_a_settings_error(our_tls: TlsConfig) -> None:
    with pytest.raises(ConfigError, match="cannot use certificate, key or trusted_ca"):
        client_context(replace(our_tls, certificate=Path("absent.pem")))


async def test_a_host_that_cannot_be_asked_delegates_nothing(our_tls: TlsConfig) -> None:
    async with FederationClient(config(our_tls), US, clock=lambda: 0) as client:
        answer = await client._fetch_well_known("127.0.0.1:1")
        assert answer.status == 0


async def test_a_delegation_is_fetched_through_redirects(authority: Authority, our_tls: TlsConfig) -> None:
    async def moved(_request: Request) -> Response:
        return Response(status=302, headers=(("location", "/elsewhere"),))

    async def document(_request: Request) -> Response:
        return Response(
            body=b'{"m.server": "c.example"}',
            content_type="text/html",  # "clients SHOULD parse it as JSON regardless"
            headers=(("cache-control", "max-age=60"),),
        )

    async def circle(_request: Request) -> Response:
        return Response(status=302, headers=(("location", "/.well-known/matrix/server"),))

    straight = build_app(
        [Route("GET", "/.well-known/matrix/server", moved), Route("GET", "/elsewhere", document)]
    )
    round_and_round = build_app([Route("GET", "/.well-known/matrix/server", circle)])
    tls = authority.issue("127.0.0.1")
    async with (
        serving(bind(tls, straight), bind(tls, round_and_round)) as (good, bad),
        FederationClient(config(our_tls), US, clock=lambda: 0) as client,
    ):
        found = await client._fetch_well_known(str(good))
        assert (found.status, found.body, found.cache_control) == (
            200,
            b'{"m.server": "c.example"}',
            "max-age=60",
        )
        assert (await client._fetch_well_known(str(bad))).status == 0


async def test_no_redirect_leads_to_plain_http(authority: Authority, our_tls: TlsConfig) -> None:
    reached: list[Request] = []
    inside: list[Address] = []

    async def secret(request: Request) -> Response:
        reached.append(request)
        return Response(body=b'{"m.server": "c.example"}')

    async def inward(_request: Request) -> Response:
        return Response(status=302, headers=(("location", f"http://{inside[0]}/secret"),))

    outside = build_app([Route("GET", "/.well-known/matrix/server", inward)])
    plain = Binding(address=LOOPBACK, app=build_app([Route("GET", "/secret", secret)]))
    async with (
        serving(bind(authority.issue("127.0.0.1"), outside), plain) as (host, address),
        FederationClient(config(our_tls), US, clock=lambda: 0) as client,
    ):
        inside.append(address)
        assert (await client._fetch_well_known(str(host))).status == 0
    assert reached == []


async def test_a_key_document_has_a_largest_size(their_tls: TlsConfig, our_tls: TlsConfig) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls) as client:
        for size, refused in ((outbound.MAX_KEY_DOCUMENT_BYTES, False), (2**17, True)):
            peer.document = b'{"x": "' + b"y" * (size - 9) + b'"}'
            if refused:
                with pytest.raises(OutboundError, match="too large"):
                    await client.server_keys("a.example")
            else:
                assert (await client.server_keys("a.example")).keys() == {"x"}


async def test_a_server_without_the_unstable_paths_is_asked_by_the_final_ones(
    their_tls: TlsConfig, our_tls: TlsConfig
) -> None:
    peer = Peer()
    async with talking(peer, their_tls, our_tls) as client:
        answer = await client.request("a.example", "PUT", f"{UNSTABLE}/send/1", json={"pdus": []})
        assert answer == {"ok": True}
        assert [request.raw_target for request in peer.requests] == ["/_matrix/federation/v2/send/1"]
        for path in (f"{UNSTABLE}/nothing/1", "/_matrix/federation/v1/nothing"):
            with pytest.raises(OutboundError) as refused:
                await client.request("a.example", "PUT", path, json={})
            assert (refused.value.status, refused.value.errcode) == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize("body", [b"<html>", b'{"errcode": "M_NOT_FOUND"}', b"[]"])
async def test_any_other_404_is_an_answer(
    their_tls: TlsConfig, our_tls: TlsConfig, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(Response(status=404, body=body))
    monkeypatch.setattr(endpoints, "UNSTABLE", "/_matrix/federation/v1")
    monkeypatch.setattr(endpoints, "FINAL_VERSIONS", {"thing": "v7"})
    async with talking(peer, their_tls, our_tls) as client:
        with pytest.raises(OutboundError):
            await client.request("a.example", "PUT", PATH, json={})
    assert [request.raw_target for request in peer.requests] == [PATH]


@pytest.mark.parametrize(("refusals", "sent"), [(1, 2), (3, 4), (9, 4)])
async def test_a_transaction_waits_for_the_one_the_receiver_still_works_on(
    their_tls: TlsConfig, our_tls: TlsConfig, monkeypatch: pytest.MonkeyPatch, refusals: int, sent: int
) -> None:
    monkeypatch.setattr(outbound, "IN_FLIGHT_PAUSES", (0.0, 0.0, 0.0))
    busy = Response(status=400, body=b'{"errcode": "M_BAD_STATE", "error": "wait"}')

    class Busy(Peer):
        async def handle(self, request: Request) -> Response:
            answer = await super().handle(request)
            return busy if len(self.requests) <= refusals else answer

    peer = Busy()
    async with talking(peer, their_tls, our_tls) as client:
        path = "/_matrix/federation/v2/send/1"
        if refusals < sent:
            assert await client.request("a.example", "PUT", path, json={}) == {"ok": True}
        else:
            with pytest.raises(OutboundError) as refused:
                await client.request("a.example", "PUT", path, json={})
            assert refused.value.errcode == "M_BAD_STATE"
    assert len(peer.requests) == sent
