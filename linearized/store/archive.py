"""What the store keeps of users' message archives: sealed records it cannot read (decision 34).

Of a record whose content expired or was released, everything but the content stays, as proof that it was
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRecordRow:
    """One record of an archive.

    Attributes:
        number: its place in the archive, from 1 on.
        seq, event_id: the entry it is about.
        tag: names it to who can release it.
        expires_ts: when its content goes, in milliseconds since the Unix epoch; None for never.
        stub: proves all of the above to who has the archive's key.
        sealed: the content; None once it has gone.
        release: proves that its owner had the content go; None unless they did.
    """

    number: int
    seq: int
    event_id: str
    tag: bytes
    expires_ts: int | None
    stub: bytes
    sealed: bytes | None
    release: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRow:
    """One archive of a user, and how much there is of it."""

    room_id: str
    archive: bytes
    records: int
    bytes: int


class Kept(Enum):
    """What became of records that were to be kept."""

    ALL = "all"
    FULL = "full"  # the account would have too much, with all its pseudonyms
    GAP = "gap"  # the first does not follow the last one there is


class ArchiveStore(Protocol):
    """The part of ``Store`` for these. Archives are named by random bytes, and belong to a user and a
    room.
    """

    async def put_archive(
        self,
        user_id: str,
        room_id: str,
        archive: bytes,
        records: Sequence[ArchiveRecordRow],
        *,
        most_records: int,
        most_bytes: int,
    ) -> Kept:
        """Add neighbouring records, in order; those that are there already stay. Unless all are kept, none
        is.

        Args:
            most_records, most_bytes: of an account and all its pseudonyms, whichever of them the user is.
        """
        ...

    async def release_archive(
        self, user_id: str, archive: bytes, releases: Sequence[tuple[bytes, bytes]]
    ) -> int:
        """Drop the content of the records with these tags, and keep the proof beside each; of how many."""
        ...

    async def remove_archive(self, user_id: str, archive: bytes | None, *, limit: int) -> int:
        """Remove at most ``limit`` records of one archive, or of all of a user's; how many."""
        ...

    def archive_records(
        self, user_id: str, archive: bytes, *, after: int, limit: int, now_ms: int
    ) -> list[ArchiveRecordRow]:
        """Those with ``number > after``, in order; without what has expired."""
        ...

    def archives(self, user_id: str) -> list[ArchiveRow]:
        """All of a user's."""
        ...
