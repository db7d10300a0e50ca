"""Real servers without sockets: each on its own SQLite file, all on one in-memory network.

A ``Network`` is the wire; ``running_server`` puts a server on it. Requests between servers go through the
real outbound client, are signed by it, and arrive at the real ASGI application with the peer's certificate
name.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import trio
from cryptography.x509 import Certificate

from linearized.config import Config, MetadataConfig, ProviderConfig, StoreConfig
from linearized.config_file import load_config
from linearized.protocol.signing import ServerIdentity
from linearized.provider_files import ProviderPlan, create_provider
from linearized.server import outbound, run
from linearized.server.app import App, build_app
from linearized.server.clients.passwords import hash_password
from linearized.server.discovery import Destination
from linearized.server.exchange import Channel, Outgoing, Reply, read_within
from linearized.server.node import Node
from linearized.server.opening import open_node, system_clock
from linearized.server.outbound import FederationClient
from linearized.store.base import UserRow
from linearized.store.sqlite import SqliteStore

PASSWORD = "correct horse battery staple"


@dataclass
class Network:
    """Who is on the wire. A name in ``down`` refuses connections; ``log`` records every request made.

    ``views`` are for hostile servers: what an origin finds under a name instead, None for nobody.
    """

    apps: dict[str, App] = field(default_factory=dict)
    views: dict[tuple[str, str], App | None] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    log: list[tuple[str, str, str, str]] = field(default_factory=list)
    client_address: str = "127.0.0.1"
    """From where everybody's requests come."""
    _made: trio.Event = field(default_factory=trio.Event)

    async def until(self, wanted: Callable[[str, str, str, str], bool]) -> None:
        """Wait until there is such a request in the log: of whom, to whom, its method and target."""
        while not any(wanted(*entry) for entry in self.log):
            await self._made.wait()

    def made(self, origin: str, name: str, method: str, target: str) -> None:
        """Note a request."""
        self.log.append((origin, name, method, target))
        made, self._made = self._made, trio.Event()
        made.set()

    def transport(self, origin: str) -> httpx.AsyncBaseTransport:
        """How ``origin`` (a provider, or ``""`` for a client without a certificate) reaches everybody."""
        return _Wire(self, origin)


class _Wire(httpx.AsyncBaseTransport):
    def __init__(self, network: Network, origin: str) -> None:
        self._network = network
        self._origin = origin

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.headers["host"].partition(":")[0]
        app = self._network.views.get((self._origin, name), self._network.apps.get(name))
        if app is None or name in self._network.down:
            raise httpx.ConnectError(f"{name} is down", request=request)
        self._network.made(self._origin, name, request.method, request.url.raw_path.decode())
        peers = (self._origin,) if self._origin else ()

        async def with_peer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await app({**scope, "peer_domains": peers}, receive, send)

        client = (self._network.client_address, 123)
        return await httpx.ASGITransport(app=with_peer, client=client).handle_async_request(request)


class _WireChannel:
    """The wire as the outbound client uses it."""

    def __init__(self, wire: httpx.AsyncBaseTransport) -> None:
        self._wire = wire

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        response = await self._wire.handle_async_request(
            httpx.Request(
                request.method,
                f"https://{request.address}{request.target}",
                headers=request.headers,
                content=request.body,
            )
        )
        body = await read_within(response.aiter_raw(), limit)
        return Reply(status=response.status_code, headers=response.headers, body=body)

    async def aclose(self) -> None:
        await self._wire.aclose()


class MemoryFederation(FederationClient):
    """The outbound client, with the wire in place of TLS connections."""

    def __init__(
        self, config: Config, identity: ServerIdentity, clock: Callable[[], int], network: Network
    ) -> None:
        # There is no TLS on this wire, and reading the system's authorities takes longer than all the rest.
        with patch.object(outbound, "client_context"):
            super().__init__(config, identity, clock=clock)
        self._network = network

    def _new_channel(self, _destination: Destination, _serial: bool) -> Channel:
        return _WireChannel(self._network.transport(self._identity.name))


@dataclass
class Server:
    """A running server and the ways to reach it."""

    node: Node
    network: Network

    @property
    def name(self) -> str:
        return self.node.identity.name

    @property
    def bridge_token(self) -> str:
        return self.node.config.bridges[0].token

    def http(self) -> httpx.AsyncClient:
        """A client without a certificate."""
        return httpx.AsyncClient(
            transport=self.network.transport(""), base_url=f"https://{self.name}", timeout=60
        )

    async def user(self, localpart: str) -> str:
        """Make an account with ``PASSWORD``; its user ID."""
        user_id = f"@{localpart}:{self.name}"
        await self.node.store.put_user(
            UserRow(
                user_id=user_id,
                password_hash=hash_password(PASSWORD, salt=b"salt of the tests"),
                created_ts=self.node.clock(),
            )
        )
        return user_id


def commits(server: Server) -> int:
    """How many transactions the server's database has seen."""
    assert isinstance(server.node.store, SqliteStore)
    return server.node.store.commits


_PORTS = itertools.count(20_000)


@asynccontextmanager
async def running_server(
    name: str,
    directory: Path,
    network: Network,
    *,
    peers: tuple[str, ...] = ("a.example", "b.example", "c.example"),
    bridged: tuple[str, ...] = (),
    providers: Mapping[str, ProviderConfig] | None = None,
    metadata: MetadataConfig | None = None,
    operators: tuple[str, ...] = (),
    authorities: Mapping[str, tuple[Certificate, ...]] | None = None,
    clock: Callable[[], int] = system_clock,
    store_in_thread: bool = True,
) -> AsyncIterator[Server]:
    """Put a server on the network; its files stay in ``directory``, so it can be started again."""
    home = directory / name
    if (home / "linearized.toml").exists():
        config = load_config(home / "linearized.toml")
    else:
        home.mkdir(parents=True, exist_ok=True)
        config = create_provider(
            home,
            ProviderPlan(
                server_name=name,
                dev_ca=directory / "ca",
                bridged_domains=bridged,
                peers={peer: f"127.0.0.1:{next(_PORTS)}" for peer in peers if peer != name},
            ),
        )

    def federation(settings: Config, identity: ServerIdentity, now: Callable[[], int]) -> FederationClient:
        return MemoryFederation(settings, identity, now, network)

    # No test here cuts the power, so nothing need be flushed to the disk.
    config = replace(
        config,
        store=StoreConfig(synchronous="OFF"),
        providers=providers or {},
        metadata=metadata or MetadataConfig(),
        operators=operators,
        certificate_authorities=authorities or {},
    )
    async with open_node(config, clock=clock, federation=federation, store_in_thread=store_in_thread) as node:
        network.apps[name] = build_app(run.routes(node))
        try:
            yield Server(node, network)
        finally:
            del network.apps[name]
