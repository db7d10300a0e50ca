"""How an import comes along, in the log of a bridge that runs: at each step's beginning, and now and then."""

from __future__ import annotations

from collections.abc import Callable

import structlog

# Milliseconds between two lines of one step: a large room takes minutes, and a hundred may be under way.
INTERVAL_MS = 30_000
READING = "reading"

log = structlog.get_logger(__name__)


class ImportLog:
    """An ``importer.Progress``. ``clock`` gives milliseconds."""

    def __init__(self, matrix_room_id: str, clock: Callable[[], int]) -> None:
        self._room_id = matrix_room_id
        self._clock = clock
        self._step: str | None = None
        # When the step began and how much was done by then; when its last line was.
        self._begun, self._before, self._said = 0, 0, 0

    def __call__(self, step: str, done: int, total: int) -> None:
        """So much of a step is done."""
        now = self._clock()
        if step != self._step:
            self._step, self._begun, self._before, self._said = step, now, done, now
            log.info("importing", room_id=self._room_id, step=step, done=done, total=_total(step, total))
        elif now - self._said >= INTERVAL_MS:
            self._said = now
            log.info(
                "importing",
                room_id=self._room_id,
                step=step,
                done=done,
                total=_total(step, total),
                seconds_left=self._left(now, done, total) if step != READING else None,
            )

    def _left(self, now: int, done: int, total: int) -> int | None:
        """The seconds that the step will still take at its pace until now."""
        made = done - self._before
        return None if made <= 0 else round((total - done) * (now - self._begun) / made / 1000)


def _total(step: str, total: int) -> int | None:
    """How much there is to read, nobody knows before it is read."""
    return None if step == READING else total
