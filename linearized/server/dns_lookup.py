"""DNS for finding other servers: addresses of hosts, and SRV records. Answers are kept as long as they say.

The hosts file of the machine is not read; an operator's own entries are ``[discovery.overrides]``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final, cast

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from linearized.config import Address, IPAddress

LOOKUP_SECONDS: Final = 5.0  # for all tries of one question; resolvers answer in milliseconds or never
MAX_KEPT: Final = 10_000  # answers remembered; anybody may make us look any name up
MAX_TARGETS: Final = 8  # targets of one SRV record set that we try; a name with more has its own balancer


_LOOPBACK: Final = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))


class LookupFailed(Exception):  # noqa: N818 - says what happened
    """A host has no address, or the resolver did not say."""


class Dns:
    """Asks the system's resolvers, or the ones given.

    Args:
        nameservers: IP addresses and ports to ask instead of what ``/etc/resolv.conf`` says.
    """

    def __init__(self, nameservers: Sequence[Address] = ()) -> None:
        self._nameservers = tuple(nameservers)
        self._made: dns.asyncresolver.Resolver | None = None

    async def addresses(self, host: str) -> list[IPAddress]:
        """The addresses of a host name, or of an IP literal itself.

        Raises:
            LookupFailed: there are none.
        """
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass  # a name
        # RFC 6761, 6.3: "Name resolution APIs and libraries SHOULD recognize localhost names as special and
        # SHOULD always return the IP loopback address for address queries".
        if host.lower() == "localhost" or host.lower().endswith(".localhost"):
            return list(_LOOPBACK)
        try:
            found = await self._resolver().resolve_name(
                _absolute(host),
                socket.AF_UNSPEC,
                lifetime=LOOKUP_SECONDS,
                backend=dns.asyncbackend.get_backend("trio"),
            )
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{host} has no address: {type(error).__name__}") from error
        return [ipaddress.ip_address(address) for address in found.addresses()]

    async def srv(self, name: str) -> tuple[Address, ...] | None:
        """The targets of an SRV record set, the one to try first in front (RFC 2782).

        None if there is no such record, or the resolver did not say; empty if the record says that the
        service is "decidedly not available at this domain".
        """
        try:
            answer = await self._resolver().resolve(
                _absolute(name),
                "SRV",
                lifetime=LOOKUP_SECONDS,
                search=False,
                backend=dns.asyncbackend.get_backend("trio"),
            )
        except dns.exception.DNSException:
            return None
        records = [cast("SRV", record) for record in answer.rrset.processing_order()] if answer.rrset else []
        return tuple(
            Address(host=record.target.to_text(omit_final_dot=True), port=record.port)
            for record in records[:MAX_TARGETS]
            if record.target != dns.name.root
        )

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._made is None:
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(server.host, server.port) for server in self._nameservers
                ]
            resolver.cache = dns.resolver.LRUCache(MAX_KEPT)
            self._made = resolver
        return self._made


def _absolute(name: str) -> dns.name.Name:
    """A name that no search list is applied to."""
    return dns.name.from_text(name)
