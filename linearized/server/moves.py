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
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_lpdu
from linearized.protocol.identifiers import user_domain
from linearized.protocol.power_levels import level_to_send, user_level
from linearized.protocol.signing import signatures_of
from linearized.protocol.state import HUB, StateMap, membership
from linearized.protocol.verify import verify_lpdu
from linearized.protocol.versions import get_version
from linearized.room.submissions import LinearizedPdu, Reason, Rejected
from linearized.server.cursors import LINEARIZED, joined_providers
from linearized.server.exchange import OutboundError
from linearized.server.hub import Hub
from linearized.server.incoming import PAGE, Incoming
from linearized.server.node import Node
from linearized.server.telemetry import describe
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

_ROOM: Final = "/_linearized/v1/rooms/{room_id}/transfer"


class Moves:
    """Both sides of a transfer."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        self._offered: dict[str, str] = {}  # rooms of ours that are being handed over, and to whom
        self._incoming: dict[str, Incoming] = {}
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
        self._require_movable(row, new_hub)
        if room_id in self._offered:
            raise Rejected(Reason.FORBIDDEN, "The room is being handed over already")
        self._offered[room_id] = new_hub
        try:
            await self._copied(room_id, new_hub)
            async with self._hub.paused(room_id):
                self._require_movable(row, new_hub)  # somebody may have joined meanwhile
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
        """Whether a server gets a room's whole log from us: it is taking the room over, or just has."""
        return self._offered.get(row.room_id) == server or (
            row.role is Role.PARTICIPANT and row.hub == server and get_version(row.version).hub_transfers
        )

    def _require_movable(self, row: RoomRow, new_hub: str) -> None:
        if row.role is not Role.HUB:
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {row.hub}")
        if not get_version(row.version).hub_transfers:
            raise Rejected(Reason.FORBIDDEN, f"Rooms of version {row.version} have no hub transfers")
        state = self._node.rooms.state(row.room_id)
        providers = joined_providers(state, ours=frozenset({self._node.identity.name}))
        if providers.get(new_hub) != LINEARIZED:
            raise Rejected(Reason.FORBIDDEN, f"{new_hub} takes no part in the room by Linearized Matrix")
        # They see no events, so nothing would tell them where the room has gone.
        mimi = sorted(name for name, protocol in providers.items() if protocol != LINEARIZED)
        # The new hub would have to vouch for them, and only we do.
        bridged = sorted(
            user_id
            for kind, user_id in state
            if kind == "m.room.member"
            and membership(state, user_id) == "join"
            and user_domain(user_id) in self._node.bridged_domains
        )
        if mimi or bridged:
            raise Rejected(
                Reason.FORBIDDEN, f"{(mimi or bridged)[0]} could not follow the room to another hub"
            )

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
        body = {"after": last, "size": row.head_seq}
        lpdu = (await self._ask(room_id, new_hub, "accept", body)).get("lpdu")
        if not isinstance(lpdu, dict) or (lpdu.get("type"), lpdu.get("room_id")) != (HUB[0], room_id):
            raise Rejected(Reason.MALFORMED, f"{new_hub} signed something else than a transfer")
        return lpdu

    async def _ask(self, room_id: str, server: str, what: str, body: JsonObject) -> JsonObject:
        path = f"{_ROOM.format(room_id=quote(room_id, safe=''))}/{what}"
        return await self._node.federation.request(server, "POST", path, json=body)

    # --- the new hub ---

    async def prepare(self, row: RoomRow, hub: str) -> int:
        """Copy the room's log for a while; the entries copied so far.

        Raises:
            Rejected: none of our users may take the room, or the log does not hold, or that hub was caught.
            OutboundError: the hub does not give it.
        """
        self._node.audits.require_trusted(row)
        self._taker(row)
        async with self._locks.setdefault(row.room_id, trio.Lock()):
            incoming = await self._begun(row, hub)
            until = trio.current_time() + COPY_SECONDS
            while await incoming.fetch() and trio.current_time() < until:
                pass
            return incoming.size

    async def accept(self, row: RoomRow, hub: str, *, after: str, size: int) -> JsonObject:
        """Copy the rest of the log, and sign the transfer that follows its last entry.

        Raises:
            Rejected: as ``prepare``, or the log does not end there.
            OutboundError: as ``prepare``.
        """
        async with self._locks.setdefault(row.room_id, trio.Lock()):
            incoming = await self._begun(row, hub)
            while incoming.size < size and await incoming.fetch(limit=size - incoming.size):
                pass
            if (incoming.size, incoming.head) != (size, after):
                raise Rejected(Reason.FORBIDDEN, "The log we were given ends elsewhere")
            return build_lpdu(
                identity=self._node.identity,
                version=get_version(row.version),
                room_id=row.room_id,
                type=HUB[0],
                sender=self._taker(row),
                content={"after": after},
                origin_server_ts=self._node.clock(),
                hub_server=hub,
                state_key="",
            )

    async def _begun(self, row: RoomRow, hub: str) -> Incoming:
        known = self._incoming.get(row.room_id)
        staged = self._node.store.staged_head(row.room_id)
        # One that broke off in the middle of a page is ahead of what was staged.
        if known is not None and (known.source, known.size) == (hub, staged):
            return known
        incoming = Incoming(self._node, row, hub)
        await incoming.resume()
        self._incoming[row.room_id] = incoming
        return incoming

    def _taker(self, row: RoomRow) -> str:
        """One of our users who may send the transfer: that they were given that power is the room's consent.

        Raises:
            Rejected: there is none.
        """
        state = self._node.rooms.state(row.room_id)
        needed = level_to_send(state, HUB[0], True, get_version(row.version))
        for user_id in _joined(state, self._node.identity.name):
            if user_level(state, user_id) >= needed:
                return user_id
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
                    await self._adopt(room_id)
                except (OutboundError, InvalidInput, StoreError) as error:
                    log.warning("not_taken_over", room_id=room_id, **describe(error))
                else:
                    del self._due[room_id]
            if self._due:
                await trio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _adopt(self, room_id: str) -> None:
        store = self._node.store
        row = store.room(room_id)
        assert row is not None  # noqa: S101 - rooms are never removed
        transfer = store.state_entry(room_id, *HUB, seq=row.head_seq)
        if transfer is None:
            raise StoreError(f"{room_id} was handed over without a transfer")
        async with self._locks.setdefault(room_id, trio.Lock()):
            incoming = await self._begun(row, orjson.loads(transfer.pdu)["hub_server"])
            while incoming.head != transfer.event_id and await incoming.fetch():
                pass
            if incoming.head != transfer.event_id:
                raise StoreError(f"the log of {room_id} does not end with its transfer")
            providers = joined_providers(incoming.state, ours=self._node.served_domains)
            await store.adopt(
                Adoption(
                    room=replace(row, role=Role.HUB, hub=self._node.identity.name, epoch=incoming.epoch),
                    group=incoming.group(),
                    followers=tuple(
                        FollowerRow(
                            room_id=room_id, provider=provider, protocol=protocol, cursor=incoming.size
                        )
                        for provider, protocol in providers.items()
                    ),
                )
            )
            del self._incoming[room_id]
        self._node.rooms.participating.forget(room_id)
        self._node.notifier.room_changed(incoming.state)
        log.info("taken_over", room_id=room_id, entries=incoming.size)


def _joined(state: StateMap, server: str) -> list[str]:
    return sorted(
        user_id
        for kind, user_id in state
        if kind == "m.room.member" and membership(state, user_id) == "join" and user_domain(user_id) == server
    )
