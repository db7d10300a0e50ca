"""Handing a room over to another hub, and taking one over.

The old hub's operator begins. The new hub, a participant with a user who may send ``m.room.hub``, copies and
checks the whole log (``Incoming``) while the room goes on. Then the old hub takes nothing more for a moment:
the new one copies the rest and signs a transfer for just that place in the log, the old hub signs it too and
appends it as its last entry. It goes to every follower like any other; the new hub, when it arrives there,
puts the copied log in the place of its own and orders the room from there on. Decision 0011.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import orjson
import structlog
import trio

from linearized.exceptions import InvalidInput, StoreError
from linearized.protocol.base64 import decode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.hub_rules import TAKEOVER
from linearized.protocol.identifiers import is_server_name, user_domain
from linearized.protocol.power_levels import level_to_send, user_level
from linearized.protocol.state import HUB, StateMap
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.standing import joined_users
from linearized.room.submissions import Reason, Rejected
from linearized.server.cursors import LINEARIZED, joined_providers
from linearized.server.exchange import OutboundError
from linearized.server.handing_over import MAX_ROUTES, ROUTES, HandingOver
from linearized.server.hub import Hub
from linearized.server.incoming import Incoming
from linearized.server.node import Node
from linearized.server.providers.key_material import ROUTE_LIFETIME_MS
from linearized.server.telemetry import describe
from linearized.server.told_fetchers import (
    PATIENCE_SECONDS,
    newcomers,
    read_fetchers,
)
from linearized.store.base import FollowerRow, Role, RoomRow
from linearized.store.moving import Adoption

log = structlog.get_logger("linearized.moves")

# How long the new hub copies before it answers that it is not done yet; below what a server waits for.
COPY_SECONDS: Final = 10.0
# Between attempts to put a copied log in place: the old hub may be away for a moment.
RETRY_SECONDS: Final = 5.0

MAX_REFERENCE: Final = 128  # characters of base64: the longest hash of any cipher suite has 64 bytes


class Moves:
    """Both sides of a transfer."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._handing_over = HandingOver(node, hub)
        self._incoming: dict[str, Incoming] = {}
        # Rooms that we have signed for, and who is said to fetch them: one set for each that may move here.
        self._told: dict[str, frozenset[str]] = {}
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._due: dict[str, None] = {}
        self._wake = trio.Event()

    # --- the old hub ---

    async def transfer(self, room_id: str, new_hub: str) -> str:
        """See ``HandingOver.transfer``."""
        return await self._handing_over.transfer(room_id, new_hub)

    def may_copy(self, row: RoomRow, server: str) -> bool:
        """See ``HandingOver.may_copy``."""
        return self._handing_over.may_copy(row, server)

    # --- the new hub ---

    def lock(self, room_id: str) -> trio.Lock:
        """Held by whoever works on a room's staged log."""
        return self._locks.setdefault(room_id, trio.Lock())

    async def prepare(self, row: RoomRow, hub: str) -> int:
        """Copy the room's log for a while; the entries copied so far.

        Raises:
            Rejected: none of our users may take the room, or the log does not hold, or that hub was caught.
            OutboundError: the hub does not give it.
        """
        self._node.audits.require_trusted(row)
        self.taker(row)
        async with self.lock(row.room_id):
            incoming = await self.begun(row, hub)
            until = trio.current_time() + COPY_SECONDS
            while await incoming.fetch() and trio.current_time() < until:
                pass
            return incoming.size

    async def accept(
        self, row: RoomRow, hub: str, *, after: str, size: int, routes: object, told: object
    ) -> JsonObject:
        """Copy the rest of the log, and sign the transfer that follows its last entry.

        Args:
            routes: see ``take_routes``.
            told: see ``read_fetchers``.

        Raises:
            Rejected: as ``prepare``, ``take_routes`` and ``read_fetchers``, or the log does not end there.
            OutboundError: as ``prepare``.
        """
        # Before anything is fetched or kept: what a hub may have us copy, our user's power decides.
        self._node.audits.require_trusted(row)
        sender = self.taker(row)
        fetching = read_fetchers(told)
        await self.take_routes(row, routes)
        async with self.lock(row.room_id):
            incoming = await self.begun(row, hub)
            while incoming.size < size and await incoming.fetch(limit=size - incoming.size):
                pass
            if (incoming.size, incoming.head) != (size, after):
                raise Rejected(Reason.FORBIDDEN, "The log we were given ends elsewhere")
            self._told[row.room_id] = fetching
            return build_lpdu(
                identity=self._node.identity,
                version=get_version(row.version),
                room_id=row.room_id,
                type=HUB[0],
                sender=sender,
                content={"after": after},
                origin_server_ts=self._node.clock(),
                hub_server=hub,
                state_key="",
            )

    async def take_routes(self, row: RoomRow, given: object) -> None:
        """Keep, for a room alone, what its hub says of key packages it has handed out. Nothing is taken of
        our own users': of them we know.

        Raises:
            Rejected: it is malformed.
        """
        if not isinstance(given, dict) or len(given) > MAX_ROUTES:
            raise Rejected(Reason.MALFORMED, f"{ROUTES} is an object of at most {MAX_ROUTES} providers")
        routes: dict[bytes, str] = {}
        for reference, provider in given.items():
            if not is_server_name(provider) or len(reference) > MAX_REFERENCE:
                raise Rejected(Reason.MALFORMED, f"{ROUTES} names a provider by KeyPackageRef")
            if provider not in self._node.served_domains:
                routes[decode_base64(reference)] = provider
        if routes:
            await self._node.store.put_room_routes(
                row.room_id, routes, self._node.clock() + ROUTE_LIFETIME_MS
            )

    async def begun(self, row: RoomRow, hub: str) -> Incoming:
        """The log as far as it was staged, to go on with from its hub. Hold ``lock``.

        Raises:
            Rejected: it does not hold; it is thrown away.
        """
        try:
            return await self._resumed(row, hub)
        except Rejected:
            await self._node.store.drop_staged(row.room_id)
            raise

    async def from_copy(self, row: RoomRow) -> Incoming:
        """The log from what was staged and our own copy. Hold ``lock``.

        Raises:
            Rejected: that is not the whole of it, or does not hold; nothing is thrown away, as nobody may be
                there to give it again.
        """
        incoming = await self._resumed(row, self._node.identity.name)
        await incoming.bridge()
        return incoming

    def release(self, room_id: str) -> None:
        """Keep no checked log in memory. Hold ``lock``."""
        self._incoming.pop(room_id, None)

    async def _resumed(self, row: RoomRow, source: str) -> Incoming:
        known = self._incoming.get(row.room_id)
        staged = self._node.store.staged_head(row.room_id)
        # One that broke off in the middle of a page is ahead of what was staged.
        if known is not None and (known.source, known.size) == (source, staged):
            return known
        incoming = Incoming(self._node, row, source)
        await incoming.resume()
        self._incoming[row.room_id] = incoming
        return incoming

    def taker(self, row: RoomRow) -> str:
        """One of our users who may send the transfer: that they were given that power is the room's consent.

        Raises:
            Rejected: there is none.
        """
        found = takers(
            self._node.rooms.state(row.room_id), self._node.identity.name, get_version(row.version)
        )
        if found:
            return found[0]
        raise Rejected(Reason.FORBIDDEN, f"No user of {self._node.identity.name} may take the room over")

    # --- putting the copied log in place ---

    def begin(self) -> None:
        """After a start: rooms that were handed over to us and are not ours yet."""
        for row in self._node.store.rooms():
            self.due(row.room_id)

    def due(self, room_id: str) -> None:
        """A room's hub has changed; if it is us, there is something to do."""
        row = self._node.store.room(room_id)
        if row is not None and row.role is Role.PARTICIPANT and row.hub == self._node.identity.name:
            self._due[room_id] = None
            self._wake.set()

    async def run(self) -> None:
        """Take over what is due, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            for room_id in list(self._due):
                try:
                    await self.adopt(room_id)
                except (OutboundError, InvalidInput, StoreError) as error:
                    log.warning("not_taken_over", room_id=room_id, **describe(error))
                else:
                    del self._due[room_id]
            if self._due:
                await trio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def adopt(self, room_id: str) -> None:
        """Order a room whose log ends with the event that makes us its hub.

        Raises:
            Rejected, StoreError: the log that we have does not hold, or does not end with it.
            OutboundError: the old hub does not give the rest of it.
        """
        async with self.lock(room_id):
            row = self._node.store.room(room_id)
            assert row is not None  # noqa: S101 - rooms are never removed
            if row.role is Role.PARTICIPANT:
                await self._adopt(row)

    async def _adopt(self, row: RoomRow) -> None:
        store, room_id = self._node.store, row.room_id
        transfer = store.state_entry(room_id, *HUB, seq=row.head_seq)
        if transfer is None:
            raise StoreError(f"{room_id} was handed over without a transfer")
        pdu = orjson.loads(transfer.pdu)
        taken = TAKEOVER in pdu["content"]
        if taken:
            incoming = await self.from_copy(row)
        else:
            incoming = await self.begun(row, pdu["hub_server"])
            while incoming.head != transfer.event_id and await incoming.fetch():
                pass
        if incoming.head != transfer.event_id:
            raise StoreError(f"the log of {room_id} does not end with its transfer")
        providers = joined_providers(incoming.state, ours=self._node.served_domains)
        # A transfer was sent to everybody by the old hub; a takeover nobody has yet. And a MIMI provider is
        # shown it by both, as what follows means nothing to it before.
        sent = frozenset() if taken else frozenset({LINEARIZED})
        fetching = newcomers(self._node, self._told.pop(room_id, frozenset()), incoming.state)
        await store.adopt(
            Adoption(
                room=replace(row, role=Role.HUB, hub=self._node.identity.name, epoch=incoming.epoch),
                group=incoming.group(),
                followers=tuple(
                    FollowerRow(
                        room_id=room_id,
                        provider=provider,
                        protocol=protocol,
                        cursor=incoming.size if protocol in sent else incoming.size - 1,
                    )
                    for provider, protocol in providers.items()
                ),
            )
        )
        await store.delete_audit(room_id)  # it counts as our copy did
        self.release(room_id)
        self._node.rooms.participating.forget(room_id)
        self._node.notifier.room_changed(incoming.state)
        for provider in fetching:
            self._node.followers.await_fetching(provider, PATIENCE_SECONDS)
        self._node.followers.room_changed(room_id)
        log.info("taken_over", room_id=room_id, entries=incoming.size)


def takers(state: StateMap, server: str, version: RoomVersion) -> list[str]:
    """The joined users of a server who may make it a room's hub."""
    needed = level_to_send(state, HUB[0], True, version)
    return sorted(
        user_id
        for user_id in joined_users(state)
        if user_domain(user_id) == server and user_level(state, user_id) >= needed
    )
