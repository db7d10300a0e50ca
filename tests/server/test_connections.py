"""Which connection a request takes, and what is spoken on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from linearized.config import Address, TlsConfig
from linearized.server.app import build_app
from linearized.server.http import Receive, Response, Route, Scope, Send, json_response
from linearized.server.listener import AsgiApp
from linearized.server.outbound import FederationClient, OutboundError

from .test_outbound import US, config
from .tls_support import Authority, bind, serving

SEND = "/_matrix/federation/v2/send/1"
# A fatal alert in TLS: "no_application_protocol(120)" (RFC 7301, 3.2).
ALERT = bytes([21, 3, 3, 0, 2, 2, 120])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path)
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


class Versions:
    """An application that notes what HTTP version each request came in."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def app(self) -> AsgiApp:
        async def answer(_request: object) -> Response:
            return json_response({})

        routes = build_app([Route(method, SEND, answer) for method in ("GET", "PUT")])

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            self.seen.append(scope["http_version"])
            await routes(scope, receive, send)

        return noting


@asynccontextmanager
async def asking(tls: TlsConfig, address: Address) -> AsyncIterator[FederationClient]:
    async with FederationClient(config(tls, ("a.example", address)), US, clock=lambda: 0) as client:
        yield client


async def test_transactions_go_by_http1_and_the_rest_by_http2(authority: Authority) -> None:
    versions = Versions()
    async with (
        serving(bind(authority.issue("a.example"), versions.app)) as (address,),
        asking(authority.issue("b.example"), address) as client,
    ):
        for _ in range(2):
            assert await client.transaction("a.example", SEND, b'{"pdus":[]}') == {}
            assert await client.request("a.example", "GET", SEND) == {}
    assert versions.seen == ["1.1", "2"] * 2


@asynccontextmanager
async def only_http2(behind: Address, hellos: list[bytes]) -> AsyncIterator[Address]:
    """A server that refuses whoever does not offer HTTP/2, in front of one that takes anybody."""

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async def serve(stream: trio.SocketStream) -> None:
        hello = bytes(await stream.receive_some())
        hellos.append(hello)
        if b"\x02h2" not in hello:
            await stream.send_all(ALERT)
            return
        async with await trio.open_tcp_stream(behind.host, behind.port) as inner, trio.open_nursery() as both:
            await inner.send_all(hello)
            both.start_soon(copy, stream, inner)
            both.start_soon(copy, inner, stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield Address(host="127.0.0.1", port=listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def test_a_server_that_speaks_http2_alone_gets_http2(authority: Authority) -> None:
    versions, hellos = Versions(), list[bytes]()
    async with (
        serving(bind(authority.issue("a.example"), versions.app)) as (behind,),
        only_http2(behind, hellos) as address,
        asking(authority.issue("b.example"), address) as client,
    ):
        for _ in range(2):
            assert await client.transaction("a.example", SEND, b'{"pdus":[]}') == {}
    assert versions.seen == ["2"] * 2
    assert [b"\x02h2" in hello for hello in hellos] == [False, True], "it is not asked again"


async def test_any_other_failure_of_a_handshake_is_not_tried_again(authority: Authority) -> None:
    hellos: list[bytes] = []

    async def refuse(stream: trio.SocketStream) -> None:
        hellos.append(bytes(await stream.receive_some()))
        await stream.send_all(ALERT[:-1] + bytes([40]))  # handshake_failure

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        address = Address(host="127.0.0.1", port=listeners[0].socket.getsockname()[1])
        async with asking(authority.issue("b.example"), address) as client:
            with pytest.raises(OutboundError, match="cannot be reached: ConnectError"):
                await client.transaction("a.example", SEND, b"{}")
        nursery.cancel_scope.cancel()
    assert len(hellos) == 1


async def test_a_transaction_is_for_the_server_whose_certificate_it_meets(authority: Authority) -> None:
    versions = Versions()
    async with (
        serving(bind(authority.issue("c.example"), versions.app)) as (address,),
        asking(authority.issue("b.example"), address) as client,
    ):
        with pytest.raises(OutboundError, match="cannot be reached: ConnectError"):
            await client.transaction("a.example", SEND, b"{}")
    assert versions.seen == []
