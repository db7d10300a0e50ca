"""The old hub's side of handing a room over (see ``moves``)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import structlog
import trio

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_lpdu
from linearized.protocol.identifiers import user_domain
from linearized.protocol.signing import signatures_of
from linearized.protocol.state import HUB
from linearized.protocol.verify import verify_lpdu
from linearized.protocol.versions import get_version
from linearized.room.standing import joined_users
from linearized.room.submissions import LinearizedPdu, Reason, Rejected
from linearized.server.cursors import LINEARIZED, joined_providers
from linearized.server.hub import Hub
from linearized.server.incoming import PAGE
from linearized.server.node import Node
from linearized.server.providers.client import HUB_MOVED, ProviderError
from linearized.server.told_fetchers import PULL_FOLLOWERS, fetchers
from linearized.store.base import Role, RoomRow

log = structlog.get_logger("linearized.moves")

# Entries that may be missing when the room is paused: a few pages, so that the pause is short.
CLOSE_ENOUGH: Final = 2 * PAGE
# Times the new hub may answer that it is not done: an hour and a half of copying.
MAX_ROUNDS: Final = 540
# The longest a room is paused. If the new hub has not signed by then, it stays where it is.
PAUSE_SECONDS: Final = 60.0

# Beside the end of the log, what the new hub routes Welcomes by that are still to come.
ROUTES: Final = "key_package_routes"
# Key packages are claimed minutes before their commit, and these are of one day: hundreds in a busy room.
MAX_ROUTES: Final = 1000

_ROOM: Final = "/_linearized/v1/rooms/{room_id}/transfer"


class HandingOver:
    """See the module."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        self._offered: dict[str, str] = {}  # rooms of ours that are being handed over, and to whom

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
            user_id for user_id in joined_users(state) if user_domain(user_id) in self._node.bridged_domains
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
