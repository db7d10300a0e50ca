"""Whole copies of rooms that other servers order, kept by servers that may have to take them over.

A participant's log begins with its join. One with a user who may send ``m.room.hub`` also fetches what lies
before that from the hub, in the background and checked as for a planned transfer, and keeps it staged. With
its own log behind it, that is the whole. Decision 0015.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from linearized.exceptions import InvalidInput, StoreError
from linearized.protocol.versions import get_version
from linearized.room.submissions import Rejected
from linearized.server.exchange import OutboundError
from linearized.server.incoming import PAGE
from linearized.server.node import Node
from linearized.server.telemetry import describe
from linearized.store.base import Role, RoomRow

log = structlog.get_logger("linearized.copies")

# All rooms are looked at this often: a copy is for the day its hub is gone, and nobody waits for it.
ROUND_SECONDS: Final = 600.0
# Between two pages of one room: at most a thousand entries a second are asked of a hub and checked here.
PACE_SECONDS: Final = 0.2


class Copies:
    """See the module."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._due: dict[str, None] = {}
        self._wake = trio.Event()

    def begin(self) -> None:
        """After a start, and now and then: every room that we might have to take over is due."""
        for row in self._node.store.rooms():
            if row.role is Role.PARTICIPANT and row.head_seq:
                self.due(row.room_id)

    def due(self, room_id: str) -> None:
        """See soon whether a room's copy can be completed: somebody of ours may have been put in charge."""
        self._due[room_id] = None
        self._wake.set()

    async def run(self) -> None:
        """Complete what is due, one room at a time, for ever."""
        next_round = trio.current_time() + ROUND_SECONDS
        while True:
            with trio.CancelScope(deadline=next_round):
                await self._wake.wait()
            self._wake = trio.Event()
            if trio.current_time() >= next_round:
                next_round = trio.current_time() + ROUND_SECONDS
                self.begin()
                await self._confirm()
            while self._due:
                room_id = next(iter(self._due))
                del self._due[room_id]
                await self._guarded(room_id)

    async def _confirm(self) -> None:
        try:
            await self._node.takeovers.confirm_all()
        except Exception as error:  # noqa: BLE001 - a full disk, or a bug; the next round tries again
            log.error("takeovers_not_confirmed", **describe(error))

    async def _guarded(self, room_id: str) -> None:
        try:
            await self.complete(room_id)
        except (OutboundError, InvalidInput, StoreError) as error:
            # Not reached, or not allowed: the next round tries again.
            status = error.status if isinstance(error, OutboundError) else None
            log.info("copy_put_off", room_id=room_id, status=status, **describe(error))
        except Exception as error:  # noqa: BLE001 - a bug costs this copy, not the server
            log.error("copy_broken", room_id=room_id, **describe(error))

    async def complete(self, room_id: str) -> bool:
        """Fetch what a room's copy lacks; whether it is complete.

        Raises:
            OutboundError: its hub does not give it.
            Rejected: what it gives does not hold.
        """
        row = self._node.store.room(room_id)
        if row is None or not self._is_wanted(row):
            return False
        held = self._node.store.audit(room_id)
        if held is None:
            await self._node.audits.audit(room_id)  # the hub proves where our copy begins
            held = self._node.store.audit(room_id)
        if held is None:
            return False
        if self._node.store.staged_head(room_id) >= held.anchor_size:
            return True
        moves = self._node.moves
        fetched = held.anchor_size
        while fetched:
            async with moves.lock(room_id):
                incoming = await moves.begun(row, row.hub)
                missing = held.anchor_size - incoming.size
                fetched = await incoming.fetch(limit=min(missing, PAGE)) if missing > 0 else 0
                if not fetched:
                    moves.release(room_id)
            if fetched:
                await trio.sleep(PACE_SECONDS)
        whole = self._node.store.staged_head(room_id) >= held.anchor_size
        if whole:
            log.info("copy_complete", room_id=room_id, entries=held.anchor_size)
        return whole

    def _is_wanted(self, row: RoomRow) -> bool:
        """Whether one of our users could take the room over."""
        ours = self._node.identity.name
        if row.role is not Role.PARTICIPANT or row.hub == ours or not row.head_seq:
            return False
        if not get_version(row.version).hub_transfers:
            return False
        if self._node.takeover_consents.current(row) is not None:
            return False
        try:
            self._node.moves.taker(row)
        except Rejected:
            return False
        return True
