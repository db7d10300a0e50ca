"""Requests over guarded connections, several at once: plain ones, or those of an httpx client.

httpcore makes the connections. Its network backend is ours (``connecting.Guard``), which is what httpx's own
transport does not take.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, cast

import httpcore
import httpx

from linearized.server.connecting import Guard
from linearized.server.exchange import Outgoing, Reply, own_headers, read_within

Timeouts: TypeAlias = dict[str, float]
"""Seconds for each of what httpcore waits for: ``connect``, ``read``, ``write`` and ``pool``."""


def guarded_pool(
    context: ssl.SSLContext, guard: Guard, *, connections: int, keep_seconds: float
) -> httpcore.AsyncConnectionPool:
    """Connections to whatever ``guard`` lets us connect to."""
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=keep_seconds,
        http1=True,
        http2=True,
        network_backend=guard,
    )


class GuardedChannel:
    """A ``Channel`` over a ``guarded_pool``.

    An ``httpx.AsyncClient`` would do the same and take as long again for it: it has redirects, cookies and
    credentials to think of, which these requests do not have.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, timeouts: Timeouts) -> None:
        self._pool = pool
        self._timeouts = timeouts

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        """As ``Channel.exchange``."""
        return await _exchange(self._pool, request, limit, self._timeouts)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _exchange(
    connections: httpcore.AsyncConnectionPool,
    request: Outgoing,
    limit: int,
    timeouts: Timeouts,
) -> Reply:
    headers = {**request.headers, **own_headers()}
    if request.body:
        headers["Content-Length"] = str(len(request.body))
    with _as_httpx():
        response = await connections.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=_url(request),
                headers=list(headers.items()),
                content=request.body,
                extensions={"sni_hostname": request.tls_name, "timeout": timeouts},
            )
        )
        try:
            body = await read_within(response.aiter_stream(), limit)
        finally:
            await response.aclose()
    return Reply(status=response.status, headers=httpx.Headers(response.headers), body=body)


def _url(request: Outgoing) -> httpcore.URL:
    return httpcore.URL(
        scheme=b"https",
        host=request.address.host.encode("ascii"),
        port=request.address.port,
        target=request.target.encode("ascii"),
    )


class GuardedTransport(httpx.AsyncBaseTransport):
    """What an httpx client sends requests by: a ``guarded_pool``."""

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
