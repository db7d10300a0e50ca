"""Listening sockets: our own accept loop and TLS handshake in front of what serves one connection.

Hypercorn speaks HTTP/2 to an ASGI application but does not show it the client's certificate. So we accept and
shake hands ourselves, read the certificate's DNS names, and give every request of the connection a scope with

``peer_domains``
    the DNS names of the verified client certificate, lower-case; empty without one;
``abort``
    a function that drops the connection once it has the answer, for a peer that keeps sending what nobody
    wants;
``endings``
    the set of what ends each answer that would go on for ever; when the server stops, it does.

Nothing here knows about routes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper

from linearized.config import GRACE_SECONDS, MAX_CONNECTIONS, Address, TlsConfig
from linearized.exceptions import ConfigError
from linearized.server.http import Receive, Scope, Send
from linearized.server.http1_server import Http1Server, Idle
from linearized.server.http_connection import CLOSE_SECONDS, TlsStream, serve_connection
from linearized.server.streaming import Ending
from linearized.server.telemetry import Log, describe, get_log
from linearized.server.wires import PlainWire, TlsWire, Wire

AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 1024  # connections the kernel holds while we are busy; a restart makes every peer reconnect at once
HANDSHAKE_SECONDS = 10  # two round trips on a bad line; a silent client must not hold a place for longer
KEEP_ALIVE_SECONDS = 75  # longer than the minute most clients and proxies keep their side
# reconnecting costs both sides a handshake, so there is no reason to force it
KEEP_ALIVE_REQUESTS = 1_000_000
LINGER_SECONDS = 0.2  # Hypercorn calls a request done while its last frame is still on its way out
# requests at a time on one HTTP/2 connection: a bridge long-polls for many users on one
CONCURRENT_STREAMS = 250
# Requests that may run for one connection. HTTP/2 does not count a stream its client has reset, but the
# handler behind it runs on; a client that opens and resets for ever ("rapid reset", CVE-2023-44487) loses its
# connection here.
RUNNING_REQUESTS = 2 * CONCURRENT_STREAMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One address to listen on: with TLS when ``tls`` is given. Port 0 takes any free port."""

    address: Address
    app: AsgiApp
    tls: ssl.SSLContext | None = None


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.3 with the server's certificate; client certificates are optional and only from ``trusted_ca``.

    Raises:
        ConfigError: a file is missing or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The draft says: "Servers MUST support a minimum of HTTP/2 and TLS 1.3". The MIMI draft asks for 1.3 too,
    # so nothing older is spoken.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2", "http/1.1"])
    # No resumption: a client certificate is then checked for every connection, revoked authorities included.
    context.num_tickets = 0
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.trusted_ca is not None:
            context.load_verify_locations(tls.trusted_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:  # the ssl module raises both for unreadable files
        raise ConfigError(f"tls: cannot use certificate, key or trusted_ca: {error}") from error
    return context


async def serve_bindings(
    bindings: Sequence[Binding],
    *,
    stop: trio.Event,
    max_connections: int = MAX_CONNECTIONS,
    grace_seconds: float = GRACE_SECONDS,
    log: Log | None = None,
    task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop`` is set, then stop accepting and give running requests ``grace_seconds`` to finish.

    Reports the addresses it listens on, in the order of ``bindings``. Cancelling it ends everything at once.

    Raises:
        ConfigError: an address cannot be listened on.
    """
    log = log or get_log(part="listener")
    server = _Server(max_connections, log)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            addresses = []
            for binding in bindings:
                listeners = await _open(binding.address)
                addresses.append(_bound(listeners[0]))
                handler = partial(server.connection, binding)
                accepting.start_soon(
                    partial(trio.serve_listeners, handler, listeners, handler_nursery=connections)
                )
            task_status.started(tuple(addresses))
            await stop.wait()
            accepting.cancel_scope.cancel()
        with trio.move_on_after(grace_seconds):
            await server.finish()
        await server.end_idle()
        connections.cancel_scope.deadline = trio.current_time() + (0 if server.running else CLOSE_SECONDS)


async def _open(address: Address) -> list[trio.SocketListener]:
    try:
        return list(await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG))
    except OSError as error:
        raise ConfigError(f"listen: cannot listen on {address}: {error}") from error


def _bound(listener: trio.SocketListener) -> Address:
    host, port = listener.socket.getsockname()[:2]
    return Address(host=host, port=port)


class _Server:
    """What all connections share."""

    def __init__(self, max_connections: int, log: Log) -> None:
        self.running = 0  # requests
        self._context = WorkerContext(None)
        self._idle = Idle()
        self._endings: set[Ending] = set()
        self._open = 0  # connections
        self._stopping = False
        self._finished = trio.Event()
        self._max = max_connections
        self._log = log
        self._hypercorn = _hypercorn_config()

    async def connection(self, binding: Binding, transport: trio.SocketStream) -> None:
        """Serve one connection to its end; whatever happens on it stays on it."""
        if self._open >= self._max:
            self._log.warning("too_many_connections", limit=self._max)
            await trio.aclose_forcefully(transport)
            return
        self._open += 1
        try:
            await self._serve(binding, transport)
        except Exception as error:  # noqa: BLE001 - one peer's broken framing must not end the server
            self._log.warning("connection_failed", **describe(error))
        finally:
            self._open -= 1
            await trio.aclose_forcefully(transport)

    async def _serve(self, binding: Binding, transport: trio.SocketStream) -> None:
        if binding.tls is None:
            await self._serve_http1(binding.app, PlainWire(transport), ())
            return
        secure = TlsWire(transport, binding.tls)
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                await secure.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            self._log.debug("handshake_failed", exception=type(error.__cause__ or error).__name__)
            return
        domains = peer_domains(secure.getpeercert())
        if secure.selected_alpn_protocol() != "h2":
            await self._serve_http1(binding.app, secure, domains)
            return
        stream = TlsStream(secure)
        app = self._with_peer(binding.app, domains, stream)
        await serve_connection(stream, app, self._hypercorn, self._context)

    async def _serve_http1(self, app: AsgiApp, wire: Wire, domains: tuple[str, ...]) -> None:
        socket = wire.transport.socket
        try:
            client = socket.getpeername()[:2]
        except OSError:
            return  # it has left already
        scope = {
            "asgi": {"version": "3.0"},
            "client": client,
            "scheme": "https" if isinstance(wire, TlsWire) else "http",
            **self._extension(domains, socket.close),
        }
        connection = Http1Server(
            wire, partial(self._run, app), scope=scope, idle=self._idle, keep_seconds=KEEP_ALIVE_SECONDS
        )
        await connection.serve()

    def _extension(self, domains: tuple[str, ...], abort: Callable[[], None]) -> Scope:
        return {"peer_domains": domains, "abort": abort, "endings": self._endings}

    def _with_peer(self, app: AsgiApp, domains: tuple[str, ...], stream: TlsStream) -> AppWrapper:
        """What Hypercorn runs for each request: the application, with the peer's names in its scope."""

        here = 0  # requests running on this connection
        extension = self._extension(domains, stream.abort)

        async def wrapped(scope: Scope, receive: Receive, send: Send, *_threads: Callable[..., Any]) -> None:
            nonlocal here
            if here >= RUNNING_REQUESTS:
                self._log.warning("too_many_requests", limit=RUNNING_REQUESTS)
                stream.drop()  # what it was answered so far it may never read
                return
            here += 1
            try:
                await self._run(app, {**scope, **extension}, receive, send)
            finally:
                here -= 1

        return cast("AppWrapper", wrapped)

    async def _run(self, app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._stopping:
            await _unavailable(send)
            return
        self.running += 1
        try:
            await app(scope, receive, send)
        finally:
            self._ended()

    def _ended(self) -> None:
        self.running -= 1
        if self._stopping and not self.running:
            self._finished.set()

    async def finish(self) -> None:
        """Refuse new requests and wait for the running ones."""
        self._stopping = True
        for ending in self._endings:
            ending.end()
        if self.running:
            await self._finished.wait()
            await trio.sleep(LINGER_SECONDS)

    async def end_idle(self) -> None:
        """Close the connections on which nothing runs."""
        self._idle.end()
        await self._context.terminated.set()


def peer_domains(certificate: dict[str, Any] | None) -> tuple[str, ...]:
    """The DNS names of a verified certificate, as ``ssl`` decodes it; not the common name (RFC 9525)."""
    names = (certificate or {}).get("subjectAltName", ())
    return tuple(value.lower() for kind, value in names if kind == "DNS")


async def _unavailable(send: Send) -> None:
    body = b'{"errcode":"M_UNKNOWN","error":"The server is shutting down"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": [*headers, (b"retry-after", b"1")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _hypercorn_config() -> HypercornConfig:
    config = HypercornConfig()
    config.accesslog = None  # we log requests by route, not by path
    config.errorlog = None  # its error log quotes exceptions; ours does not
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = KEEP_ALIVE_REQUESTS
    config.h2_max_concurrent_streams = CONCURRENT_STREAMS
    return config
