"""What was read, kept in memory until it is written.

SQLite forgets what it read at every commit of another connection: on a busy server, each query reads its
pages anew. So what is asked all the time and changes rarely is kept here. It is never out of date: from when
a write of something is submitted until it is committed or has failed, that is read from the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Known(Generic[K, V]):
    """Values by key, at most ``most``; 0 keeps nothing, for files that another process writes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[K, V] = {}
        self._writing: Counter[K] = Counter()

    def get(self, key: K) -> V | None:
        """What was read, or None."""
        return self._values.get(key)

    def keep(self, key: K, value: V) -> None:
        """Keep what was read just now."""
        if not self._most or key in self._writing:
            return
        if len(self._values) >= self._most:
            self._values.clear()  # rarely; what is in use is soon back
        self._values[key] = value

    def begin(self, keys: Iterable[K]) -> None:
        """Writes of these are submitted."""
        for key in keys:
            self._writing[key] += 1
            self._values.pop(key, None)

    def end(self, keys: Iterable[K]) -> None:
        """They are done, or have failed."""
        for key in keys:
            self._writing[key] -= 1
            if not self._writing[key]:
                del self._writing[key]
