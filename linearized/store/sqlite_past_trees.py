"""Group states that new members begin with, in SQLite."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

from linearized.store.past_trees import PastTreeRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

# Group states kept for one room. A tree of a thousand members has about 300 KB; a client that comes after
# sixty-four more additions, and did not get its tree with its Welcome, rejoins by external commit.
MAX_PAST_TREES: Final = 64


def put_past_tree(transaction: Transaction, row: PastTreeRow, number: int) -> None:
    """Keep a room's group state, in the place of the oldest one if there are too many."""
    execute = transaction.connection.execute
    execute(
        "INSERT OR REPLACE INTO past_trees (room_nr, epoch, group_info, ratchet_tree, waiting)"
        " VALUES (?, ?, ?, ?, ?)",
        (number, row.epoch, row.group_info, row.ratchet_tree, _encode(row.waiting)),
    )
    execute(
        "DELETE FROM past_trees WHERE room_nr = ? AND epoch NOT IN"
        " (SELECT epoch FROM past_trees WHERE room_nr = ? ORDER BY epoch DESC LIMIT ?)",
        (number, number, MAX_PAST_TREES),
    )


def forget_past_tree(transaction: Transaction, *, room_id: str, epoch: int, reference: bytes) -> None:
    """A new member has joined; the last one's group state is forgotten."""
    execute = transaction.connection.execute
    found = execute(
        "SELECT p.room_nr, waiting FROM past_trees p JOIN rooms r USING (room_nr)"
        " WHERE room_id = ? AND p.epoch = ?",
        (room_id, epoch),
    ).fetchone()
    if found is None:
        return
    number, waiting = found[0], _decode(found[1]) - {reference}
    if waiting:
        execute(
            "UPDATE past_trees SET waiting = ? WHERE room_nr = ? AND epoch = ?",
            (_encode(waiting), number, epoch),
        )
    else:
        execute("DELETE FROM past_trees WHERE room_nr = ? AND epoch = ?", (number, epoch))


class PastTreeReads(Reader):
    """The reads of ``PastTreeStore``."""

    def past_tree(self, room_id: str, epoch: int) -> PastTreeRow | None:
        """The group state of an epoch that somebody still has to join by, or None."""
        rows = self._query(
            "SELECT group_info, ratchet_tree, waiting FROM past_trees WHERE room_nr = ? AND epoch = ?",
            self._room_number(room_id),
            epoch,
        )
        if not rows:
            return None
        group_info, ratchet_tree, waiting = rows[0]
        return PastTreeRow(
            room_id=room_id,
            epoch=epoch,
            group_info=group_info,
            ratchet_tree=ratchet_tree,
            waiting=_decode(waiting),
        )


def _encode(references: frozenset[bytes]) -> str:
    return json.dumps(sorted(reference.hex() for reference in references))


def _decode(text: str) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(reference) for reference in json.loads(text))


class PastTreeWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def forget_past_tree(self, room_id: str, epoch: int, reference: bytes) -> None:
        """A new member has joined; the last one's group state is forgotten."""
        await self._write(partial(forget_past_tree, room_id=room_id, epoch=epoch, reference=reference))
