"""Requests to other providers' MIMI endpoints: directory discovery, then HTTPS with both ends
authenticated.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote, urlencode

import orjson

from linearized.exceptions import LinearizedError
from linearized.mimi.metadata_policy import MAX_DOCUMENT_BYTES
from linearized.mimi.ohttp import REQUEST_TYPE, RESPONSE_TYPE
from linearized.protocol.events import MAX_EVENT_BYTES
from linearized.protocol.hub_rules import MAX_TRANSFERS
from linearized.protocol.identifiers import is_server_name
from linearized.server.exchange import HUB_EVENTS, NAMED_HUB

DIRECTORY_PATH: Final = "/.well-known/mimi-protocol-directory"
# A directory names URLs that hardly ever change; an hour bounds how long a move of endpoints goes unnoticed.
DIRECTORY_TTL_MS: Final = 3_600_000
MAX_DIRECTORIES: Final = 1000  # providers remembered; a room may have users of any number of them
MAX_DIRECTORY_BYTES: Final = 16 * 1024  # ten URLs; more would be kept for an hour
# Big enough for the key material of a user with a hundred devices, small enough to hold in memory.
MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
PROXY_DOWNLOAD: Final = "proxyDownload"
FOLLOW: Final = "dev.linearized.follow"
"""The directory's name for the endpoint of pull followers, which no draft has a name for."""
DELIVERY_SERVICE: Final = "dev.linearized.deliveryService"
"""The directory's name for the endpoint of draft-robert-mimi-delivery-service, which has no transport."""
FANOUT_REQUEST: Final = "dev.linearized.fanoutRequest"
"""Likewise for the requests of that draft between hubs and followers."""
FANOUT_TOKENS: Final = "dev.linearized.fanoutTokens"
"""Likewise for the endpoint where a follower asks for them."""
GATEWAY: Final = "dev.linearized.ohttpGateway"
"""The directory's name for the oblivious gateway, which the draft has no name for."""
GATEWAY_KEYS: Final = "dev.linearized.ohttpKeys"
"""The directory's name for the gateway's signed key configurations, likewise."""
HUB_MOVED: Final = "dev.linearized.hubMoved"
"""The directory's name for where a provider is shown that a room has another hub, likewise."""
METADATA_POLICY: Final = "dev.linearized.metadataPolicy"
"""The directory's name for what a hub says it keeps, which no draft has a name for."""
# With an answer to a pull follower: the URI of the room it is of, and what acknowledges it.
ROOM_HEADER: Final = "mimi-room"
CURSOR_HEADER: Final = "mimi-cursor"
# In a pull follower's request: it goes along with rooms that move, and is to be shown where. The answer that
# shows it names the new hub.
MOVES: Final = "moves"
HUB_HEADER: Final = "mimi-hub"
# What shows where a room has moved: its create event and the transfers, each at most as large as an event.
MAX_SHOWN_BYTES: Final = (MAX_TRANSFERS + 1) * (MAX_EVENT_BYTES + 1) + 1024
CONTENT_TYPE: Final = "application/octet-stream"
OK: Final = 200
# The target ends the path. A provider whose template hid it in a query could have us send what is for one
# room to the endpoint of another, at whatever server, over a connection that says it is us.
_TEMPLATE: Final = re.compile(r"(https://[^/?#{}]+/[^?#{}]*)\{[^{}]*\}")
_PLAIN: Final = re.compile(r"https://[^/?#{}]+/[^?#{}]*")


class ProviderError(LinearizedError):
    """A provider could not be reached or did not answer as the protocol says.

    Attributes:
        status: its HTTP status, None if there was no answer.
        retry_after_s: what its Retry-After header asked for, in seconds.
        hub: who it says orders the room instead of it.
        hub_events: what it gave to show that, unchecked.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        hub: str | None = None,
        hub_events: object = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s
        self.hub = hub
        self.hub_events = hub_events


class NoEndpointError(ProviderError):
    """A provider's directory does not list what we wanted of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer: HTTP status, body, seconds from its Retry-After header, and all its headers by
    lower-case name.
    """

    status: int
    body: bytes
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """What the provider client needs of the outbound HTTP client."""

    async def raw(
        self,
        provider: str,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        limit: int = MAX_RESPONSE_BYTES,
        in_turn: bool = False,
    ) -> Answer:
        """One request to a provider's server, over TLS with our certificate; raises ``ProviderError``
        without an answer of at most ``limit`` bytes. It is ``in_turn`` if the provider gets no other such
        request before this one is answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Directory:
    urls: dict[str, str]
    expires_ms: int


