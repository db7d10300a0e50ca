"""From a server name to where its server is (draft, Resolving Server Names).

The cases of the draft, in order: an explicit port; delegation by ``/.well-known/matrix/server`` with a port,
with an SRV record, or neither; an SRV record; port 8448. Before all of them comes the operator's
``[discovery.overrides]``.

Fetching the document and looking up SRV records are given as functions, so that the cases are tested without
a network. IP addresses are looked up when connecting (``connecting``), and ``dns_lookup`` remembers SRV
records as long as they say.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson

from linearized.config import Address
from linearized.protocol.identifiers import is_server_name

DEFAULT_PORT = 8448
HTTPS_PORT = 443

# "Callers SHOULD impose a maximum cache time of 48 hours, regardless of cache control headers. A default of
# 24 hours SHOULD be used when no cache control headers are present."
HOUR_MS = 3_600_000
LONGEST_CACHE_MS = 48 * HOUR_MS
DEFAULT_CACHE_MS = 24 * HOUR_MS
# "Error responses (non-200) SHOULD be cached for no longer than 1 hour. Callers SHOULD exponentially back
# off".
FIRST_ERROR_CACHE_MS = 60_000
LONGEST_ERROR_CACHE_MS = HOUR_MS
MAX_CACHED = 10_000  # names remembered; anybody may make us resolve any name, so the memory for it is bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where to connect, in the order to try; the name the TLS certificate must be for; and the HTTP ``Host``
    header. ``trusted`` if the operator gave the address.
    """

    addresses: tuple[Address, ...]
    tls_name: str
    host_header: str
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WellKnown:
    """An answer to ``GET /.well-known/matrix/server``; ``status`` 0 if there was none."""

    status: int
    body: bytes = b""
    cache_control: str = ""


FetchWellKnown = Callable[[str], Awaitable[WellKnown]]
LookUpSrv = Callable[[str], Awaitable[tuple[Address, ...] | None]]


@dataclass(frozen=True, slots=True)
class _Cached:
    delegate: str | None
    until: int
    error_ms: int  # how long an error was cached, to be doubled by the next


class Resolver:
    """Resolves server names; remembers delegations, not IP addresses.

    Args:
        overrides: by server name, the address to use whatever the name's owner publishes.
        fetch: gets a host's document, following redirects; does not raise for a host that has none.
        srv: the targets of an SRV record for a name such as ``_matrix._tcp.example.org``, best first; None
            without a record, none if it says that there is no such service.
        clock: milliseconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        overrides: Mapping[str, Address],
        fetch: FetchWellKnown,
        srv: LookUpSrv,
        clock: Callable[[], int],
    ) -> None:
        self._overrides = overrides
        self._fetch = fetch
        self._clock = clock
        self._srv = srv
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    async def resolve(self, server_name: str) -> Destination:
        """Find where to send requests for ``server_name``, which must be a valid one."""
        host, port = split(server_name)
        if server_name in self._overrides:
            return self._overridden(server_name)
        # 1. "If <hostname> has an explicit <port> is present, resolve <hostname> to an IP address … Requests
        # are made to the resolved IP address and port number."
        if port is not None:
            return _direct(server_name, host, port)
        # 2. "A regular (non-Matrix) HTTPS request is made to https://<hostname>/.well-known/matrix/server".
        delegate = await self._delegate(host)
        if delegate is None:
            # 3. "If the .well-known call from Step 2 resulted in an invalid response, an SRV DNS record is
            # resolved for _matrix._tcp.<hostname>." 4. Otherwise port 8448.
            return await self._by_srv(host)
        delegated_host, delegated_port = split(delegate)
        # 2.1. "If <delegated_hostname> has an explicit <delegated_port> is present".
        if delegated_port is not None:
            return _direct(delegate, delegated_host, delegated_port)
        # 2.3 and 2.4, the same as 3 and 4 for the delegated host.
        return await self._by_srv(delegated_host)

    def as_written(self, netloc: str) -> Destination:
        """Where the host of an ``https`` URL is: port 443 unless it says otherwise or is overridden."""
        if netloc in self._overrides:
            return self._overridden(netloc)
        host, port = split(netloc)
        return _direct(netloc, host, port or HTTPS_PORT)

    def _overridden(self, name: str) -> Destination:
        return Destination(
            addresses=(self._overrides[name],), tls_name=split(name)[0], host_header=name, trusted=True
        )

    async def _by_srv(self, host: str) -> Destination:
        # "the target of the SRV record must prove it is a valid delegate/target for <[delegated_]hostname>
        # via TLS".
        targets = await self._srv(f"_matrix._tcp.{host}")
        if targets is None:
            targets = (Address(host=host, port=DEFAULT_PORT),)
        return Destination(addresses=targets, tls_name=host, host_header=host)

    async def _delegate(self, host: str) -> str | None:
        """What the host delegates to, None if it does not; remembered for as long as the answer may be."""
        cached = self._cache.get(host)
        if cached is not None and self._clock() < cached.until:
            return cached.delegate
        answer = await self._fetch(host)
        delegate = _parse(answer)
        if delegate is None:
            error_ms = cached.error_ms * 2 if cached and cached.error_ms else FIRST_ERROR_CACHE_MS
            lifetime = error_ms = min(error_ms, LONGEST_ERROR_CACHE_MS)
        else:
            lifetime, error_ms = _lifetime(answer.cache_control), 0
        self._cache[host] = _Cached(delegate, self._clock() + lifetime, error_ms)
        self._cache.move_to_end(host)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return delegate


def split(server_name: str) -> tuple[str, int | None]:
    """The host and, if it has one, the port of a server name."""
    host, separator, port = server_name.rpartition(":")
    return (host, int(port)) if separator else (server_name, None)


def _direct(server_name: str, host: str, port: int) -> Destination:
    return Destination(addresses=(Address(host=host, port=port),), tls_name=host, host_header=server_name)


def _parse(answer: WellKnown) -> str | None:
    """The ``m.server`` of an answer. "Failures in parsing the JSON or otherwise invalid data that prevents
    parsing MUST NOT result in discovery failure."
    """
    if answer.status != 200:  # noqa: PLR2004 - OK
        return None
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    delegate = document.get("m.server") if isinstance(document, dict) else None
    return delegate if is_server_name(delegate) else None


def _lifetime(cache_control: str) -> int:
    directives = cache_control.lower()
    if re.search(r"\bno-(store|cache)\b", directives):
        return 0
    age = re.search(r"\bmax-age\s*=\s*\"?(\d{1,10})", directives)
    return min(int(age[1]) * 1000, LONGEST_CACHE_MS) if age else DEFAULT_CACHE_MS
