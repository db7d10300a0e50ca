"""What ends the demonstration ends all of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio
import trio.testing
from rich.console import Console

from linearized.demo import main


async def test_a_second_signal_does_not_cut_the_ending_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def run(directory: Path, once: bool, console: Console) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for again in (signal.SIGINT, signal.SIGTERM):
                    os.kill(os.getpid(), again)
                    await trio.testing.wait_all_tasks_blocked(0.01)
            ended.append(directory.name)

    monkeypatch.setattr(main, "_run", run)
    assert await main._demo(tmp_path, once=False, console=Console()) == main.EXIT_INTERRUPTED
    assert ended == [tmp_path.name]
