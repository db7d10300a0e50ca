"""Certificates and listening servers for the tests that need real loopback sockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
import trustme

from linearized.config import Address, TlsConfig
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.listener import AsgiApp, Binding, serve_bindings, server_context

PATIENCE = 10  # seconds before a test gives up on a socket
LOOPBACK = Address(host="127.0.0.1", port=0)


@dataclass
class Authority:
    """A certificate authority in a directory."""

    ca: trustme.CA
    directory: Path

    @property
    def pem(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, *names: str) -> TlsConfig:
        certificate, key = self.directory / f"{names[0]}.pem", self.directory / f"{names[0]}.key"
        issued = self.ca.issue_cert(*names)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return TlsConfig(certificate=certificate, key=key, trusted_ca=self.pem)

    def client(self, tls: TlsConfig | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pem))
        if tls is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        return context


async def who(request: Request) -> Response:
    return json_response(
        {"target": request.raw_target, "domains": request.peer_domains, "client": request.client_address}
    )


async def echo(request: Request) -> Response:
    return Response(body=await request.body(2**23))


APP = build_app([Route("GET", "/who/{x}", who), Route("PUT", "/echo", echo), Route("PUT", "/who/{x}", who)])


@asynccontextmanager
async def serving(
    *bindings: Binding, stop: trio.Event | None = None, max_connections: int = 10, grace_seconds: float = 1
) -> AsyncIterator[tuple[Address, ...]]:
    serve = partial(
        serve_bindings,
        bindings,
        stop=stop or trio.Event(),
        max_connections=max_connections,
        grace_seconds=grace_seconds,
    )
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve)
            nursery.cancel_scope.cancel()


def bind(tls: TlsConfig | None, app: AsgiApp = APP) -> Binding:
    return Binding(address=LOOPBACK, app=app, tls=server_context(tls) if tls else None)


async def closed(stream: trio.abc.Stream) -> bool:
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


async def until_refused(address: Address) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError:
            return
        await stream.aclose()


class Held:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.go = trio.Event()
        self.calls = 0

    async def __call__(self, _request: Request) -> Response:
        self.calls += 1
        self.entered.set()
        await self.go.wait()
        return json_response({"done": True})
