"""The bucket behind the login limit."""

from __future__ import annotations

import pytest

from linearized.server.clients.attempts import BURST, MAX_NAMES, REFILL_MS, Attempts
from linearized.server.http import HttpError
from tests.server.clients.support import Clock


def spend(attempts: Attempts, *names: str) -> int:
    """How many attempts go through before one is refused."""
    for count in range(BURST * 2):
        try:
            attempts.take(*names)
        except HttpError:
            return count
    raise AssertionError("never refused")


def test_a_burst_goes_through_and_then_one_for_each_refill() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert spend(attempts, "a") == BURST
    clock.now += REFILL_MS
    assert spend(attempts, "a") == 1
    clock.now += 3 * REFILL_MS
    assert spend(attempts, "a") == 3
    clock.now += 1000 * REFILL_MS
    assert spend(attempts, "a") == BURST


def test_waiting_as_long_as_the_error_says_is_long_enough() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    spend(attempts, "a")
    with pytest.raises(HttpError) as caught:
        attempts.take("a")
    assert caught.value.extra == {"retry_after_ms": REFILL_MS}
    clock.now += REFILL_MS
    attempts.take("a")


def test_a_refusal_for_one_name_costs_the_other_nothing() -> None:
    attempts = Attempts(Clock())
    spend(attempts, "a")
    with pytest.raises(HttpError):
        attempts.take("a", "b")
    assert spend(attempts, "b") == BURST


def test_names_are_forgotten_oldest_first_when_there_are_too_many() -> None:
    attempts = Attempts(Clock())
    spend(attempts, "a")
    for number in range(MAX_NAMES):
        attempts.take(f"name {number}")
    attempts.take("a")
