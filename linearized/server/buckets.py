"""Token buckets: how often a name may do something. Every rate limit of the server is one of these.

"Rate limiting can be done by client IP, but also on group IDs" (MIMI interim meeting, May 2023): here by
client address, by account, by provider, and by provider and room.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from linearized.config import LimitsConfig
from linearized.server.http import HttpError, Request

# Names remembered at once, about 200 bytes each. The least recently used is forgotten first; forgetting one
# costs at most a burst more for it.
MAX_NAMES: Final = 20_000
# Seconds' worth that may come at once: clients and servers that were away have that much to catch up on.
BURST_SECONDS: Final = 10


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: int


class Buckets:
    """A bucket for each name.

    Args:
        clock: milliseconds since the Unix epoch.
        per_second: how many tokens come back.
        burst: how many a full bucket holds; a new name has a full one.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        per_second: float,
        burst: int,
        max_names: int = MAX_NAMES,
    ) -> None:
        self._clock = clock
        self._per_ms = per_second / 1000
        self._burst = burst
        self._max_names = max_names
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, *names: str) -> None:
        """Spend one token of every name.

        Raises:
            HttpError: 429 ``M_LIMIT_EXCEEDED`` with the ``retry_after_ms`` after which all would have one;
                none is spent then.
        """
        now = self._clock()
        buckets = [self._filled(name, now) for name in dict.fromkeys(names)]
        missing = max((1 - bucket.tokens for bucket in buckets), default=0.0)
        if missing > 0:
            wait = math.ceil(missing / self._per_ms)
            raise HttpError(
                429, "M_LIMIT_EXCEEDED", "Too many requests. Try again later.", retry_after_ms=wait
            )
        for bucket in buckets:
            bucket.tokens -= 1

    def _filled(self, name: str, now: int) -> _Bucket:
        bucket = self._buckets.setdefault(name, _Bucket(self._burst, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._max_names:
            self._buckets.popitem(last=False)
        # A clock that was set back gives nothing and takes nothing.
        bucket.tokens = min(self._burst, bucket.tokens + max(0, now - bucket.at) * self._per_ms)
        bucket.at = now
        return bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The limits of the settings: requests without a token by address, those of an account, questions of a
    provider, and what a provider sends to one room.
    """

    address: Buckets
    account: Buckets
    provider: Buckets
    group: Buckets

    @classmethod
    def of(cls, limits: LimitsConfig, clock: Callable[[], int]) -> RateLimits:
        """As the settings say."""

        def buckets(rate: int) -> Buckets:
            return Buckets(clock, per_second=rate, burst=rate * BURST_SECONDS)

        return cls(
            address=buckets(limits.address_rate),
            account=buckets(limits.account_rate),
            provider=buckets(limits.provider_rate),
            group=buckets(limits.group_rate),
        )


def address_names(request: Request) -> tuple[str, ...]:
    """What a request without a token is limited by: its address, or nothing if that is this machine.

    A proxy beside us has one address for everybody behind it: held to it, anybody could keep everybody out.
    """
    address = request.client_address
    return () if is_loopback(address) else (f"address {address}",)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # no address at all, as over a Unix socket
        return False
