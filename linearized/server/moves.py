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
from urllib.parse import quote
from weakref import WeakValueDictionary

import orjson
import structlog
import trio

from linearized.exceptions import InvalidInput, StoreError
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_lpdu
from linearized.protocol.hub_rules import TAKEOVER
from linearized.protocol.identifiers import is_server_name, user_domain
from linearized.protocol.power_levels import level_to_send, user_level
from linearized.protocol.signing import signatures_of
from linearized.protocol.state import HUB, StateMap, membership
from linearized.protocol.verify import verify_lpdu
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.submissions import LinearizedPdu, Reason, Rejected
from linearized.server.cursors import LINEARIZED, joined_providers
from linearized.server.exchange import OutboundError
from linearized.server.hub import Hub
from linearized.server.incoming import PAGE, Incoming
from linearized.server.node import Node
from linearized.server.providers.client import HUB_MOVED, ProviderError
from linearized.server.providers.key_material import ROUTE_LIFETIME_MS
from linearized.server.telemetry import describe
from linearized.server.told_fetchers import (
    PATIENCE_SECONDS,
    PULL_FOLLOWERS,
    fetchers,
    newcomers,
    read_fetchers,
)
from linearized.store.base import FollowerRow, Role, RoomRow
from linearized.store.moving import Adoption

log = structlog.get_logger("linearized.moves")

# How long the new hub copies before it answers that it is not done yet; below what a server waits for.
COPY_SECONDS: Final = 10.0
# Entries that may be missing when the room is paused: a few pages, so that the pause is short.
CLOSE_ENOUGH: Final = 2 * PAGE
# Times the new hub may answer that it is not done: an hour and a half of copying.
MAX_ROUNDS: Final = 540
# The longest a room is paused. If the new hub has not signed by then, it stays where it is.
PAUSE_SECONDS: Final = 60.0
# Between attempts to put a copied log in place: the old hub may be away for a moment.
RETRY_SECONDS: Final = 5.0

# Beside the end of the log, what the new hub routes Welcomes by that are still to come.
ROUTES: Final = "key_package_routes"
# Key packages are claimed minutes before their commit, and these are of one day: hundreds in a busy room.
MAX_ROUTES: Final = 1000
MAX_REFERENCE: Final = 128  # characters of base64: the longest hash of any cipher suite has 64 bytes

_ROOM: Final = "/_linearized/v1/rooms/{room_id}/transfer"


