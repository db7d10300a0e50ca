"""How much of files is in memory for clients at once: an answer is held until it was written, and clients may
read slowly.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

# Five files of the largest size that is usual, of whatever clients.
TOTAL_BYTES: Final = 256 * 1024 * 1024
# Of one account: two of them, so that nobody who reads slowly keeps the others out.
ACCOUNT_BYTES: Final = 100 * 1024 * 1024
# How long a request waits for its turn; clients ask again when it is shown again.
WAIT_SECONDS: Final = 30.0


class Hold:
    """A part of it. It has to be given back."""

    def __init__(self, files: HeldFiles, user_id: str, size: int) -> None:
        self._files = files
        self._user_id = user_id
        self._size = 0
        self.resize(size)

    def resize(self, size: int) -> None:
        """Say how much it is after all."""
        self._files.add(self._user_id, size - self._size)
        self._size = size

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        self.resize(0)


class HeldFiles:
    """Counts bytes, of all and by account."""

    def __init__(self) -> None:
        self._all = 0
        self._by_account: Counter[str] = Counter()
        self._changed = trio.Event()

    def add(self, user_id: str, size: int) -> None:
        """Count bytes, or, if negative, count them no more."""
        self._all += size
        self._by_account[user_id] += size
        if not self._by_account[user_id]:
            del self._by_account[user_id]
        if size < 0:
            self._changed.set()
            self._changed = trio.Event()

    async def hold(self, user_id: str, size: int) -> Hold:
        """Wait until there is room for a file. One that is larger than all of it comes alone.

        Raises:
            trio.TooSlowError: there was none in time.
        """
        with trio.fail_after(WAIT_SECONDS):
            while not self._fits(user_id, size):
                await self._changed.wait()
        return Hold(self, user_id, size)

    def _fits(self, user_id: str, size: int) -> bool:
        own = self._by_account[user_id]
        return (not self._all or self._all + size <= TOTAL_BYTES) and (not own or own + size <= ACCOUNT_BYTES)
