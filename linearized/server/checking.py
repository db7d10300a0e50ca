"""Checking the signatures of many LPDUs: the one work that more than one processor can share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from linearized.exceptions import HashMismatch, SignatureError
from linearized.protocol.verify import ClaimedLpdu, VerifiedLpdu, verify_lpdus

# LPDUs from which on threads are worth it: handing work to one costs as much as four signatures.
WORTH_THREADS: Final = 16
# One for each processor of a small machine. The signatures of a full transaction are checked in a millisecond
# then, while the loop goes on with other requests.
THREADS: Final = 2


class Checker:
    """Checks signatures, in threads if there are many.

    Args:
        in_threads: False for tests under a mock clock, which does not see that a thread is at work.
    """

    def __init__(self, *, in_threads: bool) -> None:
        self._in_threads = in_threads

    async def verify(
        self, claimed: Sequence[ClaimedLpdu]
    ) -> list[VerifiedLpdu | SignatureError | HashMismatch]:
        """As ``verify_lpdus``."""
        if not self._in_threads or len(claimed) < WORTH_THREADS:
            return verify_lpdus(claimed)
        share = -(-len(claimed) // THREADS)
        shares = [claimed[start : start + share] for start in range(0, len(claimed), share)]
        outcomes: dict[int, list[VerifiedLpdu | SignatureError | HashMismatch]] = {}

        async def check(number: int) -> None:
            outcomes[number] = await trio.to_thread.run_sync(verify_lpdus, shares[number])

        async with trio.open_nursery() as nursery:
            for number in range(len(shares)):
                nursery.start_soon(check, number)
        return [outcome for number in range(len(shares)) for outcome in outcomes[number]]
