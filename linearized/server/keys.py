"""A ring of other servers' keys: fetched, checked, cached, refreshed.

Three questions are asked of the ring. Whose request is this? Only keys valid now count. Whose event is this?
Any key the server ever published counts, since events outlive keys. And what does this server know of that
one's keys, as a notary?

Anybody can ask the first and the third, and name any server. What that costs is bounded: so many fetches at a
time, for servers that never proved themselves fewer and in a lane of their own; a pause after each that
fails; so much memory; and nothing is written until a server has proved that it is who it says (``confirm``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

import orjson
import trio

from linearized.exceptions import InvalidInput, LinearizedError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_server_name
from linearized.protocol.signing import ServerIdentity
from linearized.server.key_documents import KeyDocument, own_document, parse_document
from linearized.server.notaries import Notaries
from linearized.server.outbound import OutboundError
from linearized.server.telemetry import get_log
from linearized.store.base import Reply, ServerKeyRow, Store

# "Requesting servers SHOULD limit how frequently they query for keys to avoid flooding a server with
# requests."
MIN_REFETCH_MS = 60_000
FIRST_RETRY_MS = 1_000  # a server that is just starting is asked again soon
LONGEST_RETRY_MS = 300_000
FETCH_SECONDS = 20  # one server's keys, with discovery and notaries; a request waits for it
# Fetches at a time for servers that proved themselves before: more than fall due together in a busy minute.
KNOWN_FETCHES = 32
# The same for names that anybody may have made up; past it their requests are refused at once.
STRANGER_FETCHES = 16
STRANGERS_WAITING = 200  # requests that wait for those fetches
# Servers remembered in memory, of each kind: a few hundred bytes each, and a key document for some.
MAX_SERVERS = 10_000
# Key documents kept of servers that did not prove themselves, at up to 64 KiB (``outbound``) each.
MAX_UNPROVEN = 200
MAX_KEPT_KEYS = 1_000  # of one server in the store: a new key every day for three years

log = get_log(part="keys")

FetchKeys = Callable[[str], Awaitable[JsonObject]]


class Crowded(LinearizedError):  # noqa: N818 - says what the ring is
    """Too many unknown servers' keys are being fetched; try again later."""


@dataclass(slots=True)
class _Server:
    """What the ring remembers of a server between fetches."""

    document: KeyDocument | None = None
    further: tuple[KeyDocument, ...] = ()  # older documents from a notary
    fetched_at: int = 0
    not_before: int = 0  # no fetch earlier, whoever asks
    retry_ms: int = FIRST_RETRY_MS
    fetching: trio.Event | None = None


