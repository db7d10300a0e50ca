"""How long a delivery that failed waits before it is tried again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import trio

# First and longest pause after a failed delivery, seconds; doubled in between, with jitter so that many hubs
# do not come back to a recovering provider at the same moment.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
# The longest pause a provider can ask for, seconds: a mistake of its must not silence us for good.
LONGEST_ASKED_PAUSE: Final = 3600.0


@dataclass(slots=True)
class Pause:
    """Waits after failures, each about twice as long as the one before."""

    until: float = -math.inf  # trio's clock
    length: float = FIRST_PAUSE

    def begin(self, jitter: float) -> float:
        """Start the next wait, half to one and a half times as long as it is called; its seconds."""
        seconds = self.length * (0.5 + jitter)
        self.until = trio.current_time() + seconds
        self.length = min(self.length * 2, LONGEST_PAUSE)
        return seconds

    @property
    def over(self) -> bool:
        """Whether it is time to try again."""
        return self.until <= trio.current_time()
