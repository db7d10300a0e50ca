"""Killed at any moment, the store keeps what it acknowledged.

``LINEARIZED_CRASH_ROUNDS`` asks for more rounds than the few that run by default.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio

from linearized.store.sqlite import SqliteStore
from tests.store.crash_writer import ROOMS
from tests.store.rows import entry

ROUNDS = int(os.environ.get("LINEARIZED_CRASH_ROUNDS", "3"))
# Lines to read before the kill, at most: a few commits up to a few hundred.
MOST_LINES = 600
PAGE = 1000
# Seconds for one round on a very slow machine.
PATIENCE = 60


async def killed_writer(path: Path, lines: int) -> dict[str, int]:
    """Run a writer and kill it after ``lines`` lines; the last seq it acknowledged in each room."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.store.crash_writer", str(path)],
        stdout=-1,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    output = b""
    with trio.fail_after(PATIENCE):
        async for chunk in process.stdout:
            output += chunk
            if output.count(b"\n") >= lines:
                process.kill()
        await process.wait()
    assert process.returncode == -9, "it was killed and did not stop by itself"
    acknowledged: dict[str, int] = {}
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):
            room_id, seq = line.split()
            acknowledged[room_id.decode()] = int(seq)
    return acknowledged


async def test_every_acknowledged_entry_survives_kill_9_and_logs_have_no_gaps(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    chance = random.Random(20261123)  # noqa: S311 - picks moments, not secrets
    heads = dict.fromkeys(ROOMS, 0)
    for _ in range(ROUNDS):
        acknowledged = await killed_writer(path, chance.randint(1, MOST_LINES))
        store = SqliteStore.open(path)  # the dead process's lock is gone
        for room_id in ROOMS:
            row = store.room(room_id)
            head = 0 if row is None else row.head_seq
            assert head >= max(acknowledged.get(room_id, 0), heads[room_id])
            seq = 0
            while page := store.entries(room_id, after=seq, limit=PAGE):
                for found in page:
                    seq += 1
                    assert found == entry(seq, room_id=room_id)
            assert seq == head
            heads[room_id] = head
        assert {room_id for room_id, first in store.changed_rooms(0).items() if first == 1} == {
            room_id for room_id, head in heads.items() if head
        }
        await store.aclose()
    assert sum(heads.values()) > ROUNDS
