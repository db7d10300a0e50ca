"""How often requests go out to followers: what is appended while one waits for its turn goes with it.

A request costs a hundred times what an event in it does. So all workers together make no more than so many a
second, in turn. After a quiet time an event goes out at once; the more followers there are and the more
happens, the longer a worker waits, and the more it takes along: with one follower it waits some milliseconds,
with a hundred a quarter of a second, and then sends what has come since its last turn.

How many a second the machine can bear is learned. A worker that runs later than it could has met a loop that
was busy with other things; when that is so for most, turns become rarer, so that requests leave room for what
comes in.
"""

from __future__ import annotations

import math
from typing import Final

import trio

# Requests of all workers together, at most. One costs more than a millisecond of processor time here and as
# much at whom it is for; this many are a third of a processor's work. Ten followers of a busy room are then
# written to every thirty-three milliseconds. With a hundred more, what comes in has to wait for the loop.
REQUESTS_PER_SECOND: Final = 300
# And at least, however late everything is, for it need not be our doing: ten followers are still written to
# five times a second each, and a machine a tenth as fast has time left for what comes in.
FEWEST_PER_SECOND: Final = 50
# What a turn counts whose request was full. Waiting is to make requests fuller; a full one is the cheapest
# way there is to tell of its events, and whoever gets it is behind. Not nothing: what comes in needs time.
FULL: Final = 0.5
# And how many of these there may be at least, however late everything is. Fewer would not be fuller: it would
# only let followers fall behind, and a hundred of a room with a hundred events a second need two hundred.
FEWEST_FULL_PER_SECOND: Final = 250
# Requests that go at once after a quiet time: a message in a room of as many followers reaches all of them
# without waiting for any turn.
BURST: Final = 20
# Seconds a request waits at most. With more followers than have their turn in it, more requests are made than
# planned: who takes part in a conversation notices a second.
LONGEST_LINGER: Final = 1.0
# Seconds after which nothing is known any more about how busy the loop is.
QUIET: Final = 1.0
# Seconds of running late, on average, from which on turns become rarer. An event that comes in and goes out
# again passes through the loop some eight times, each time that much late: together they stay below the time
# in which ten followers have their turns. A loop that is busy for four fifths of the time is this late.
LATE: Final = 0.004
# What a turn counts in that average: it follows the load within a tenth of a second, and no single hiccup.
_WEIGHT: Final = 0.05
# What the time between turns is multiplied by at each. At full speed it doubles in a fifth of a second, and
# takes twice as long to come down again.
_SLOWER: Final = 1.01
_FASTER: Final = 0.995
# Seconds that are not worth a wait: sums of fractions are not exact.
_MOMENT: Final = 1e-6


class Pace:
    """Gives turns to the workers, in the order in which they ask."""

    def __init__(self) -> None:
        self._next = -math.inf  # when the next turn is, by trio's clock; if that is past, some are to spare
        self._spacing = 1 / REQUESTS_PER_SECOND  # seconds between turns
        self._late = 0.0  # seconds that workers ran late, on average
        self._seen = -math.inf  # when somebody last got a turn

    @property
    def per_second(self) -> float:
        """Turns a second, as things are."""
        return 1 / self._spacing

    async def turn(self) -> None:
        """Wait for a turn."""
        now = trio.current_time()
        if now - self._seen > QUIET:
            self._spacing, self._late = 1 / REQUESTS_PER_SECOND, 0.0
        turn = min(max(self._next, now - (BURST - 1) * self._spacing), now + LONGEST_LINGER)
        self._next = turn + self._spacing
        if turn > now + _MOMENT:
            await trio.sleep_until(turn)
        else:
            await trio.lowlevel.checkpoint()  # lets everybody run who can
        self._seen = trio.current_time()
        self._learn(self._seen - max(turn, now))

    def give_back(self) -> None:
        """There was nothing to send in a turn."""
        self._next -= self._spacing

    def was_full(self) -> None:
        """What was sent in a turn was as much as a request holds, which no wait makes more of."""
        self._next -= self._spacing - min(self._spacing * FULL, 1 / FEWEST_FULL_PER_SECOND)

    def _learn(self, late: float) -> None:
        self._late += (late - self._late) * _WEIGHT
        spacing = self._spacing * (_SLOWER if self._late > LATE else _FASTER)
        self._spacing = min(max(spacing, 1 / REQUESTS_PER_SECOND), 1 / FEWEST_PER_SECOND)
