"""A hub whose room was taken over while it was away, and that is back.

The server that took the room over sends it the takeover, as to everybody in the room. Anybody in charge can
write such an event, so the old hub asks the others: if more than half of them hold it, the room is stopped
here. It can be read, and nothing is appended any more. The operator decides what becomes of it; until then
nothing is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import orjson
import structlog
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import authorize
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.hub_rules import is_takeover, taken_from
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import HUB, StateMap
from linearized.protocol.verify import required_keys, verify_event
from linearized.protocol.versions import get_version
from linearized.room.submissions import Reason, Rejected
from linearized.server.cursors import joined_providers
from linearized.server.exchange import OutboundError
from linearized.server.hub import Hub
from linearized.server.loading import state_of
from linearized.server.node import Node
from linearized.server.rows import entry_row
from linearized.server.telemetry import describe
from linearized.store.base import Role, RoomAppend, RoomRow
from linearized.store.history import FindingRow

log = structlog.get_logger("linearized.returns")

# For one question to another server.
ASK_SECONDS: Final = 20.0

REASON: Final = "the room was taken over from this server"


class Returns:
    """See the module."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        # Rooms with a takeover that the operator has not dealt with: the event, and whether it is confirmed.
        self._known: dict[str, FindingRow] = {}
        for found in node.store.findings():
            if found.reason == REASON and found.dismissed_at is None:
                self._known[found.room_id] = found
                if found.proven:
                    hub.stop(found.room_id, found.hub)

    def successor(self, room_id: str) -> str | None:
        """Who orders a room that was taken over from us, once others have confirmed it."""
        found = self._known.get(room_id)
        return found.hub if found is not None and found.proven else None

    async def noticed(self, row: RoomRow, pdus: Sequence[JsonObject], origin: str) -> bool:
        """Look at events for a room of ours for a takeover; whether they were one.

        Raises:
            InvalidInput: a takeover that does not hold.
        """
        version = get_version(row.version)
        if not version.hub_transfers or [pdu.get("type") for pdu in pdus] != [HUB[0]]:
            return False
        event = parse_pdu(pdus[0], version)
        if not is_takeover(event):
            return False
        await self._check(row, event, origin)
        if row.room_id not in self._known:
            await self._note(row, event, proven=False)
        await self._confirm(row, event)
        return True

    async def _check(self, row: RoomRow, event: Event, origin: str) -> None:
        version = get_version(row.version)
        if event.room_id != row.room_id or user_domain(event.sender) != origin:
            raise Rejected(Reason.FORBIDDEN, "A takeover is shown by who took the room over")
        if taken_from(event) != self._node.identity.name:
            raise Rejected(Reason.WRONG_HUB, "The takeover is from another hub")
        keys: dict[tuple[str, str], bytes] = {}
        for server, key_ids in required_keys(event, version=version):
            for key_id, key in (await self._node.keys.keys_for(server, key_ids)).items():
                keys[server, key_id] = key
        verify_event(event, version=version, keys=lambda server, key_id: keys.get((server, key_id)))
        place = self._node.store.entry_by_id(event.prev_events[0]) if event.prev_events else None
        if place is None or place.room_id != row.room_id:
            raise Rejected(Reason.FORBIDDEN, "The takeover does not follow an entry of this room")
        grouped = row.epoch is not None
        authorize(event, self._state(row, place.seq), version=version, first_commit_seen=grouped)

    def _state(self, row: RoomRow, seq: int) -> StateMap:
        return state_of(self._node.store, row, seq)

    async def _note(self, row: RoomRow, event: Event, *, proven: bool) -> None:
        finding = FindingRow(
            digest=hashlib.sha256(f"{event.event_id} {proven}".encode()).hexdigest(),
            room_id=row.room_id,
            hub=user_domain(event.sender),
            proven=proven,
            reason=REASON,
            document=event.raw.decode(),
            found_at=self._node.clock(),
        )
        await self._node.store.put_finding(finding)
        self._known[row.room_id] = finding

    async def _confirm(self, row: RoomRow, event: Event) -> None:
        """Ask the others in the room who orders it; stop it if more than half say the same."""
        taker = user_domain(event.sender)
        found = self._known[row.room_id]
        if found.proven or found.hub != taker:
            return
        state = self._node.rooms.state(row.room_id)
        others = sorted(joined_providers(state, ours=self._node.served_domains).keys() - {taker})
        following = [taker, *[server for server in others if await self._follows(row, event, server)]]
        if len(following) * 2 <= len(others) + 1:
            log.warning("takeover_claimed", room_id=row.room_id, by=taker, following=len(following))
            return
        await self._node.store.dismiss_findings([found.digest], self._node.clock())
        await self._note(row, event, proven=True)
        self._hub.stop(row.room_id, taker)
        self._node.notifier.room_changed(state)
        place = self._node.store.entry_by_id(event.prev_events[0])
        behind = row.head_seq - place.seq if place is not None else 0
        log.error("taken_over_from_us", room_id=row.room_id, by=taker, entries_nobody_else_has=behind)

    async def _follows(self, row: RoomRow, event: Event, server: str) -> bool:
        path = (
            f"/_linearized/v1/rooms/{quote(row.room_id, safe='')}/tail?after={quote(event.event_id, safe='')}"
        )
        try:
            with trio.fail_after(ASK_SECONDS):
                await self._node.federation.request(server, "GET", path)
        except (OutboundError, trio.TooSlowError):
            return False
        return True

    async def confirm_all(self) -> None:
        """Ask again about the takeovers that were not confirmed yet."""
        for found in list(self._known.values()):
            row = self._node.store.room(found.room_id)
            if row is None or row.role is not Role.HUB or found.proven:
                continue
            try:
                await self._confirm(row, self._event(row, found))
            except InvalidInput as error:
                log.info("takeover_not_confirmed", room_id=found.room_id, **describe(error))

    def _event(self, row: RoomRow, found: FindingRow) -> Event:
        return parse_pdu(orjson.loads(found.document), get_version(row.version))

    async def give_up(self, row: RoomRow, taker: str) -> str:
        """Follow, for our operator, the server that took a room over from us; what that means, in words.

        Raises:
            Rejected: no such takeover was confirmed, or we appended entries behind its place.
        """
        found = self._known.get(row.room_id)
        if found is None or not found.proven or found.hub != taker:
            raise Rejected(
                Reason.FORBIDDEN, f"This server orders the room; nobody confirms that {taker} does"
            )
        event = self._event(row, found)
        row = self._node.store.room(row.room_id) or row
        last = self._node.store.event_ids(row.room_id, after=row.head_seq - 1, limit=1)
        if last != list(event.prev_events):
            place = self._node.store.entry_by_id(event.prev_events[0])
            behind = row.head_seq - place.seq if place is not None else row.head_seq
            raise Rejected(
                Reason.FORBIDDEN,
                f"This server appended {behind} entries that {taker} does not have. They are kept, and the"
                " room can be read here; it cannot follow another history",
            )
        entry = entry_row(event, seq=row.head_seq + 1, epoch=row.epoch)
        stopped = tuple(
            replace(follower, cursor=entry.seq, stop_seq=entry.seq)
            for follower in self._node.store.followers(row.room_id)
        )
        moved = replace(row, role=Role.PARTICIPANT, hub=taker)
        await self._node.store.append(
            RoomAppend(room_id=row.room_id, room=moved, entries=(entry,), followers=stopped)
        )
        await self._node.store.dismiss_findings([found.digest], self._node.clock())
        del self._known[row.room_id]
        self._hub.resume(row.room_id)
        self._node.takeover_consents.forget(row.room_id)
        self._node.rooms.participating.forget(row.room_id)
        self._node.audits.due(row.room_id)
        self._node.notifier.room_changed(self._node.rooms.state(row.room_id))
        log.warning("followed_takeover", room_id=row.room_id, hub=taker)
        try:
            await self._node.takeovers.catch_up(row.room_id, taker)
        except (OutboundError, InvalidInput, trio.TooSlowError) as error:
            log.info("taker_not_reached", room_id=row.room_id, server=taker, **describe(error))
        return f"{row.room_id} is ordered by {taker}; this server takes part in it"
