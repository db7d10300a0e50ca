"""What the handlers share."""

from __future__ import annotations

import pytest
import trio

from linearized.server.clients import context as context_module
from linearized.server.clients.context import InFlight, context_of
from tests.server.clients.support import Server


async def test_two_listeners_of_a_server_share_one_context(server: Server) -> None:
    first = context_of(server.node)
    assert context_of(server.node) is first


async def test_fallbacks_are_forgotten_oldest_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "MAX_FALLBACKS", 1)
    context = context_of(server.node)
    context.remember_fallback("@a:a.example", "D", 1)
    context.remember_fallback("@b:a.example", "D", 2)
    assert dict(context.fallbacks) == {("@b:a.example", "D"): 2}


async def test_requests_of_one_name_take_turns_and_others_do_not_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    in_flight, order = InFlight(), list[str]()

    async def run(name: str, label: str, seconds: float) -> None:
        async with in_flight.alone(name):
            order.append(f"{label} starts")
            await trio.sleep(seconds)
            order.append(f"{label} ends")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "x", "first", 5)
        await trio.sleep(1)
        nursery.start_soon(run, "x", "second", 1)
        nursery.start_soon(run, "y", "other", 1)
    assert order == [
        "first starts",
        "other starts",
        "other ends",
        "first ends",
        "second starts",
        "second ends",
    ]


async def test_a_request_that_fails_does_not_block_the_next() -> None:
    in_flight = InFlight()
    with pytest.raises(ValueError, match="broken"):
        async with in_flight.alone("x"):
            raise ValueError("broken")
    async with in_flight.alone("x"):
        pass
