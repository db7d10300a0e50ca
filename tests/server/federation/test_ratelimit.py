"""Requests of one server are limited, and only those the draft lets us limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized.server.federation import ratelimit
from linearized.server.federation.ratelimit import BURST, PER_SECOND, RateLimit
from linearized.server.http import HttpError

from .schemas import check
from .support import UNSTABLE, Foreign, world


class Clock:
    now = 1_000_000

    def __call__(self) -> int:
        return self.now


def test_a_burst_is_taken_and_then_a_steady_flow() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    for _ in range(BURST):
        limit.take("b.example")
    with pytest.raises(HttpError) as caught:
        limit.take("b.example")
    assert caught.value.status == 429
    wait = caught.value.extra["retry_after_ms"]
    assert isinstance(wait, int)
    assert 1000 / PER_SECOND <= wait <= 1000 / PER_SECOND + 1
    clock.now += wait
    limit.take("b.example")
    with pytest.raises(HttpError):
        limit.take("b.example")
    limit.take("c.example")
    clock.now += 10**9
    for _ in range(BURST):
        limit.take("b.example")
    with pytest.raises(HttpError):
        limit.take("b.example")


def test_a_clock_set_back_takes_nothing_away() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    limit.take("b.example")
    clock.now -= 10**6
    for _ in range(BURST - 1):
        limit.take("b.example")


def test_memory_for_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "MAX_SERVERS", 2)
    limit = RateLimit(Clock())
    for name in ("b.example", "c.example", "d.example"):
        limit.take(name)
    assert len(limit._buckets) == 2


async def test_questions_are_limited_and_transactions_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "BURST", 1)
    monkeypatch.setattr(ratelimit, "PER_SECOND", 0.001)
    async with world(tmp_path) as w:
        assert (await w.foreign.ask("GET", f"{UNSTABLE}/event/$x")).status == 404
        limited = await w.foreign.ask("GET", f"{UNSTABLE}/event/$x")
        assert (limited.status, limited.errcode) == (429, "M_LIMIT_EXCEEDED")
        check("error", limited.body)
        assert (await Foreign("c.example", w.network).ask("GET", f"{UNSTABLE}/event/$x")).status == 404
        for number in range(3):
            assert (await w.foreign.send(str(number))).status == 200
