"""Connections to servers whose names others chose: only to addresses of the public internet.

A name in a request, a room or a redirect may point at this machine or its neighbours. So the address is
checked after the last lookup, and it is that very address we connect to: a second answer to the same question
("DNS rebinding") is never asked for.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, cast

import httpcore
import httpx

from linearized.config import IPAddress, IPNetwork
from linearized.server.dns_lookup import LookupFailed
from linearized.server.exchange import Outgoing, Reply, own_headers, read_within
from linearized.server.gathering import GatheringStream

MAX_ADDRESSES: Final = 6  # of one host that we try; each may cost its share of the time to connect

# Where an IPv6 address holds an IPv4 address that a translator would go on to (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_SocketOptions = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


class LookUpAddresses(Protocol):
    """What connecting needs of DNS."""

    async def addresses(self, host: str) -> list[IPAddress]:
        """The addresses of a host; raises ``LookupFailed``."""
        ...


def is_public(address: IPAddress) -> bool:
    """Whether an address, and any that it wraps, is one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


class Guard(httpcore.AsyncNetworkBackend):
    """Looks a host up, leaves out the addresses that are not allowed, and connects to what is left.

    Args:
        allowed: networks that may be connected to though they are not public.
        trusted: the operator named the address, so there is nothing to check.
        inner: makes the connections.
    """

    def __init__(
        self,
        names: LookUpAddresses,
        *,
        allowed: Sequence[IPNetwork] = (),
        trusted: bool = False,
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._names = names
        self._allowed = tuple(allowed)
        self._trusted = trusted
        self._inner = inner or httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: _SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of ``host`` that is allowed and answers.

        Raises:
            httpcore.ConnectError: there is none.
        """
        try:
            found = await self._names.addresses(host)
        except LookupFailed as error:
            raise httpcore.ConnectError(str(error)) from error
        usable = [address for address in found if self._may(address)][:MAX_ADDRESSES]
        share = timeout / len(usable) if timeout is not None and usable else timeout
        failure: Exception = httpcore.ConnectError(f"{host} has no address we connect to")
        for address in usable:
            try:
                return GatheringStream(
                    await self._inner.connect_tcp(str(address), port, share, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:  # the next one may answer
                failure = error
        raise failure

    def _may(self, address: IPAddress) -> bool:
        return self._trusted or is_public(address) or any(address in network for network in self._allowed)


def guarded_pool(
    context: ssl.SSLContext, guard: Guard, *, connections: int, keep_seconds: float, http2: bool = True
) -> httpcore.AsyncConnectionPool:
    """Connections to whatever ``guard`` lets us connect to."""
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=keep_seconds,
        http1=True,
        http2=http2,
        network_backend=guard,
    )


class GuardedChannel:
    """A ``Channel`` over a ``guarded_pool``.

    An ``httpx.AsyncClient`` would do the same and take as long again for it: it has redirects, cookies and
    credentials to think of, which these requests do not have.

    Args:
        seconds: how long connecting, and each wait for the other side, may take.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, *, connect_seconds: float, seconds: float) -> None:
        self._pool = pool
        self._timeouts = {"connect": connect_seconds, "read": seconds, "write": seconds, "pool": seconds}

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        """Send a request and read its answer.

        Raises:
            AnswerTooLarge: it has more than ``limit`` bytes.
            httpx.TransportError: there was none.
        """
        headers = {**request.headers, **own_headers()}
        if request.body:
            headers["Content-Length"] = str(len(request.body))
        with _as_httpx():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=b"https",
                        host=request.address.host.encode("ascii"),
                        port=request.address.port,
                        target=request.target.encode("ascii"),
                    ),
                    headers=list(headers.items()),
                    content=request.body,
                    extensions={"sni_hostname": request.tls_name, "timeout": self._timeouts},
                )
            )
            try:
                body = await read_within(response.aiter_stream(), limit)
            finally:
                await response.aclose()
        return Reply(status=response.status, headers=httpx.Headers(response.headers), body=body)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """What an httpx client sends requests by: a ``guarded_pool``.

    httpx's own transport does the same but takes no network backend.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its body and the answer's are streamed.

        Raises:
            httpx.TransportError: there was no answer.
        """
        url = request.url
        with _as_httpx():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=cast("AsyncIterator[bytes]", request.stream),
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


_FAILURES: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise httpx.ConnectError(str(error)) from error
    except _FAILURES as error:
        raise httpx.TransportError(f"{type(error).__name__}: {error}") from error
