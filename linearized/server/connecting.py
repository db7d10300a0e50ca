"""Connections to servers whose names others chose: only to addresses of the public internet.

A name in a request, a room or a redirect may point at this machine or its neighbours. So the address is
checked after the last lookup, and it is that very address we connect to: a second answer to the same question
("DNS rebinding") is never asked for.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import httpcore
import trio

from linearized.config import IPAddress, IPNetwork
from linearized.server.dns_lookup import LookupFailed
from linearized.server.gathering import GatheringStream

MAX_ADDRESSES: Final = 6  # of one host that we try; each may cost its share of the time to connect

# Where an IPv6 address holds an IPv4 address that a translator would go on to (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_SocketOptions = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]

_Connected = TypeVar("_Connected")


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
        return GatheringStream(
            await self._first(
                host,
                timeout,
                lambda address, share: self._inner.connect_tcp(
                    address, port, share, local_address, socket_options
                ),
            )
        )

    async def connect(self, host: str, port: int, seconds: float) -> trio.SocketStream:
        """The same for who needs nothing of httpcore.

        Raises:
            httpcore.ConnectError: there is none.
        """
        return await self._first(host, seconds, partial(_connect, port))

    async def _first(
        self,
        host: str,
        seconds: float | None,
        connect: Callable[[str, float | None], Awaitable[_Connected]],
    ) -> _Connected:
        try:
            found = await self._names.addresses(host)
        except LookupFailed as error:
            raise httpcore.ConnectError(str(error)) from error
        usable = [address for address in found if self._may(address)][:MAX_ADDRESSES]
        share = seconds / len(usable) if seconds is not None and usable else seconds
        failure: Exception = httpcore.ConnectError(f"{host} has no address we connect to")
        for address in usable:
            try:
                return await connect(str(address), share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:  # the next one may answer
                failure = error
        raise failure

    def _may(self, address: IPAddress) -> bool:
        return self._trusted or is_public(address) or any(address in network for network in self._allowed)


async def _connect(port: int, address: str, seconds: float | None) -> trio.SocketStream:
    try:
        with trio.fail_after(math.inf if seconds is None else seconds):
            return await trio.open_tcp_stream(address, port)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    except trio.TooSlowError as error:
        raise httpcore.ConnectTimeout from error
