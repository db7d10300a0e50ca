"""How far users have read their rooms (Client-Server API, Receipts), as the store keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

READ: Final = "m.read"
READ_PRIVATE: Final = "m.read.private"
UNTHREADED: Final = ""
"""In the place of a thread's ID: a receipt for the whole room."""
MAIN: Final = "main"
"""The same for what is in no thread: "the main timeline, not any thread"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """The latest entry a user has read, of one kind and in one thread.

    Attributes:
        kind: ``READ`` or ``READ_PRIVATE``.
        thread_id: the event that the thread starts with, ``main``, or ``UNTHREADED``.
        seq: of the entry ``event_id``.
        ts: when it was read, in milliseconds since the Unix epoch.
        position: among all receipts, rises with each change; given by the store.
    """

    room_id: str
    user_id: str
    kind: str
    thread_id: str
    event_id: str
    seq: int
    ts: int
    position: int = 0


class ReceiptStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_receipts(self, rows: Sequence[ReceiptRow], *, most_threads: int) -> bool:
        """Move receipts forward; one that would not advance stays. Of each user, room and kind the
        ``most_threads`` latest stay. True if any moved.

        Raises:
            StoreError: a room is unknown.
        """
        ...

    def receipts(self, user_id: str, *, after: int, limit: int) -> list[ReceiptRow]:
        """Those in the rooms a user is joined to with ``position > after``, in that order; private ones only
        if they are the user's own.
        """
        ...

    def receipts_in(self, room_id: str, user_id: str, *, until: int, limit: int) -> list[ReceiptRow]:
        """The latest of one room with ``position <= until``, newest first; whose as in ``receipts``."""
        ...

    def read_up_to(self, room_id: str, user_id: str) -> dict[str, int]:
        """The last entry that a user has read in each thread, by whichever kind of receipt."""
        ...
