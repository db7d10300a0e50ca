"""The group states that new members begin with, kept until they have joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTreeRow:
    """The group as a commit with a Welcome left it; ``waiting`` are the KeyPackageRefs in that Welcome."""

    room_id: str
    epoch: int
    group_info: bytes
    ratchet_tree: bytes
    waiting: frozenset[bytes]


class PastTreeStore(Protocol):
    """The part of ``Store`` that assisted joining needs. ``RoomAppend.past_trees`` adds to it."""

    async def forget_past_tree(self, room_id: str, epoch: int, reference: bytes) -> None:
        """A new member has joined; the last one's group state is forgotten."""
        ...

    def past_tree(self, room_id: str, epoch: int) -> PastTreeRow | None:
        """The group state of an epoch that somebody still has to join by, or None."""
        ...
