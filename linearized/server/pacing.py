"""How often requests go out to followers: what is appended while one waits for its turn goes with it.

A request costs a hundred times what an event in it does. So all workers together make no more than so many a
second, in turn. After a quiet time an event goes out at once; the more followers there are and the more
happens, the longer a worker waits, and the more it takes along: with one follower it waits some milliseconds,
with a hundred a third of a second, and then sends what has come since its last turn.
"""

from __future__ import annotations

import math
from typing import Final

import trio

# Requests of all workers together. One costs about a millisecond of processor time here and as much at whom
# it is for; with this many a third of one processor is spent on them, and the rest is there for what comes
# in. Ten followers of a busy room are then written to every thirty milliseconds.
REQUESTS_PER_SECOND: Final = 330
# Requests that go at once after a quiet time: a message in a room of as many followers reaches all of them
# without waiting for any turn.
BURST: Final = 20
# Seconds a request waits at most. With more followers than fit in it, more requests are made than planned:
# who takes part in a conversation notices a second.
LONGEST_LINGER: Final = 1.0

_SPACING: Final = 1 / REQUESTS_PER_SECOND


class Pace:
    """Gives turns to the workers, in the order in which they ask."""

    def __init__(self) -> None:
        self._next = -math.inf  # when the next turn is, by trio's clock; if that is past, some are to spare

    async def turn(self) -> None:
        """Wait for a turn."""
        now = trio.current_time()
        turn = min(max(self._next, now - (BURST - 1) * _SPACING), now + LONGEST_LINGER)
        self._next = turn + _SPACING
        if turn > now:
            await trio.sleep_until(turn)

    def give_back(self) -> None:
        """There was nothing to send in a turn."""
        self._next -= _SPACING
