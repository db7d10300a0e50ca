"""Our requests to other servers over mutual TLS 1.3: signed for the federation face, plain for MIMI."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from urllib.parse import quote, urlsplit
from weakref import WeakValueDictionary

import httpcore
import httpx
import trio

from linearized.config import Config, TlsConfig
from linearized.exceptions import ConfigError
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import is_server_name
from linearized.protocol.signing import ServerIdentity
from linearized.server.channels import GuardedChannel, GuardedTransport, guarded_pool
from linearized.server.connecting import Guard
from linearized.server.connections import Connections
from linearized.server.discovery import Destination, Resolver, WellKnown
from linearized.server.dns_lookup import Dns
from linearized.server.exchange import (
    AnswerTooLarge,
    Channel,
    OutboundError,
    Outgoing,
    Reply,
    errcode_of,
    json_object,
    own_headers,
    path_after,
    read_within,
    request_target,
    retry_after,
    why,
)
from linearized.server.providers.client import MAX_RESPONSE_BYTES as MAX_MIMI_BYTES
from linearized.server.providers.client import Answer, ProviderError
from linearized.server.serial_channel import SerialChannel
from linearized.server.xmatrix import sign_encoded

__all__ = ["FederationClient", "OutboundError", "client_context"]

CONNECT_SECONDS = 10  # name lookup, TCP and TLS
KEEP_SECONDS = 60  # how long an idle connection is kept; below the 75 seconds servers keep their side
CONNECTIONS = 4  # per destination; HTTP/2 needs one, HTTP/1.1 peers get a few
# the state of a room of 25,000 members at 1 KB an event, with its auth chain
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_WELL_KNOWN_BYTES = 16 * 1024  # a host name in JSON
# Fifty keys take a fifth of it. Anybody can make us fetch any server's, and we keep what we get.
MAX_KEY_DOCUMENT_BYTES = 64 * 1024
MAX_NOTARY_BYTES = 4 * MAX_KEY_DOCUMENT_BYTES  # a server with that many sets of keys rotates often
MAX_REDIRECTS = 5  # "30x HTTP redirection MUST be followed, though loops SHOULD be avoided"
WELL_KNOWN_SECONDS = 10  # a host without a web server must not hold up the next step for longer

# Seconds between tries while a server answers that another transaction of ours is in flight there.
IN_FLIGHT_PAUSES = (0.5, 1.0, 2.0)

NO_BODY = b"{}"
"""What is signed for a request without a body."""

_BAD_REQUEST = 400
_UNAUTHORIZED = 401


def client_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.3 towards peers: the system's authorities and ``trusted_ca``, and our certificate if they ask for
    it.

    Raises:
        ConfigError: a file is missing or not what it should be.
    """
    try:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.trusted_ca is not None:
            context.load_verify_locations(tls.trusted_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls: cannot use certificate, key or trusted_ca: {error}") from error
    return context


class FederationClient:
    """Sends requests to servers by name. An async context manager: leaving it closes every connection."""

    def __init__(
        self,
        config: Config,
        identity: ServerIdentity,
        *,
        clock: Callable[[], int],
        names: Dns | None = None,
    ) -> None:
        self._identity = identity
        self._context = client_context(config.tls)
        self._seconds = config.limits.request_seconds
        self._names = names or Dns(config.discovery.nameservers)
        self._allowed = config.discovery.allowed_networks
        self._connections = Connections(self._new_channel)
        # Weak, so that a server nothing is sent to leaves nothing behind.
        self._transactions: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._without_content: set[str] = set()
        self.resolver = Resolver(
            overrides=config.discovery_overrides,
            fetch=self._fetch_well_known,
            srv=self._names.srv,
            clock=clock,
        )

    async def __aenter__(self) -> FederationClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connections.aclose()

    async def request(
        self, server_name: str, method: str, path: str, *, json: JsonObject | None = None
    ) -> JsonObject:
        """Send a signed request to a server and give the JSON object it answers with.

        Args:
            server_name: whom it is for; also what its certificate must say, unless the name delegates.
            method: ``GET``, ``PUT`` or ``POST``.
            path: the request target, percent-encoded, with the query if any.
            json: the body; None sends none.

        Raises:
            OutboundError: no answer within ``limits.request_seconds``, or not a 200 with a JSON object.
        """
        body = None if json is None else canonical_json(json)
        signed = NO_BODY if body is None and server_name not in self._without_content else body
        reply = await self._signed(server_name, method, path, body, signed)
        if reply.status == _UNAUTHORIZED and body is None and signed is not None:
            # "content … When a request doesn't contain a body, such as in GET requests, use an empty JSON
            # object." Matrix, and peers that grew from it, leave it out; a server that refuses the one may
            # take the other.
            again = await self._signed(server_name, method, path, None, None)
            if again.status != _UNAUTHORIZED:
                self._without_content.add(server_name)
                reply = again
        final = path_after(reply, path)
        if final is not None:
            return await self.request(server_name, method, final, json=json)
        return json_object(server_name, reply)

    async def transaction(self, server_name: str, path: str, body: bytes) -> JsonObject:
        """Send a transaction whose ``body`` is canonical JSON, and give the JSON object it is answered with.

        Raises:
            OutboundError: as for ``request``.
        """
        reply = await self._signed(server_name, "PUT", path, body, body)
        final = path_after(reply, path)
        if final is not None:
            return await self.transaction(server_name, final, body)
        return json_object(server_name, reply)

    async def get_json(self, server_name: str, path: str, *, limit: int = MAX_RESPONSE_BYTES) -> JsonObject:
        """Send an unsigned GET, for the endpoints that need no authentication; ``limit`` is in bytes.

        Raises:
            OutboundError: as for ``request``.
        """
        destination = await self._resolve(server_name)
        return json_object(
            server_name,
            await self._send(server_name, destination, "GET", path, headers={}, body=b"", limit=limit),
        )

    async def server_keys(self, server_name: str) -> JsonObject:
        """A server's own statement of its keys, unchecked.

        Raises:
            OutboundError: as for ``request``.
        """
        return await self.get_json(server_name, "/_matrix/key/v2/server", limit=MAX_KEY_DOCUMENT_BYTES)

    async def notary_keys(self, notary: str, server_name: str) -> JsonObject:
        """What a notary has of a server's keys, unchecked; also what is no longer valid.

        Raises:
            OutboundError: as for ``request``.
        """
        path = f"/_matrix/key/v2/query/{quote(server_name, safe='')}?minimum_valid_until_ts=0"
        return await self.get_json(notary, path, limit=MAX_NOTARY_BYTES)

    async def raw(
        self,
        provider: str,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        limit: int = MAX_MIMI_BYTES,
        in_turn: bool = False,
    ) -> Answer:
        """Send a request to a URL of a provider, over a connection that proves the URL's host; ``in_turn`` is
        for one that the next one waits for, as notifications do.

        Raises:
            ProviderError: there was no answer of at most ``limit`` bytes within ``limits.request_seconds``,
                or the URL is unusable.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not is_server_name(parts.netloc):
            raise ProviderError(f"{provider} gave a URL that is not https with a plain host")
        destination = self.resolver.as_written(parts.netloc)
        try:
            target = request_target(provider, parts.path + (f"?{parts.query}" if parts.query else ""))
            reply = await self._send(
                provider,
                destination,
                method,
                target,
                headers=headers or {},
                body=content,
                limit=limit,
                in_turn=in_turn,
            )
        except OutboundError as error:
            raise ProviderError(str(error)) from error
        return Answer(reply.status, reply.body, retry_after(reply.headers), dict(reply.headers))

    async def _resolve(self, server_name: str) -> Destination:
        if not is_server_name(server_name):
            raise OutboundError("not a server name")
        if server_name == self._identity.name:
            raise OutboundError("a server sends no requests to itself")
        return await self.resolver.resolve(server_name)

    async def _signed(
        self, server_name: str, method: str, path: str, body: bytes | None, content: bytes | None
    ) -> Reply:
        """Send a signed request; ``content`` is what is signed of it."""
        destination = await self._resolve(server_name)
        target = request_target(server_name, path)
        authorization = sign_encoded(
            self._identity,
            destination=server_name,
            method=method,
            uri=target,
            content=content,
        )
        headers = {"Authorization": authorization}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method == "PUT" and "/send/" in path:
            # "The sending server MUST wait for a 200 OK response from the receiver before sending another
            # request with a different :txnId."
            async with self._transactions.setdefault(server_name, trio.Lock()):
                return await self._transaction(server_name, destination, target, headers, body)
        return await self._send(server_name, destination, method, target, headers=headers, body=body or b"")

    async def _transaction(
        self,
        server_name: str,
        destination: Destination,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Reply:
        """Send a transaction, and again for as long as the receiver still works on one that we gave up."""
        send = partial(
            self._send,
            server_name,
            destination,
            "PUT",
            target,
            headers=headers,
            body=body or b"",
            in_turn=True,
        )
        for pause in IN_FLIGHT_PAUSES:
            reply = await send()
            if reply.status != _BAD_REQUEST or errcode_of(reply) != "M_BAD_STATE":
                return reply
            await trio.sleep(pause)
        return await send()

    async def _send(
        self,
        server_name: str,
        destination: Destination,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        limit: int | None = None,
        in_turn: bool = False,
    ) -> Reply:
        failure: Exception | None = None
        try:
            with trio.fail_after(self._seconds):
                for address in destination.addresses:
                    request = Outgoing(
                        method=method,
                        address=address,
                        tls_name=destination.tls_name,
                        target=target,
                        headers={"Host": destination.host_header, **headers},
                        body=body,
                    )
                    try:
                        return await self._connections.exchange(
                            destination, request, limit or MAX_RESPONSE_BYTES, in_turn=in_turn
                        )
                    except httpx.ConnectError as error:  # nothing was sent: the next SRV target may answer
                        failure = error
        except (httpx.HTTPError, AnswerTooLarge) as error:
            raise OutboundError(f"{server_name} cannot be reached: {why(error)}") from error
        except trio.TooSlowError as error:
            raise OutboundError(f"{server_name} did not answer within {self._seconds} seconds") from error
        reason = why(failure) if failure is not None else "its SRV record says that it offers no such service"
        raise OutboundError(f"{server_name} cannot be reached: {reason}") from failure

    def _new_channel(self, destination: Destination, serial: bool) -> Channel:
        if not serial:
            timeouts = dict.fromkeys(("read", "write", "pool"), float(self._seconds))
            timeouts["connect"] = CONNECT_SECONDS
            return GuardedChannel(self._pool(trusted=destination.trusted), timeouts)
        return SerialChannel(
            self._context,
            self._guard(trusted=destination.trusted),
            connect_seconds=CONNECT_SECONDS,
            connections=CONNECTIONS,
            keep_seconds=KEEP_SECONDS,
        )

    def _pool(self, *, trusted: bool) -> httpcore.AsyncConnectionPool:
        return guarded_pool(
            self._context,
            self._guard(trusted=trusted),
            connections=CONNECTIONS,
            keep_seconds=KEEP_SECONDS,
        )

    def _guard(self, *, trusted: bool) -> Guard:
        return Guard(self._names, allowed=self._allowed, trusted=trusted)

    async def _fetch_well_known(self, host: str) -> WellKnown:
        """Get a host's delegation; a host that cannot be asked has none."""
        url = httpx.URL(f"https://{host}/.well-known/matrix/server")
        try:
            with trio.fail_after(WELL_KNOWN_SECONDS):
                async with (
                    httpx.AsyncClient(
                        transport=GuardedTransport(self._pool(trusted=False)),
                        trust_env=False,
                        timeout=WELL_KNOWN_SECONDS,
                        follow_redirects=True,
                        max_redirects=MAX_REDIRECTS,
                        event_hooks={"request": [_only_https]},
                    ) as client,
                    client.stream("GET", url, headers=own_headers()) as answer,
                ):
                    body = await read_within(answer.aiter_raw(), MAX_WELL_KNOWN_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL, AnswerTooLarge, trio.TooSlowError):
            return WellKnown(status=0)
        return WellKnown(
            status=answer.status_code, body=body, cache_control=answer.headers.get("cache-control", "")
        )


async def _only_https(request: httpx.Request) -> None:
    """No redirect leads to plain HTTP: what listens there, maybe beside us, has proved no name."""
    if request.url.scheme != "https":
        raise httpx.UnsupportedProtocol("a redirect left https", request=request)
