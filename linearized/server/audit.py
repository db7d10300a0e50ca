"""One audit of a room that another server orders: is its log the one it told us of, and tells it others the
same?

What is compared: the hub's checkpoint now, the one we held, the entries it sent us, and the checkpoint that
another participant holds. Any two that do not fit together are a ``Contradiction``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from linearized.exceptions import ProofError
from linearized.room.checkpoint import Checkpoint, read_checkpoint
from linearized.room.merkle import Frontier, entry_leaf, verify_consistency, verify_inclusion
from linearized.server.remote_log import RemoteLog
from linearized.store.base import RoomRow, Store
from linearized.store.history import AuditRow

# Event IDs hashed between two checkpoints: half a millisecond.
PAGE: Final = 500


class Contradiction(Exception):  # noqa: N818 - says what was found
    """Statements of a hub that cannot all be true.

    Attributes:
        reason: which, in words for the operator.
        checkpoints: what it signed, if anything.
        key_id: the key the latest of them is signed with.
    """

    def __init__(self, reason: str, checkpoints: Sequence[Checkpoint], key_id: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.checkpoints = tuple(checkpoints)
        self.key_id = key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A room, its hub's log, and what the store holds about both."""

    store: Store
    row: RoomRow
    remote: RemoteLog
    now: int

    async def run(self) -> AuditRow:
        """Compare the hub's checkpoint with our copy and the checkpoint we held.

        Returns:
            What to hold from now on.

        Raises:
            Contradiction: they do not fit together.
            ProofError, SignatureError: the hub's answer is none.
            OutboundError: there was no answer.
        """
        held = self.store.audit(self.row.room_id)
        newest, key_id = await self.remote.checkpoint(self.row.hub)
        if held is None:
            return await self._anchor(newest, key_id)
        return await self._advance(held, newest, key_id)

    async def compare(self, server: str, newest: Checkpoint) -> None:
        """Compare with the checkpoint that another participant holds.

        Raises:
            as ``run``; what is wrong with the other's answer, and not with the hub, too.
        """
        theirs, their_key = await self.remote.checkpoint(server)
        await self._consistent(theirs, newest, their_key, f"{server} holds another history than we do")

    async def _anchor(self, newest: Checkpoint, key_id: str) -> AuditRow:
        """Have the hub prove that our last entry is in its log; the proof holds the tree before it."""
        last = self.store.event_ids(self.row.room_id, after=self.row.head_seq - 1, limit=1)[0]
        leaf = entry_leaf(last)
        try:
            seq, path = await self.remote.inclusion(last, newest.size)
            frontier = verify_inclusion(leaf, seq - 1, newest.size, path, newest.root)
        except ProofError as error:
            raise Contradiction(
                "the hub's log does not hold an entry it sent us", [newest], key_id
            ) from error
        frontier.append(leaf)
        return AuditRow(
            room_id=self.row.room_id,
            hub=self.row.hub,
            anchor_seq=self.row.head_seq,
            anchor_size=seq,
            anchor_frontier=frontier.encode(),
            size=seq,
            frontier=frontier.encode(),
            checkpoint=newest.note,
            key_id=key_id,
            checked_at=self.now,
        )

    async def _advance(self, held: AuditRow, newest: Checkpoint, key_id: str) -> AuditRow:
        last = read_checkpoint(held.checkpoint)
        await self._consistent(last, newest, key_id, "the hub's log is not a continuation of what it was")
        if newest.size < held.size:
            # An old statement, and a true one. We know more already.
            return replace(held, checked_at=self.now)
        frontier, seen = await _follow(self.store, self.row, held, newest.size, last.size)
        if seen not in {None, last.root}:
            raise Contradiction("the hub sent us other entries than it had signed", [last, newest], key_id)
        try:
            path: list[bytes] = []
            if frontier.size < newest.size:
                path = await self.remote.consistency(frontier.size, newest.size)
            verify_consistency(frontier.size, frontier.root(), newest.size, newest.root, path)
        except ProofError as error:
            raise Contradiction(
                "the hub signs another log than it sends us", [last, newest], key_id
            ) from error
        return replace(
            held,
            hub=self.row.hub,  # the room may have moved; its log goes on
            size=frontier.size,
            frontier=frontier.encode(),
            checkpoint=newest.note,
            key_id=key_id,
            checked_at=self.now,
        )

    async def _consistent(self, first: Checkpoint, second: Checkpoint, key_id: str, reason: str) -> None:
        old, new = sorted((first, second), key=lambda checkpoint: checkpoint.size)
        try:
            path = await self.remote.consistency(old.size, new.size) if old.size < new.size else []
            verify_consistency(old.size, old.root, new.size, new.root, path)
        except ProofError as error:
            raise Contradiction(reason, [first, second], key_id) from error


async def tree_of_copy(store: Store, row: RoomRow, held: AuditRow) -> Frontier:
    """The tree over the hub's log up to the end of our copy of it."""
    frontier, _ = await _follow(store, row, held, row.head_seq - held.anchor_seq + held.anchor_size, 0)
    return frontier


async def _follow(
    store: Store, row: RoomRow, held: AuditRow, until: int, mark: int
) -> tuple[Frontier, bytes | None]:
    """The tree over our copy up to ``until`` leaves or its end, and its root at ``mark`` leaves, if it came
    by there.
    """
    frontier = Frontier.decode(held.size, held.frontier)
    seen = frontier.root() if frontier.size == mark else None
    offset = held.anchor_size - held.anchor_seq
    while frontier.size < until:
        limit = min(PAGE, until - frontier.size)
        page = store.event_ids(row.room_id, after=frontier.size - offset, limit=limit)
        for event_id in page:
            frontier.append(entry_leaf(event_id))
            if frontier.size == mark:
                seen = frontier.root()
        if len(page) < limit:
            break
        await trio.lowlevel.checkpoint()
    return frontier, seen