class ProviderClient:
    """Our side of MIMI as a client of other providers.

    Args:
        own_name: our provider domain, said in the From header.
        clock: milliseconds since the Unix epoch.
    """

    def __init__(self, transport: Transport, *, own_name: str, clock: Callable[[], int]) -> None:
        self._transport = transport
        self._own_name = own_name
        self._clock = clock
        self._directories: OrderedDict[str, _Directory] = OrderedDict()

    async def post(
        self, provider: str, endpoint: str, target: str, body: bytes, *, in_turn: bool = False
    ) -> Answer:
        """POST to an endpoint of a provider's directory.

        Args:
            endpoint: its name in the directory, such as ``notify``.
            target: the URI that goes into the URL template.
            body: the TLS-encoded request.
            in_turn: as for ``Transport.raw``.

        Raises:
            ProviderError: there was no answer, or no such endpoint.
        """
        url = await self._url(provider, endpoint, target)
        return await self._transport.raw(
            provider,
            "POST",
            url,
            content=body,
            headers={"Content-Type": CONTENT_TYPE, **self._from()},
            in_turn=in_turn,
        )

    async def offers(self, provider: str, endpoint: str) -> bool:
        """Whether a provider's directory has an endpoint.

        Raises:
            ProviderError: it has no directory, or did not answer.
        """
        return endpoint in await self._directory(provider)

    async def moved(self, provider: str, target: str) -> object:
        """Ask a provider where a room has moved; what it gives to show that, unchecked.

        Args:
            target: the room's URI.

        Raises:
            ProviderError: it does not say.
        """
        url = await self._url(provider, HUB_MOVED, target)
        answer = await self._transport.raw(provider, "GET", url, headers=self._from(), limit=MAX_SHOWN_BYTES)
        if answer.status != OK:
            raise ProviderError(f"{provider} answered {answer.status} at {HUB_MOVED}", status=answer.status)
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise ProviderError(f"{provider} does not show where the room is") from error

    async def exchange(self, provider: str, endpoint: str, target: str, body: bytes) -> bytes:
        """POST and insist on 200; the response body is TLS-encoded.

        Raises:
            ProviderError: as for ``post``, or another status.
        """
        answer = await self.post(provider, endpoint, target, body)
        if answer.status != OK:
            hub, events = _named_hub(answer)
            raise ProviderError(
                f"{provider} answered {answer.status} at {endpoint}"
                if hub is None
                else f"{provider} says that {hub} orders the room",
                status=answer.status,
                retry_after_s=answer.retry_after_s,
                hub=hub,
                hub_events=events,
            )
        return answer.body

    async def follow(
        self,
        provider: str,
        method: str,
        *,
        cursor: str | None = None,
        wait: int | None = None,
        skip: Iterable[str] = (),
        moves: bool = False,
    ) -> Answer:
        """Ask a hub for what it has for us, or (POST, DELETE) that it keep it for us to fetch, or not.

        Args:
            cursor: of the last answer that was taken, which this acknowledges.
            wait: seconds that the hub may let us wait when it has nothing.
            skip: URIs of rooms that the hub is to leave out.
            moves: have it show where rooms move.

        Raises:
            ProviderError: there was no answer, or no such endpoint.
        """
        url = await self._plain_url(provider, FOLLOW)
        query = [("cursor", cursor), ("wait", wait), *(("skip", room) for room in skip)]
        query.append((MOVES, "true" if moves else None))
        given = urlencode([(name, value) for name, value in query if value is not None])
        return await self._transport.raw(
            provider, method, f"{url}?{given}" if given else url, headers=self._from()
        )

    async def download(self, provider: str, url: str, *, limit: int) -> bytes:
        """Have a provider give us a file: its own, or one it fetches for us (``proxyDownload``).

        Args:
            limit: the largest file taken, in bytes.

        Raises:
            ProviderError: it did not.
        """
        where = await self._url(provider, PROXY_DOWNLOAD, url)
        answer = await self._transport.raw(provider, "GET", where, headers=self._from(), limit=limit)
        if answer.status != OK:
            raise ProviderError(f"{provider} answered {answer.status} for a file", status=answer.status)
        return answer.body

    async def asset(self, provider: str, url: str, *, limit: int) -> bytes:
        """Get a file from where a provider keeps its users' files. We say nothing of who asks, nor for whom.

        Args:
            limit: the largest file taken, in bytes.

        Raises:
            ProviderError: it was not given. A redirect leads nowhere: it could to any host.
        """
        answer = await self._transport.raw(provider, "GET", url, limit=limit)
        if answer.status != OK:
            raise ProviderError(f"{provider} answered {answer.status} for a file", status=answer.status)
        return answer.body

    async def gateway_keys(self, provider: str, *, limit: int) -> bytes:
        """A provider's SignedKeyConfigs, of at most ``limit`` bytes and unchecked.

        Raises:
            ProviderError: it has no oblivious gateway, or did not answer.
        """
        url = await self._plain_url(provider, GATEWAY_KEYS)
        answer = await self._transport.raw(provider, "GET", url, headers=self._from(), limit=limit)
        if answer.status != OK:
            raise ProviderError(f"{provider} answered {answer.status} for its keys", status=answer.status)
        return answer.body

    async def metadata_policy(self, provider: str) -> bytes:
        """A provider's SignedMetadataPolicy, unchecked.

        Raises:
            ProviderError: it has none, or did not answer.
        """
        url = await self._plain_url(provider, METADATA_POLICY)
        answer = await self._transport.raw(
            provider, "GET", url, headers=self._from(), limit=2 * MAX_DOCUMENT_BYTES
        )
        if answer.status != OK:
            raise ProviderError(f"{provider} answered {answer.status} for its policy", status=answer.status)
        return answer.body

    async def oblivious(self, provider: str, sealed: bytes, *, limit: int) -> bytes:
        """Relay an Encapsulated Request to a provider's gateway, with nothing beside it but our own name.

        Args:
            limit: the largest Encapsulated Response taken, in bytes.

        Raises:
            ProviderError: it has no oblivious gateway, or gave none.
        """
        url = await self._plain_url(provider, GATEWAY)
        headers = {"Content-Type": REQUEST_TYPE, **self._from()}
        answer = await self._transport.raw(
            provider, "POST", url, content=sealed, headers=headers, limit=limit
        )
        # Any other answer is the gateway's own error, and not sealed (RFC 9458, section 5.2).
        if answer.status != OK or answer.headers.get("content-type") != RESPONSE_TYPE:
            raise ProviderError(f"{provider}'s gateway answered {answer.status}", status=answer.status)
        return answer.body

    async def _plain_url(self, provider: str, endpoint: str) -> str:
        url = (await self._directory(provider)).get(endpoint)
        if url is None:
            raise ProviderError(f"{provider} offers no {endpoint}")
        if not _PLAIN.fullmatch(url):
            raise ProviderError(f"{provider}'s URL of {endpoint} has a query or a template")
        return url

    def _from(self) -> dict[str, str]:
        # "The source provider is indicated using a From header … the content of the From header will be
        # mimi@a.example" (Transport layer).
        return {"From": f"mimi@{self._own_name}"}

    async def _url(self, provider: str, endpoint: str, target: str) -> str:
        template = (await self._directory(provider)).get(endpoint)
        if template is None:
            raise NoEndpointError(f"{provider} offers no {endpoint} endpoint")
        parts = _TEMPLATE.fullmatch(template)
        if parts is None:
            raise ProviderError(f"{provider}'s {endpoint} URL does not end with its target")
        return parts[1] + quote(target, safe="")

    async def _directory(self, provider: str) -> dict[str, str]:
        cached = self._directories.get(provider)
        now = self._clock()
        if cached is not None and cached.expires_ms > now:
            return cached.urls
        answer = await self._transport.raw(provider, "GET", f"https://{provider}{DIRECTORY_PATH}")
        if len(answer.body) > MAX_DIRECTORY_BYTES:
            raise ProviderError(f"{provider}'s directory is too large")
        try:
            document = orjson.loads(answer.body) if answer.status == OK else None
        except orjson.JSONDecodeError as error:
            raise ProviderError(f"{provider}'s directory is not JSON") from error
        if not isinstance(document, dict):
            raise ProviderError(f"{provider} has no MIMI directory", status=answer.status)
        urls = {
            name: url for name, url in document.items() if isinstance(url, str) and url.startswith("https://")
        }
        self._directories[provider] = _Directory(urls, now + DIRECTORY_TTL_MS)
        self._directories.move_to_end(provider)
        if len(self._directories) > MAX_DIRECTORIES:
            self._directories.popitem(last=False)
        return urls


def _named_hub(answer: Answer) -> tuple[str | None, object]:
    """The hub that a provider names instead of itself, in the error object of an ``M_WRONG_SERVER``, and what
    it gives to show that.
    """
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:  # another implementation's words
        return None, None
    hub = document.get(NAMED_HUB) if isinstance(document, dict) else None
    if not isinstance(hub, str) or not is_server_name(hub):
        return None, None
    return hub, document.get(HUB_EVENTS)
