"""What the store keeps about the verifiability of logs: Merkle tiles, audits of other hubs, findings.

Tiles and audits are derived from logs and from what hubs sign; losing them costs work, nothing else. Findings
are kept for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """How far we have checked the log of a room that another server orders.

    Our copy begins somewhere in the hub's log. Its entry ``anchor_seq`` was proved to be the hub's entry
    ``anchor_size``; from there on both count alike. Frontiers are ``linearized.room.merkle.Frontier``'s
    encoding.

    Attributes:
        anchor_seq: our ``seq`` of the first entry we have a proof of.
        anchor_size: the hub's ``seq`` of that entry, and so the leaves of the tree that ends with it.
        anchor_frontier: of that tree.
        size: leaves of the tree that ends with the last entry of ours that was taken into account.
        frontier: of that tree.
        checkpoint: the hub's latest checkpoint that we found right, as signed.
        key_id: the hub's key that signed it.
        checked_at: when, milliseconds since the Unix epoch.
    """

    room_id: str
    hub: str
    anchor_seq: int
    anchor_size: int
    anchor_frontier: bytes
    size: int
    frontier: bytes
    checkpoint: str
    key_id: str
    checked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """Something a hub signed or refused that does not fit the rest.

    Attributes:
        digest: SHA-256 hex of what was found; finding it again adds nothing.
        proven: whether ``document`` is a portable proof (``linearized.room.evidence``). If not, it is what we
            saw, and only our word for it.
        document: JSON.
        found_at: milliseconds since the Unix epoch.
        dismissed_at: when the operator was done with it, likewise; None while it is open.
    """

    digest: str
    room_id: str
    hub: str
    proven: bool
    reason: str
    document: str
    found_at: int
    dismissed_at: int | None = None


class HistoryStore(Protocol):
    """The part of ``Store`` that verifiable history needs."""

    async def put_tree_hashes(self, room_id: str, level: int, first: int, hashes: Sequence[bytes]) -> None:
        """Store neighbouring hashes of one tile level; those stored already stay.

        Raises:
            StoreError: the room is unknown.
        """
        ...

    async def put_audit(self, audit: AuditRow) -> None:
        """Insert or replace the audit of a room. StoreError if the room is unknown."""
        ...

    async def put_finding(self, finding: FindingRow) -> bool:
        """Keep a finding; False if it is open already. A dismissed one is opened anew, with its new time."""
        ...

    async def dismiss_findings(self, digests: Sequence[str], now_ms: int) -> None:
        """Note when the operator was done with findings; those dismissed before keep their time."""
        ...

    async def delete_audit(self, room_id: str) -> None:
        """Forget how far a room was checked: the next audit starts anew. Nothing if it never was."""
        ...

    def event_ids(self, room_id: str, *, after: int, limit: int) -> list[str]:
        """Event IDs of entries with ``seq > after``, ascending; reads no PDU."""
        ...

    def tree_hashes(self, room_id: str, level: int, *, first: int, limit: int) -> list[bytes]:
        """Hashes of a tile level from index ``first`` on, without gaps."""
        ...

    def tree_count(self, room_id: str, level: int) -> int:
        """How many hashes of a tile level are stored; they are the first ones."""
        ...

    def audit(self, room_id: str) -> AuditRow | None:
        """The audit of a room, or None."""
        ...

    def findings(self, room_id: str | None = None) -> list[FindingRow]:
        """The findings about one room, or about all, oldest first."""
        ...
