"""The shell over real loopback sockets: TLS, both HTTP versions, client certificates and bounds."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h2.connection
import httpx
import pytest
import trio
import trustme

from linearized.config import Address, TlsConfig
from linearized.exceptions import ConfigError
from linearized.server import http1_server, listener
from linearized.server.app import build_app
from linearized.server.http import Receive, Request, Response, Route, Scope, Send
from linearized.server.listener import Binding, peer_domains, serve_bindings, server_context

from .tls_support import APP, Authority, Held, bind, closed, echo, serving


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca"))
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


@pytest.fixture(scope="session")
def tls(authority: Authority) -> TlsConfig:
    return authority.issue("localhost", "127.0.0.1")


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
async def test_requests_over_tls(authority: Authority, tls: TlsConfig, http2: bool, version: str) -> None:
    async with (
        serving(bind(tls)) as (address,),
        httpx.AsyncClient(http1=not http2, http2=http2, verify=authority.client()) as client,
    ):
        answer = await client.get(f"https://{address}/who/%2F?q=%20")
        assert answer.http_version == version
        assert answer.json() == {"target": "/who/%2F?q=%20", "domains": [], "client": "127.0.0.1"}
        assert "server" not in answer.headers
        large = b"x" * 3_000_000
        assert (await client.put(f"https://{address}/echo", content=large)).content == large
        assert (await client.put(f"https://{address}/who/x", content=large)).status_code == 200
        assert (await client.get(f"https://{address}/who/x/")).status_code == 404
        assert (await client.head(f"https://{address}/who/x")).status_code == 200


async def test_many_requests_share_one_http2_connection(authority: Authority, tls: TlsConfig) -> None:
    async with (
        serving(bind(tls), max_connections=1) as (address,),
        httpx.AsyncClient(http2=True, verify=authority.client()) as client,
        trio.open_nursery() as nursery,
    ):

        async def fetch(number: int) -> None:
            body = str(number).encode() * 1000
            answer = await client.put(f"https://{address}/echo", content=body)
            assert answer.content == body

        for number in range(50):
            nursery.start_soon(fetch, number)


@pytest.mark.parametrize("http2", [False, True])
async def test_the_names_of_a_client_certificate_reach_the_handler(
    authority: Authority, tls: TlsConfig, http2: bool
) -> None:
    peer = authority.issue("B.example", "c.example", "192.0.2.1")
    async with (
        serving(bind(tls)) as (address,),
        httpx.AsyncClient(http2=http2, verify=authority.client(peer)) as client,
    ):
        for _ in range(2):
            answer = await client.get(f"https://{address}/who/x")
            assert sorted(answer.json()["domains"]) == ["b.example", "c.example"]


async def test_a_certificate_of_another_authority_is_refused(
    authority: Authority, tls: TlsConfig, tmp_path: Path
) -> None:
    other = Authority(trustme.CA(), tmp_path)
    other.ca.cert_pem.write_to_path(str(other.pem))
    stranger = other.issue("b.example")
    async with (
        serving(bind(tls)) as (address,),
        httpx.AsyncClient(verify=authority.client(stranger)) as client,
    ):
        with pytest.raises(httpx.TransportError):
            await client.get(f"https://{address}/who/x")
    async with (
        serving(bind(replace(tls, trusted_ca=None))) as (address,),
        httpx.AsyncClient(verify=authority.client(stranger)) as client,
    ):
        answer = await client.get(f"https://{address}/who/x")
        assert answer.json()["domains"] == [], "without an authority, a certificate proves nothing"


async def test_nothing_older_than_tls_1_3_is_spoken(authority: Authority, tls: TlsConfig) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(bind(tls)) as (address,), httpx.AsyncClient(verify=context) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://{address}/who/x")


async def test_a_plain_listener_serves_beside_the_tls_one(authority: Authority, tls: TlsConfig) -> None:
    plain_app = build_app([Route("PUT", "/echo", echo)])
    async with (
        serving(bind(tls), bind(None, plain_app)) as (secure, plain),
        httpx.AsyncClient(verify=authority.client()) as client,
    ):
        assert (await client.put(f"http://{plain}/echo", content=b"a")).content == b"a"
        assert (await client.get(f"http://{plain}/who/x")).status_code == 404
        assert (await client.get(f"https://{secure}/who/x")).status_code == 200


async def test_connections_beyond_the_limit_are_closed_and_their_places_come_back(tls: TlsConfig) -> None:
    async with serving(bind(None), max_connections=1) as (address,):
        first = await trio.open_tcp_stream(address.host, address.port)
        await first.send_all(b"GET /who/x HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
        async with await trio.open_tcp_stream(address.host, address.port) as second:
            assert await closed(second)
        await first.aclose()
        while True:
            third = await trio.open_tcp_stream(address.host, address.port)
            try:
                await third.send_all(b"GET /who/x HTTP/1.1\r\nhost: a\r\n\r\n")
                answered = await third.receive_some()
            except trio.BrokenResourceError:
                answered = b""
            await third.aclose()
            if answered:
                assert answered.startswith(b"HTTP/1.1 200")
                break


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 100, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000, b"PRI * HTTP/2.0\r\n\r\nx"]
)
async def test_a_peer_that_speaks_nonsense_only_loses_its_connection(tls: TlsConfig, garbage: bytes) -> None:
    async with serving(bind(tls), bind(None)) as addresses:
        for address in addresses:
            stream = await trio.open_tcp_stream(address.host, address.port)
            await stream.send_all(garbage)
            await stream.send_eof()
            while not await closed(stream):
                pass
            await stream.aclose()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{addresses[1]}/who/x")).status_code == 200


async def test_a_broken_http2_request_only_loses_its_connection(authority: Authority, tls: TlsConfig) -> None:
    """A :path that is no ASCII raises inside Hypercorn; the listener must survive it."""

    context = authority.client()
    context.set_alpn_protocols(["h2"])
    async with serving(bind(tls)) as (address,):
        stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, ssl_context=context)
        h2c = h2.connection.H2Connection()
        h2c.initiate_connection()
        h2c.send_headers(
            1,
            [(":method", "GET"), (":path", b"/\xff"), (":authority", "a"), (":scheme", "https")],
            end_stream=True,
        )
        await stream.send_all(h2c.data_to_send())
        while not await closed(stream):
            pass
        await trio.aclose_forcefully(stream)
        async with httpx.AsyncClient(verify=authority.client()) as client:
            assert (await client.get(f"https://{address}/who/x")).status_code == 200


async def test_streams_opened_and_reset_for_ever_cost_the_connection(
    authority: Authority, tls: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "RUNNING_REQUESTS", 5)
    held = Held()
    context = authority.client()
    context.set_alpn_protocols(["h2"])
    app = build_app([Route("GET", "/", held)])
    headers = [(":method", "GET"), (":path", "/"), (":authority", "a"), (":scheme", "https")]
    async with serving(bind(tls, app)) as (address,):
        stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, ssl_context=context)
        client = h2.connection.H2Connection()
        client.initiate_connection()
        for number in range(1, 40, 2):
            client.send_headers(number, headers, end_stream=True)
            client.reset_stream(number)
        await stream.send_all(client.data_to_send())
        while not await closed(stream):
            pass
        await trio.aclose_forcefully(stream)
        assert held.calls == 5
        held.go.set()


async def test_a_silent_peer_is_hung_up_on(tls: TlsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0)
    async with (
        serving(bind(tls)) as (address,),
        await trio.open_tcp_stream(address.host, address.port) as stream,
    ):
        assert await closed(stream)


async def test_a_peer_that_stops_reading_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_server, "SEND_SECONDS", 0.05)
    huge = b"x" * 50_000_000
    ended = trio.Event()

    async def flood(_request: Request) -> Response:
        return Response(body=huge)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await build_app([Route("GET", "/", flood)])(scope, receive, send)
        ended.set()

    async with (
        serving(bind(None, app)) as (address,),
        await trio.open_tcp_stream(address.host, address.port) as stream,
    ):
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await ended.wait()


async def test_an_address_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConfigError, match=f"cannot listen on {address}"), flatten_subgroups=True
        ):
            await serve_bindings([Binding(address=address, app=APP)], stop=trio.Event())


@pytest.mark.parametrize(
    "broken",
    [
        lambda tls: replace(tls, certificate=Path("absent.pem")),
        lambda tls: replace(tls, key=tls.certificate),
        lambda tls: replace(tls, trusted_ca=tls.key),
    ],
)
def test_unusable_tls_files_are_a_settings_error(
    tls: TlsConfig, broken: Callable[[TlsConfig], TlsConfig]
) -> None:
    with pytest.raises(ConfigError, match="cannot use certificate, key or trusted_ca"):
        server_context(broken(tls))


def test_only_dns_names_of_a_certificate_count() -> None:
    certificate = {
        "subject": ((("commonName", "evil.example"),),),
        "subjectAltName": (("DNS", "B.example"), ("IP Address", "192.0.2.1"), ("URI", "mimi://c.example")),
    }
    assert peer_domains(certificate) == ("b.example",)
    assert peer_domains({}) == ()
    assert peer_domains(None) == ()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
async def test_the_protocol_is_negotiated_with_http2_first(
    authority: Authority, tls: TlsConfig, offered: list[str], chosen: str | None
) -> None:
    context = authority.client()
    if offered:
        context.set_alpn_protocols(offered)
    async with serving(bind(tls)) as (address,):
        stream = await trio.open_ssl_over_tcp_stream(
            address.host, address.port, ssl_context=context, https_compatible=True
        )
        async with stream:
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == chosen
            assert stream.version() == "TLSv1.3"


@pytest.mark.parametrize("http2", [False, True])
async def test_a_body_for_no_endpoint_does_not_cost_the_connection(
    authority: Authority, tls: TlsConfig, http2: bool
) -> None:
    async with (
        serving(bind(tls), max_connections=1) as (address,),
        httpx.AsyncClient(http2=http2, verify=authority.client()) as client,
    ):
        for method, path in (("PUT", "/nothing"), ("POST", "/who/x"), ("PUT", "/echo/")):
            answer = await client.request(method, f"https://{address}{path}", content=b"x" * 300_000)
            assert answer.json()["errcode"] == "M_UNRECOGNIZED"
