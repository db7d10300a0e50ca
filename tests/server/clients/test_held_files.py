"""Files held in memory for clients, within bounds."""

from __future__ import annotations

import pytest
import trio

from linearized.server.clients import held_files
from linearized.server.clients.held_files import WAIT_SECONDS, HeldFiles


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_files, "TOTAL_BYTES", 300)
    monkeypatch.setattr(held_files, "ACCOUNT_BYTES", 200)


async def test_who_reads_slowly_waits_for_themselves_and_nobody_else_does(
    autojump_clock: trio.testing.MockClock,
) -> None:
    files, held = HeldFiles(), [("alice", 0.0), ("alice", 0.0), ("bob", 1.0), ("alice", 10.0)]
    got: list[tuple[str, float]] = []

    async def read(name: str) -> None:
        hold = await files.hold(name, 100)
        got.append((name, trio.current_time() - start))
        await trio.sleep(10)
        hold.release()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in ("alice", "alice", "alice"):
            nursery.start_soon(read, name)
        await trio.sleep(1)
        nursery.start_soon(read, "bob")
    assert got == held


async def test_all_accounts_together_wait_for_room(autojump_clock: trio.testing.MockClock) -> None:
    files = HeldFiles()
    first = [await files.hold(name, 150) for name in ("alice", "bob")]
    with pytest.raises(trio.TooSlowError):
        await files.hold("carol", 1)
    assert trio.current_time() == pytest.approx(WAIT_SECONDS)
    first[0].resize(149)
    await files.hold("carol", 1)


async def test_a_file_larger_than_all_of_it_comes_alone(autojump_clock: trio.testing.MockClock) -> None:
    files = HeldFiles()
    large = await files.hold("alice", 1_000)
    with pytest.raises(trio.TooSlowError):
        await files.hold("bob", 1)
    large.release()
    large.release()
    small = await files.hold("bob", 1)
    with pytest.raises(trio.TooSlowError):
        await files.hold("alice", 1_000)
    small.release()
    await files.hold("alice", 1_000)
