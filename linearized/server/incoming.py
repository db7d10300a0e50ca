"""The whole log of a room on its way here: fetched from its hub in pages, checked, staged.

Nothing of it is believed. Every entry is checked as ``linearized room verify`` checks it, from the first on,
and the MLS group the hub needs is the one that the log's own commits lead to. Where we held a checkpoint, the
log has to have that root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.events import parse_pdu, parse_stored
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import HUB, StateMap
from linearized.protocol.verify import required_keys
from linearized.protocol.versions import get_version
from linearized.room.admission import COMMIT, COMMIT_PART
from linearized.room.checkpoint import Checkpoint, read_checkpoint
from linearized.room.merkle import Frontier, entry_leaf
from linearized.room.submissions import Reason, Rejected
from linearized.room_check import BrokenLog, LogWalk
from linearized.server.mls import OpenMls
from linearized.server.node import Node
from linearized.server.rows import entry_row
from linearized.store.base import EntryRow, GroupRow, RoomRow

# Entries asked for at once; the hub may give fewer.
PAGE: Final = 200
# Entries checked between two checkpoints of the loop: a few milliseconds.
BREATH: Final = 10


class Incoming:
    """One room's log, as far as it has come.

    Args:
        source: the hub that gives it.
    """

    def __init__(self, node: Node, row: RoomRow, source: str) -> None:
        self._node = node
        self._row = row
        self._source = source
        self._keys: dict[tuple[str, str], bytes] = {}
        self._walk = LogWalk(row, lambda *name: self._keys.get(name), OpenMls(node.clock))
        self._tree = Frontier()
        self._held = self._checkpoint()
        self._path = f"/_linearized/v1/rooms/{quote(row.room_id, safe='')}/log"

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self._source

    @property
    def size(self) -> int:
        """Entries checked and staged."""
        return self._tree.size

    @property
    def head(self) -> str | None:
        """Event ID of the last of them."""
        return self._walk.head

    @property
    def state(self) -> StateMap:
        """The room's state after them."""
        return self._walk.state

    @property
    def epoch(self) -> int | None:
        """The MLS group's epoch after them."""
        return self._walk.epoch

    @property
    def root(self) -> bytes:
        """The Merkle root over them."""
        return self._tree.root()

    def group(self) -> GroupRow | None:
        """The MLS group that their commits lead to, as a hub keeps it."""
        return self._walk.group()

    async def resume(self) -> None:
        """Check again what was staged before a restart.

        Raises:
            Rejected: it does not hold.
        """
        while page := self._node.store.staged(self._row.room_id, after=self.size, limit=PAGE):
            await self._take(page)

    async def fetch(self, *, limit: int = PAGE) -> int:
        """Fetch, check and stage a page; how many entries it had.

        Raises:
            Rejected: it does not hold; what was staged is thrown away.
            OutboundError: the hub does not give it.
        """
        query = f"after={self.size}&limit={min(limit, PAGE)}"
        answer = await self._node.federation.request(self._source, "GET", f"{self._path}?{query}")
        pdus, epochs = answer.get("pdus"), answer.get("epochs")
        if not isinstance(pdus, list) or not isinstance(epochs, list) or len(pdus) != len(epochs):
            raise Rejected(Reason.MALFORMED, "The hub's answer is no page of a log")
        try:
            rows = [
                self._row_of(pdu, epoch, self.size + number)
                for number, (pdu, epoch) in enumerate(zip(pdus[:limit], epochs, strict=False), 1)
            ]
        except InvalidInput as error:
            raise Rejected(Reason.MALFORMED, f"The hub's log does not hold: {error}") from error
        try:
            await self._take(rows)
        except Rejected:
            await self._node.store.drop_staged(self._row.room_id)
            raise
        await self._node.store.stage_entries(self._row.room_id, rows)
        return len(rows)

    async def bridge(self) -> None:
        """Go on with our own copy of the log, to its end. It begins with our join, and the hub has proved
        where in its log that is.

        Raises:
            Rejected: what was staged does not reach it, or it does not hold.
        """
        room_id, store = self._row.room_id, self._node.store
        held = store.audit(room_id)
        if held is None or self.size < held.anchor_size:
            needed = "those before its own" if held is None else str(held.anchor_size)
            raise Rejected(
                Reason.FORBIDDEN,
                f"This server's copy of the log is not complete: of its beginning {self.size} entries are"
                f" here, and {needed} are needed",
            )
        seq = self.size - held.anchor_size + held.anchor_seq
        if store.event_ids(room_id, after=seq - 1, limit=1) != [self.head]:
            raise Rejected(
                Reason.FORBIDDEN, "The beginning of the log does not lead to this server's copy of it"
            )
        while page := store.entries(room_id, after=seq, limit=PAGE):
            seq = page[-1].seq
            leading = self._leading_of([*page, *self._run_after(page[-1])])
            rows: list[EntryRow] = []
            for entry in page:
                further = entry.type == COMMIT or entry.seq in leading
                rows.append(
                    replace(entry, seq=self.size + 1, epoch=(self.epoch or 0) + 1 if further else self.epoch)
                )
                await self._take(rows[-1:])
            await store.stage_entries(room_id, rows)

    def _run_after(self, entry: EntryRow) -> list[EntryRow]:
        """What may belong to the same append as an entry and stands behind it."""
        found: list[EntryRow] = []
        while _may_lead(entry):
            following = self._node.store.entries(self._row.room_id, after=entry.seq, limit=1)
            if not following:
                break
            (entry,) = following
            found.append(entry)
        return found

    @staticmethod
    def _leading_of(entries: Sequence[EntryRow]) -> set[int]:
        """The sequence numbers of the entries that stand before the commit they belong to, with its epoch.

        A copy does not have that from its hub. The entries of one append have one time; an entry of its own
        that has it too, by chance, is found when the commit is checked.
        """
        leading: set[int] = set()
        commit: int | None = None
        for entry in reversed(entries):
            if entry.type == COMMIT:
                commit = entry.origin_server_ts
            elif commit is not None and _may_lead(entry) and entry.origin_server_ts == commit:
                leading.add(entry.seq)
            else:
                commit = None
        return leading

    async def _take(self, rows: list[EntryRow]) -> None:
        try:
            for number, row in enumerate(rows):
                await self._learn_keys(row)
                self._walk.step(row)
                self._tree.append(entry_leaf(row.event_id))
                if self._is_our_takeover(row):
                    # What the old hub signed is about its own entries, not about ours in their place.
                    self._held = None
                if self._held is not None and self._tree.size == self._held.size:
                    self._require_root(self._held)
                if number % BREATH == 0:
                    await trio.lowlevel.checkpoint()
        except (BrokenLog, InvalidInput) as error:
            raise Rejected(Reason.FORBIDDEN, f"The log does not hold: {error}") from error

    def _is_our_takeover(self, row: EntryRow) -> bool:
        own = self._node.identity.name
        return self._source == own and row.type == HUB[0] and user_domain(row.sender) == own

    async def _learn_keys(self, row: EntryRow) -> None:
        version = get_version(self._row.version)
        event = parse_stored(row.pdu, version, row.event_id)
        for server, key_ids in required_keys(event, version=version):
            if not all((server, key_id) in self._keys for key_id in key_ids):
                found = await self._node.keys.keys_for(server, key_ids)
                self._keys.update({(server, key_id): key for key_id, key in found.items()})

    def _require_root(self, held: Checkpoint) -> None:
        if self._tree.root() != held.root:
            raise InvalidInput("it is another log than the one its hub signed")

    def _checkpoint(self) -> Checkpoint | None:
        audit = self._node.store.audit(self._row.room_id)
        return read_checkpoint(audit.checkpoint) if audit is not None else None

    def _row_of(self, pdu: object, epoch: object, seq: int) -> EntryRow:
        if not isinstance(pdu, dict) or not (epoch is None or type(epoch) is int):
            raise InvalidInput("an entry is an object with an epoch")
        event = parse_pdu(pdu, get_version(self._row.version))
        return entry_row(event, seq=seq, epoch=epoch)


def _may_lead(entry: EntryRow) -> bool:
    return entry.type == COMMIT_PART or entry.state_key is not None
