"""How often Python looks for objects that keep each other alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Objects made and not freed between looks of the garbage collector for cycles, and looks at the young between
# looks at the old and at all. Events, rows and requests have no cycles; with Python's 700, 10 and 10 a busy
# server, or a client that checks a long log, spends a twelfth of its time looking.
COLLECT_AFTER: Final = (20_000, 20, 50)


def collect_rarely() -> None:
    """For a process that does one thing until it ends. What there is by now, modules and settings, stays and
    is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """The same for as long as it lasts."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