class KeyRing:
    """Other servers' keys.

    Args:
        clock: milliseconds since the Unix epoch.
        fetch: gets a server's key document from that server, unchecked.
        notaries: asked for a server that does not answer.
    """

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        store: Store,
        clock: Callable[[], int],
        fetch: FetchKeys,
        notaries: Notaries | None = None,
    ) -> None:
        self._identity = identity
        self._store = store
        self._clock = clock
        self._fetch = fetch
        self._notaries = notaries
        self._known: OrderedDict[str, _Server] = OrderedDict()
        self._strangers: OrderedDict[str, _Server] = OrderedDict()
        self._unproven: OrderedDict[str, None] = OrderedDict()  # strangers with a document, oldest first
        self._known_lane = trio.CapacityLimiter(KNOWN_FETCHES)
        self._stranger_lane = trio.CapacityLimiter(STRANGER_FETCHES)
        self._waiting = 0

    async def keys_for(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The keys, current or past, with which a server may have signed an event, of those asked for.

        For what an authenticated server sent: what is found is kept.
        """
        if server == self._identity.name:
            return self._identity.verify_keys
        known = self._stored(server)
        missing = not all(key_id in known for key_id in key_ids)
        await self._refresh(server, needed=missing, patient=True)
        await self.confirm(server)
        entry = self._find(server)
        fresh = entry.document.current if entry is not None and entry.document is not None else {}
        found = {**self._stored(server), **fresh}
        return {key_id: key for key_id, key in found.items() if key_id in key_ids}

    async def request_keys(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The keys with which a server may sign a request now.

        "For request authentication, only keys listed under verify_keys are honoured." "All signatures MUST
        use an unexpired key at the time of the request".

        Raises:
            Crowded: too many servers that we do not know are being looked for.
        """
        entry = self._find(server)
        document = entry.document if entry is not None else None
        missing = document is None or not all(key_id in document.current for key_id in key_ids)
        await self._refresh(server, needed=missing, patient=False)
        entry = self._find(server)
        document = entry.document if entry is not None else None
        if document is None or document.valid_until < self._clock():
            return {}
        return {
            key_id: key
            for key_id, key in document.current.items()
            if key_id in key_ids and key_id not in document.old
        }

    async def confirm(self, server: str) -> None:
        """A server has proved itself, or an authenticated one passed on what it signed: keep its keys."""
        entry = self._strangers.pop(server, None)
        if entry is None:
            return
        self._unproven.pop(server, None)
        if entry.document is None:
            self._strangers[server] = entry
            return
        self._known[server] = entry
        await self._keep(entry)
        self._trim()

    async def document(self, server: str, minimum_valid_until: int) -> list[JsonObject]:
        """A server's key documents as last seen, for a notary to pass on; none if it was never seen."""
        if server == self._identity.name:
            return [own_document(self._identity, self._clock())]
        known = self._find(server)
        stale = known is None or known.document is None or known.document.valid_until < minimum_valid_until
        with suppress(Crowded):  # as if it did not answer
            await self._refresh(server, needed=stale, patient=False)
        entry = self._find(server)
        newest = [entry.document.source] if entry is not None and entry.document is not None else []
        # "Notaries SHOULD cache responses with distinct key IDs indefinitely."
        listed = set(newest[0]["verify_keys"]) if newest else set()
        remembered = self._remembered(server)
        return newest + [
            document
            for index, document in enumerate(remembered)
            if not set(document["verify_keys"]) <= listed and document not in remembered[:index]
        ]

    def _find(self, server: str) -> _Server | None:
        return self._known.get(server) or self._strangers.get(server)

    def _entry(self, server: str) -> _Server:
        """What is remembered of a server; begins with nothing."""
        entry = self._find(server)
        if entry is None:
            entry = _Server()
            proved_before = bool(self._store.server_keys(server))
            (self._known if proved_before else self._strangers)[server] = entry
        for servers in (self._known, self._strangers):
            if server in servers:
                servers.move_to_end(server)
        return entry

    async def _refresh(self, server: str, *, needed: bool, patient: bool) -> None:
        """Fetch the server's document if ``needed`` or half its life is over, unless that was just tried.

        Raises:
            Crowded: it would have to wait, is not ``patient``, and the server is a stranger.
        """
        if not is_server_name(server) or server == self._identity.name:
            return
        entry = self._entry(server)
        hurried = not patient and server not in self._known
        while entry.fetching is not None:
            async with self._place(hurried=hurried):
                await entry.fetching.wait()
            needed = needed and entry.document is None
        if self._clock() < entry.not_before or not (needed or self._half_over(entry)):
            return
        if hurried and not self._stranger_lane.available_tokens:
            raise Crowded("The keys of too many unknown servers are being fetched")
        entry.fetching = trio.Event()
        try:
            async with self._lane(server, hurried=hurried):
                await self._fetch_into(server, entry)
        finally:
            entry.fetching.set()
            entry.fetching = None
            self._trim()

    @asynccontextmanager
    async def _place(self, *, hurried: bool) -> AsyncIterator[None]:
        """A place among the requests that wait for a stranger's keys."""
        if hurried and self._waiting >= STRANGERS_WAITING:
            raise Crowded("Too many requests wait for the keys of unknown servers")
        self._waiting += hurried
        try:
            yield
        finally:
            self._waiting -= hurried

    def _lane(self, server: str, *, hurried: bool) -> AbstractAsyncContextManager[object]:
        if self._notaries is not None and server in self._notaries.names:
            return nullcontext()  # few, and asked for from within a lane
        return self._stranger_lane if hurried else self._known_lane

    def _half_over(self, entry: _Server) -> bool:
        if entry.document is None:
            return True
        # "Notaries SHOULD cache a 200 OK response for half of its lifetime to avoid serving stale values."
        return self._clock() >= (entry.fetched_at + entry.document.valid_until) // 2

    async def _fetch_into(self, server: str, entry: _Server) -> None:
        found: list[KeyDocument] = []
        with trio.move_on_after(FETCH_SECONDS):
            found = await self._ask(server)
        if not found:
            entry.not_before = self._clock() + entry.retry_ms
            entry.retry_ms = min(entry.retry_ms * 2, LONGEST_RETRY_MS)
            return
        entry.document, *further = found
        entry.further = tuple(further)
        entry.fetched_at = self._clock()
        entry.not_before = entry.fetched_at + MIN_REFETCH_MS
        entry.retry_ms = FIRST_RETRY_MS
        if server in self._known:
            await self._keep(entry)
        else:
            self._unproven[server] = None

    async def _ask(self, server: str) -> list[KeyDocument]:
        """A server's checked documents, newest first: its own, else what a notary has."""
        # "Servers SHOULD attempt to contact the target server directly before using a notary server."
        try:
            return [parse_document(await self._fetch(server), server, self._clock())]
        except (OutboundError, InvalidInput) as error:
            log.info("keys_unavailable", server=server, exception=type(error).__name__)
        if self._notaries is None or server in self._notaries.names:
            return []
        return await self._notaries.documents(server, self._clock(), self._notary_keys)

    async def _notary_keys(self, notary: str) -> Mapping[str, bytes]:
        await self._refresh(notary, needed=False, patient=True)
        entry = self._find(notary)
        return entry.document.current if entry is not None and entry.document is not None else {}

    async def _keep(self, entry: _Server) -> None:
        for document in (*reversed(entry.further), entry.document):  # the newest last: it is right
            if document is not None:
                await self._keep_document(document)

    async def _keep_document(self, document: KeyDocument) -> None:
        known = {row.key_id for row in self._store.server_keys(document.server)}
        fresh = [
            ServerKeyRow(
                server_name=document.server,
                key_id=key_id,
                key=key,
                valid_until_ts=document.valid_until,
                expired_ts=document.expired.get(key_id),
            )
            for key_id, key in {**document.old, **document.current}.items()
            if key_id in known or len(known) < MAX_KEPT_KEYS
        ]
        await self._store.put_server_keys(fresh)
        text = orjson.dumps(document.source).decode()
        for row in fresh:
            if row.key_id in document.current and row.key_id not in known:
                await self._store.put_reply(
                    Reply(scope=_scope(document.server), key=row.key_id, value=text, lasting=True)
                )

    def _stored(self, server: str) -> dict[str, bytes]:
        return {row.key_id: row.key for row in self._store.server_keys(server)}

    def _remembered(self, server: str) -> list[JsonObject]:
        replies = self._store.replies(_scope(server), [row.key_id for row in self._store.server_keys(server)])
        return [orjson.loads(text) for text in replies.values()]

    def _trim(self) -> None:
        while len(self._known) > MAX_SERVERS:
            self._known.popitem(last=False)
        while len(self._strangers) > MAX_SERVERS:
            self._unproven.pop(self._strangers.popitem(last=False)[0], None)
        while len(self._unproven) > MAX_UNPROVEN:
            server, _ = self._unproven.popitem(last=False)
            self._strangers[server].document = None
            self._strangers[server].further = ()


def _scope(server: str) -> str:
    return f"keys of {server}"
