"""A ring of other servers' keys: fetched, checked, cached, refreshed.

Two questions are asked of the ring. Whose request is this? Only keys valid now count. Whose event is this?
Any key the server ever published counts, since events outlive keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_server_name
from linearized.protocol.signing import ServerIdentity
from linearized.server.key_documents import KeyDocument, own_document, parse_document
from linearized.server.outbound import OutboundError
from linearized.server.telemetry import get_log
from linearized.store.base import Reply, ServerKeyRow, Store

# "Requesting servers SHOULD limit how frequently they query for keys to avoid flooding a server with
# requests."
MIN_REFETCH_MS = 60_000
FIRST_RETRY_MS = 1_000  # a server that is just starting is asked again soon
LONGEST_RETRY_MS = 300_000
MAX_SERVERS = 10_000  # remembered in memory; anybody may name any server, the store keeps those that answered

log = get_log(part="keys")

FetchKeys = Callable[[str], Awaitable[JsonObject]]


@dataclass(slots=True)
class _Server:
    """What the ring remembers of a server between fetches."""

    document: KeyDocument | None = None
    fetched_at: int = 0
    not_before: int = 0  # no fetch earlier, whoever asks
    retry_ms: int = FIRST_RETRY_MS
    fetching: trio.Event | None = None


class KeyRing:
    """Other servers' keys.

    Args:
        clock: milliseconds since the Unix epoch.
        fetch: gets a server's key document from that server, unchecked.
    """

    def __init__(
        self, *, identity: ServerIdentity, store: Store, clock: Callable[[], int], fetch: FetchKeys
    ) -> None:
        self._identity = identity
        self._store = store
        self._clock = clock
        self._fetch = fetch
        self._servers: OrderedDict[str, _Server] = OrderedDict()

    async def keys_for(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The keys, current or past, with which a server may have signed an event, of those asked for."""
        if server == self._identity.name:
            return {self._identity.key.key_id: self._identity.key.verify_key}
        known = self._stored(server)
        missing = not all(key_id in known for key_id in key_ids)
        await self._refresh(server, needed=missing)
        return {key_id: key for key_id, key in self._stored(server).items() if key_id in key_ids}

    async def request_keys(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The keys with which a server may sign a request now.

        "For request authentication, only keys listed under verify_keys are honoured." "All signatures MUST
        use an unexpired key at the time of the request".
        """
        document = await self._current(server, key_ids)
        if document is None or document.valid_until < self._clock():
            return {}
        return {
            key_id: key
            for key_id, key in document.current.items()
            if key_id in key_ids and key_id not in document.old
        }

    async def document(self, server: str, minimum_valid_until: int) -> list[JsonObject]:
        """A server's key documents as last seen, for a notary to pass on; none if it was never seen."""
        if server == self._identity.name:
            return [own_document(self._identity, self._clock())]
        known = self._servers.get(server)
        stale = known is None or known.document is None or known.document.valid_until < minimum_valid_until
        await self._refresh(server, needed=stale)
        entry = self._servers.get(server)
        newest = [entry.document.source] if entry is not None and entry.document is not None else []
        # "Notaries SHOULD cache responses with distinct key IDs indefinitely."
        listed = set(newest[0]["verify_keys"]) if newest else set()
        remembered = self._remembered(server)
        return newest + [
            document
            for index, document in enumerate(remembered)
            if not set(document["verify_keys"]) <= listed and document not in remembered[:index]
        ]

    async def _current(self, server: str, key_ids: Sequence[str]) -> KeyDocument | None:
        entry = self._servers.get(server)
        document = entry.document if entry is not None else None
        missing = document is None or not all(key_id in document.current for key_id in key_ids)
        await self._refresh(server, needed=missing)
        entry = self._servers.get(server)
        return entry.document if entry is not None else None

    async def _refresh(self, server: str, *, needed: bool) -> None:
        """Fetch the server's document if ``needed`` or half its life is over, unless that was just tried."""
        if not is_server_name(server) or server == self._identity.name:
            return
        entry = self._servers.setdefault(server, _Server())
        self._servers.move_to_end(server)
        while entry.fetching is not None:
            await entry.fetching.wait()
            needed = needed and entry.document is None
        if self._clock() < entry.not_before or not (needed or self._half_over(entry)):
            return
        entry.fetching = trio.Event()
        try:
            await self._fetch_into(server, entry)
        finally:
            entry.fetching.set()
            entry.fetching = None
            self._trim()

    def _half_over(self, entry: _Server) -> bool:
        if entry.document is None:
            return True
        # "Notaries SHOULD cache a 200 OK response for half of its lifetime to avoid serving stale values."
        return self._clock() >= (entry.fetched_at + entry.document.valid_until) // 2

    async def _fetch_into(self, server: str, entry: _Server) -> None:
        try:
            document = parse_document(await self._fetch(server), server, self._clock())
        except (OutboundError, InvalidInput) as error:
            log.info("keys_unavailable", server=server, exception=type(error).__name__)
            entry.not_before = self._clock() + entry.retry_ms
            entry.retry_ms = min(entry.retry_ms * 2, LONGEST_RETRY_MS)
            return
        entry.document = document
        entry.fetched_at = self._clock()
        entry.not_before = entry.fetched_at + MIN_REFETCH_MS
        entry.retry_ms = FIRST_RETRY_MS
        await self._keep(document)

    async def _keep(self, document: KeyDocument) -> None:
        fresh = [
            ServerKeyRow(
                server_name=document.server,
                key_id=key_id,
                key=key,
                valid_until_ts=document.valid_until,
                expired_ts=document.expired.get(key_id),
            )
            for key_id, key in {**document.old, **document.current}.items()
        ]
        known = {row.key_id for row in self._store.server_keys(document.server)}
        await self._store.put_server_keys(fresh)
        text = orjson.dumps(document.source).decode()
        for key_id in document.current.keys() - known:
            await self._store.put_reply(Reply(scope=_scope(document.server), key=key_id, value=text))

    def _stored(self, server: str) -> dict[str, bytes]:
        return {row.key_id: row.key for row in self._store.server_keys(server)}

    def _remembered(self, server: str) -> list[JsonObject]:
        replies = self._store.replies(_scope(server), [row.key_id for row in self._store.server_keys(server)])
        return [orjson.loads(text) for text in replies.values()]

    def _trim(self) -> None:
        while len(self._servers) > MAX_SERVERS:
            self._servers.popitem(last=False)


def _scope(server: str) -> str:
    return f"keys of {server}"
