"""Which addresses are connected to, whatever a name, a record or a redirect says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpcore
import pytest
import trio
import trustme

from linearized.config import Address, Config, DiscoveryConfig, IPAddress, IPNetwork, ListenConfig, TlsConfig
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.server.app import App, build_app
from linearized.server.connecting import MAX_ADDRESSES, Guard, is_public
from linearized.server.dns_lookup import Dns, LookupFailed
from linearized.server.http import Receive, Request, Response, Route, Scope, Send, json_response
from linearized.server.outbound import FederationClient, OutboundError

from .dns_support import Zone, dns_server
from .tls_support import Authority, bind, serving

US = ServerIdentity("b.example", SigningKey.generate("one", b"b" * 32))
LOOPBACK_ALLOWED = DiscoveryConfig(allowed_networks=(ip_network("127.0.0.0/8"),))
WELL_KNOWN = "/.well-known/matrix/server"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - an address to be refused
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep credentials
        "100.64.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::1",  # 6to4 of 127.0.0.1
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
    ],
)
def test_addresses_that_are_not_of_the_public_internet_are_known(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_public_internet_are_known(address: str) -> None:
    assert is_public(ip_address(address))


class Names:
    """DNS of the test: the addresses of every host, and how often they were asked for."""

    def __init__(self, *addresses: str) -> None:
        self.found = [ip_address(address) for address in addresses]
        self.asked: list[str] = []

    async def addresses(self, host: str) -> list[IPAddress]:
        self.asked.append(host)
        await trio.lowlevel.checkpoint()
        if not self.found:
            raise LookupFailed("none")
        return list(self.found)


class Inner(httpcore.AsyncNetworkBackend):
    """Connections that are refused but for some addresses; records who was tried."""

    def __init__(self, *answering: str) -> None:
        self.answering = answering
        self.tried: list[tuple[str, float | None]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        self.tried.append((host, timeout))
        if host not in self.answering:
            raise httpcore.ConnectTimeout if host == "8.8.4.4" else httpcore.ConnectError
        return httpcore.AsyncMockStream([])


def guard(names: Names, inner: Inner, *, allowed: tuple[IPNetwork, ...] = (), trusted: bool = False) -> Guard:
    return Guard(names, allowed=allowed, trusted=trusted, inner=inner)


async def test_only_public_addresses_are_tried_and_the_name_is_looked_up_once() -> None:
    names = Names("127.0.0.1", "10.0.0.1", "8.8.4.4", "8.8.8.8", "1.1.1.1")
    inner = Inner("8.8.8.8")
    await guard(names, inner).connect_tcp("b.example", 8448, 9.0)
    assert inner.tried == [("8.8.4.4", 3.0), ("8.8.8.8", 3.0)]
    assert names.asked == ["b.example"]


async def test_a_host_with_none_but_private_addresses_cannot_be_reached() -> None:
    inner = Inner("127.0.0.1")
    for names in (Names("127.0.0.1", "::1", "169.254.169.254"), Names()):
        with pytest.raises(httpcore.ConnectError):
            await guard(names, inner).connect_tcp("b.example", 8448)
    assert inner.tried == []


async def test_the_settings_can_allow_networks_and_name_addresses() -> None:
    names, inner = Names("10.1.2.3", "10.2.2.3"), Inner()
    with pytest.raises(httpcore.ConnectError):
        await guard(names, inner, allowed=(ip_network("10.2.0.0/16"),)).connect_tcp("b.example", 1)
    assert inner.tried == [("10.2.2.3", None)]
    await guard(names, Inner("10.1.2.3"), trusted=True).connect_tcp("b.example", 1)


async def test_the_number_of_addresses_tried_is_bounded() -> None:
    names, inner = Names(*(f"1.1.1.{n}" for n in range(1, 50))), Inner()
    with pytest.raises(httpcore.ConnectError):
        await guard(names, inner).connect_tcp("b.example", 8448, 6.0)
    assert len(inner.tried) == MAX_ADDRESSES


async def test_a_plain_connection_is_made_only_where_any_other_is() -> None:
    with pytest.raises(httpcore.ConnectError, match="no address"):
        await guard(Names("127.0.0.1"), Inner()).connect("b.example", 1, 9.0)
    loopback = guard(Names("127.0.0.1", "127.0.0.2"), Inner(), allowed=LOOPBACK_ALLOWED.allowed_networks)
    with pytest.raises(httpcore.ConnectError):
        await loopback.connect("b.example", 1, 9.0)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.2")
    async with listener:
        port = listener.socket.getsockname()[1]
        async with await loopback.connect("b.example", port, 9.0) as stream:
            assert stream.socket.getpeername() == ("127.0.0.2", port)
        with pytest.raises(httpcore.ConnectTimeout):
            await loopback.connect("b.example", port, 0)


# --- the whole client, over loopback ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca"))
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


class Site:
    """A server that says which name and host header it was reached by."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def thing(self, request: Request) -> Response:
        self.hosts.append(request.headers["host"])
        return json_response({"ok": True})

    def app(self) -> App:
        return build_app([Route("GET", "/thing", self.thing)])


@asynccontextmanager
async def client(
    tls: TlsConfig, nameserver: Address, *, discovery: DiscoveryConfig = LOOPBACK_ALLOWED
) -> AsyncIterator[FederationClient]:
    config = Config(
        server_name="b.example",
        data_dir=Path(),
        listen=ListenConfig(tls=Address(host="127.0.0.1", port=0)),
        tls=tls,
        discovery=discovery,
    )
    async with FederationClient(config, US, clock=lambda: 0, names=Dns([nameserver])) as made:
        yield made