class Moves:
    """Both sides of a transfer."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        self._offered: dict[str, str] = {}  # rooms of ours that are being handed over, and to whom
        self._incoming: dict[str, Incoming] = {}
        # Rooms that we have signed for, and who is said to fetch them: one set for each that may move here.
        self._told: dict[str, frozenset[str]] = {}
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._due: dict[str, None] = {}
        self._wake = trio.Event()

    # --- the old hub ---

    async def transfer(self, room_id: str, new_hub: str) -> str:
        """Hand a room over; the event ID of the transfer.

        Raises:
            Rejected: it cannot be handed over, or the new hub or the rules refuse; it stays with us.
            OutboundError: the new hub does not answer; it stays with us.
            Overloaded, StoreError, trio.TooSlowError: as ``Hub.submit``.
        """
        row = self._node.store.room(room_id)
        if row is None:
            raise Rejected(Reason.UNKNOWN_ROOM, "This server does not know that room")
        await self._require_movable(row, new_hub)
        if room_id in self._offered:
            raise Rejected(Reason.FORBIDDEN, "The room is being handed over already")
        self._offered[room_id] = new_hub
        try:
            await self._copied(room_id, new_hub)
            async with self._hub.paused(room_id):
                await self._require_movable(row, new_hub)  # somebody may have joined meanwhile
                with trio.fail_after(PAUSE_SECONDS):
                    lpdu = await self._signed(room_id, new_hub)
                version = get_version(row.version)
                parsed = parse_lpdu(lpdu, version)
                keys = await self._node.keys.keys_for(new_hub, list(signatures_of(parsed.pdu, new_hub)))
                verified = verify_lpdu(parsed, version=version, origin=new_hub, keys=keys)
                transfer = LinearizedPdu(lpdu=verified, transfer=True)
                accepted = await self._hub.submit(room_id, transfer)
        finally:
            del self._offered[room_id]
        log.info("handed_over", room_id=room_id, hub=new_hub)
        return accepted.event_id

    def may_copy(self, row: RoomRow, server: str) -> bool:
        """Whether a server gets a room's whole log from us, fast: it is taking the room over, or just has."""
        return self._offered.get(row.room_id) == server or (
            row.role is Role.PARTICIPANT and row.hub == server and get_version(row.version).hub_transfers
        )

    async def _require_movable(self, row: RoomRow, new_hub: str) -> None:
        if row.role is not Role.HUB:
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
        if not get_version(row.version).hub_transfers:
            raise Rejected(Reason.FORBIDDEN, f"Rooms of version {row.version} have no hub transfers")
        # "A parent-dependent room is always hosted on the same Hub as the parent room." They cannot go in one
        # step, and the one that went first would be parted from the other.
        if self._node.store.dependants(row.room_id, limit=1):
            raise Rejected(Reason.FORBIDDEN, "Other rooms depend on this one, and stay at its hub")
        state = self._node.rooms.state(row.room_id)
        providers = joined_providers(state, ours=frozenset({self._node.identity.name}))
        if providers.get(new_hub) != LINEARIZED:
            raise Rejected(Reason.FORBIDDEN, f"{new_hub} takes no part in the room by Linearized Matrix")
        stuck = [name for name in sorted(providers) if not await self._may_follow(name, providers[name])]
        # The new hub would have to vouch for them, and only we do.
        bridged = sorted(
            user_id
            for kind, user_id in state
            if kind == "m.room.member"
            and membership(state, user_id) == "join"
            and user_domain(user_id) in self._node.bridged_domains
        )
        if stuck or bridged:
            raise Rejected(
                Reason.FORBIDDEN, f"{(stuck or bridged)[0]} could not follow the room to another hub"
            )

    async def _may_follow(self, provider: str, protocol: str) -> bool:
        """Whether a provider in the room is one that can be told where the room goes. A MIMI provider sees no
        events, so it has to have an endpoint where it is shown them; one that fetches has to ask for them.
        """
        if protocol == LINEARIZED:
            return True
        if self._node.followers.pulls.includes(provider):
            return self._node.followers.pulls.is_shown_moves(provider)
        try:
            return await self._node.providers.offers(provider, HUB_MOVED)
        except ProviderError as error:
            raise Rejected(
                Reason.FORBIDDEN, f"{provider} does not say whether it could follow the room"
            ) from error

    async def _copied(self, room_id: str, new_hub: str) -> None:
        """Wait until the new hub has nearly all of the log."""
        for _ in range(MAX_ROUNDS):
            answer = await self._ask(room_id, new_hub, "prepare", {})
            staged = answer.get("staged")
            row = self._node.store.room(room_id)
            if row is not None and isinstance(staged, int) and staged >= row.head_seq - CLOSE_ENOUGH:
                return
        raise Rejected(Reason.FORBIDDEN, f"{new_hub} does not come to the end of the log")

    async def _signed(self, room_id: str, new_hub: str) -> JsonObject:
        row = self._node.store.room(room_id)
        assert row is not None  # noqa: S101 - it has a paused actor
        (last,) = self._node.store.event_ids(room_id, after=row.head_seq - 1, limit=1)
        body: JsonObject = {
            "after": last,
            "size": row.head_seq,
            ROUTES: self._routes(room_id),
            PULL_FOLLOWERS: fetchers(self._node, self._node.rooms.state(room_id)),
        }
        lpdu = (await self._ask(room_id, new_hub, "accept", body)).get("lpdu")
        if not isinstance(lpdu, dict) or (lpdu.get("type"), lpdu.get("room_id")) != (HUB[0], room_id):
            raise Rejected(Reason.MALFORMED, f"{new_hub} signed something else than a transfer")
        return lpdu

    def _routes(self, room_id: str) -> JsonObject:
        """Where the key packages live that were handed out for a room lately, by KeyPackageRef."""
        now = self._node.clock()
        found = self._node.store.room_routes(room_id, now_ms=now, limit=MAX_ROUTES)
        return {encode_base64(reference): provider for reference, (provider, _) in found.items()}

    async def _ask(self, room_id: str, server: str, what: str, body: JsonObject) -> JsonObject:
        path = f"{_ROOM.format(room_id=quote(room_id, safe=''))}/{what}"
        return await self._node.federation.request(server, "POST", path, json=body)

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
        for kind, user_id in state
        if kind == "m.room.member"
        and user_domain(user_id) == server
        and membership(state, user_id) == "join"
        and user_level(state, user_id) >= needed
    )
