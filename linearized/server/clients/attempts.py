"""Bounds how often logins may be tried: per address and per account, so neither one attacker nor many wear it
out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from linearized.server.http import HttpError

# A person mistypes a few times; a guesser is held to one guess every twelve seconds.
BURST: Final = 10
REFILL_MS: Final = 12_000
# Names remembered at once, about 200 bytes each. The least recently used is forgotten first; forgetting one
# costs us at most BURST more attempts for it.
MAX_NAMES: Final = 20_000


class Attempts:
    """A token bucket for each name."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, int] = OrderedDict()  # when each bucket will be full again

    def take(self, *names: str) -> None:
        """Spend one attempt of every name.

        Raises:
            HttpError: 429 ``M_LIMIT_EXCEEDED`` with ``retry_after_ms`` if one has none left; none is spent
                then.
        """
        now = self._clock()
        wait = max(self._ready_in(name, now) for name in names)
        if wait > 0:
            raise HttpError(429, "M_LIMIT_EXCEEDED", "Too many attempts", retry_after_ms=wait)
        for name in names:
            self._full_at[name] = max(self._full_at.get(name, now), now) + REFILL_MS
            self._full_at.move_to_end(name)
        while len(self._full_at) > MAX_NAMES:
            self._full_at.popitem(last=False)

    def _ready_in(self, name: str, now: int) -> int:
        return self._full_at.get(name, now) - now - (BURST - 1) * REFILL_MS
