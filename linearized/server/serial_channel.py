"""A channel for requests that follow one another, over HTTP/1.1."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import httpcore
import httpx
import trio

from linearized.config import Address
from linearized.server.connecting import Guard
from linearized.server.exchange import Outgoing, Reply
from linearized.server.http1_client import Http1Connection
from linearized.server.wires import TlsWire


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection that nobody uses just now."""

    connection: Http1Connection
    address: Address
    until: float  # when it is too old, by trio's clock

    def is_fit_for(self, address: Address) -> bool:
        expired = trio.current_time() >= self.until or self.connection.has_come()
        return address == self.address and not expired


class SerialChannel:
    """A ``Channel`` that keeps the connections not in use, most often one.

    Args:
        guard: makes the connections.
        connect_seconds: for that, and for shaking hands.
        connections: how many are kept.
        keep_seconds: how long one is kept without a request.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        guard: Guard,
        *,
        connect_seconds: float,
        connections: int,
        keep_seconds: float,
    ) -> None:
        self._context = context
        self._guard = guard
        self._connect_seconds = connect_seconds
        self._most = connections
        self._keep_seconds = keep_seconds
        self._idle: list[_Kept] = []

    async def exchange(self, request: Outgoing, limit: int) -> Reply:
        """As ``Channel.exchange``; the caller bounds how long an answer may take."""
        connection = await self._connection(request)
        try:
            return await connection.exchange(request, limit)
        finally:
            if connection.reusable and len(self._idle) < self._most:
                until = trio.current_time() + self._keep_seconds
                self._idle.append(_Kept(connection, request.address, until))
            else:
                await connection.aclose()

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        while self._idle:
            await self._idle.pop().connection.aclose()

    async def _connection(self, request: Outgoing) -> Http1Connection:
        while self._idle:
            kept = self._idle.pop()
            if kept.is_fit_for(request.address):
                return kept.connection
            await kept.connection.aclose()
        try:
            with trio.fail_after(self._connect_seconds):
                return await self._connect(request)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, trio.BrokenResourceError) as error:
            raise httpx.ConnectError(str(error)) from error
        except trio.TooSlowError as error:
            raise httpx.ConnectError("it takes too long to connect") from error

    async def _connect(self, request: Outgoing) -> Http1Connection:
        address = request.address
        transport = await self._guard.connect(address.host, address.port, self._connect_seconds)
        # httpcore sets its own for each connection it makes. The new connection copies what is set now.
        self._context.set_alpn_protocols(["http/1.1"])
        wire = TlsWire(transport, self._context, server_hostname=request.tls_name)
        try:
            await wire.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise
        return Http1Connection(wire, has_come=transport.socket.is_readable)
