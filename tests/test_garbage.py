"""How often Python looks for garbage, and that this ends with what it was for."""

from __future__ import annotations

import gc

from linearized.garbage import COLLECT_AFTER, collecting_rarely


def test_garbage_is_looked_for_rarely_for_as_long_as_it_was_asked_for() -> None:
    before = gc.get_threshold()
    with collecting_rarely():
        assert gc.get_threshold() == COLLECT_AFTER
        assert gc.get_freeze_count() > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