async def test_an_explicit_port_goes_to_the_hosts_address_with_its_certificate(authority: Authority) -> None:
    site, zone = Site(), Zone()
    zone.records["a.example", "A"] = ["127.0.0.1"]
    async with (
        serving(bind(authority.issue("a.example"), site.app())) as (address,),
        dns_server(zone) as nameserver,
        client(authority.issue("b.example"), nameserver) as ours,
    ):
        name = f"a.example:{address.port}"
        assert await ours.get_json(name, "/thing") == {"ok": True}
    assert site.hosts == [name]


async def test_an_srv_target_has_to_prove_the_servers_own_name_and_the_next_one_is_tried(
    authority: Authority,
) -> None:
    site, zone = Site(), Zone()
    zone.records["target.example", "A"] = ["127.0.0.1"]
    async with (
        serving(bind(authority.issue("c.example"), site.app())) as (address,),
        dns_server(zone) as nameserver,
        client(authority.issue("b.example"), nameserver) as ours,
    ):
        targets = ["0 0 1 nowhere.example.", f"1 0 {address.port} target.example."]
        for name in ("c.example", "d.example"):
            zone.records[f"_matrix._tcp.{name}", "SRV"] = targets
        assert await ours.get_json("c.example", "/thing") == {"ok": True}
        with pytest.raises(OutboundError, match="cannot be reached"):
            await ours.get_json("d.example", "/thing")
    assert site.hosts == ["c.example"]


async def test_a_service_that_is_decidedly_not_available_is_not_asked(authority: Authority) -> None:
    zone = Zone(records={("_matrix._tcp.c.example", "SRV"): ["0 0 0 ."]})
    async with dns_server(zone) as nameserver, client(authority.issue("b.example"), nameserver) as ours:
        with pytest.raises(OutboundError, match="offers no such service"):
            await ours.get_json("c.example", "/thing")


async def test_nothing_inside_is_reached_by_name_and_no_second_answer_is_asked_for(
    authority: Authority,
) -> None:
    site = Site()
    async with serving(bind(authority.issue("a.example"), site.app())) as (address,):
        zone = Zone(sequences={("a.example", "A"): [["127.0.0.1"], ["127.0.0.1"]]})
        async with (
            dns_server(zone) as nameserver,
            client(authority.issue("b.example"), nameserver, discovery=DiscoveryConfig()) as ours,
        ):
            with pytest.raises(OutboundError, match="cannot be reached: ConnectError"):
                await ours.get_json(f"a.example:{address.port}", "/thing")
        assert zone.asked == [("a.example", "AAAA"), ("a.example", "A")]
    assert site.hosts == []


async def test_a_name_that_is_rebound_between_two_lookups_gains_nothing(authority: Authority) -> None:
    """The first answer is public and nobody is there; the second, which points inside, is checked as well."""
    site = Site()
    async with serving(bind(authority.issue("a.example"), site.app())) as (address,):
        names = Names("8.8.8.8")
        inner = Inner()
        with pytest.raises(httpcore.ConnectError):
            await guard(names, inner).connect_tcp("a.example", address.port)
        names.found = [ip_address("127.0.0.1")]
        with pytest.raises(httpcore.ConnectError, match="no address we connect to"):
            await guard(names, inner).connect_tcp("a.example", address.port)
    assert [host for host, _ in inner.tried] == ["8.8.8.8"]
    assert site.hosts == []


async def test_a_redirect_of_a_delegation_is_checked_as_the_first_address_was(authority: Authority) -> None:
    reached: list[str] = []

    async def moved(_request: Request) -> Response:
        return Response(status=302, headers=(("location", f"https://inside.example:{port[0]}/secret"),))

    async def secret(request: Request) -> Response:
        reached.append(request.headers["host"])
        return Response(body=b'{"m.server": "c.example"}')

    app = build_app([Route("GET", WELL_KNOWN, moved), Route("GET", "/secret", secret)])
    port: list[int] = []
    zone = Zone()
    zone.records["outside.example", "A"] = ["127.0.0.1"]
    zone.records["inside.example", "A"] = ["127.0.0.2"]
    only = DiscoveryConfig(allowed_networks=(ip_network("127.0.0.1/32"),))
    tls = authority.issue("outside.example", "inside.example")
    async with (
        serving(bind(tls, app)) as (address,),
        dns_server(zone) as nameserver,
        client(authority.issue("b.example"), nameserver, discovery=only) as ours,
    ):
        port.append(address.port)
        assert (await ours._fetch_well_known(f"outside.example:{address.port}")).status == 0
    assert reached == []


async def test_a_connection_that_breaks_off_is_an_error_of_the_peer(authority: Authority) -> None:
    tls = authority.issue("a.example")

    async def hang_up(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50")]})
        await send({"type": "http.response.body", "body": b"half an", "more_body": True})
        scope["abort"]()

    zone = Zone(records={("a.example", "A"): ["127.0.0.1"]})
    async with (
        serving(bind(tls, hang_up)) as (address,),
        dns_server(zone) as nameserver,
        client(authority.issue("b.example"), nameserver) as ours,
    ):
        with pytest.raises(OutboundError, match="cannot be reached: TransportError"):
            await ours.get_json(f"a.example:{address.port}", "/thing")
