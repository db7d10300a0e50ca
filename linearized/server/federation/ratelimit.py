"""How many requests one server may make (draft, Rate Limiting): a token bucket for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from linearized.server.http import HttpError

# A server catching up on a few hundred rooms at once stays below this; one in a loop does not.
PER_SECOND = 50
BURST = 500
# buckets remembered; only servers that authenticated have one, and a forgotten one is full
MAX_SERVERS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: int


class RateLimit:
    """Buckets by server; ``clock`` gives milliseconds since the Unix epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, server: str) -> None:
        """Count one request.

        Raises:
            HttpError: 429 ``M_LIMIT_EXCEEDED`` with the ``retry_after_ms`` after which one would be taken.
        """
        now = self._clock()
        bucket = self._buckets.setdefault(server, _Bucket(BURST, now))
        self._buckets.move_to_end(server)
        if len(self._buckets) > MAX_SERVERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + max(0, now - bucket.at) * PER_SECOND / 1000)
        bucket.at = now
        if bucket.tokens < 1:
            wait = int((1 - bucket.tokens) * 1000 / PER_SECOND) + 1
            raise HttpError(
                429, "M_LIMIT_EXCEEDED", "Too many requests. Try again later.", retry_after_ms=wait
            )
        bucket.tokens -= 1
