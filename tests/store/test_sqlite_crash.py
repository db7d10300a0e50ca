"""Killed at any moment, or out of disk, the store keeps what it acknowledged.

``LINEARIZED_CRASH_ROUNDS`` asks for more rounds than the few that run by default.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import trio

from linearized.store.sqlite import SqliteStore
from tests.store.crash_writer import DISK_FULL, ROOMS
from tests.store.rows import entry

ROUNDS = int(os.environ.get("LINEARIZED_CRASH_ROUNDS", "3"))
# Lines to read before the kill, at most: a few commits up to a few hundred.
MOST_LINES = 600
PAGE = 1000
# Room for the empty database and a few hundred appends.
FULL_DISK_BYTES = 2_000_000
# Seconds for one round on a very slow machine.
PATIENCE = 60


async def writer(path: Path, *arguments: str, lines: int | None = None) -> tuple[int, dict[str, int]]:
    """Run a writer until it ends, or kill it after ``lines`` lines.

    Returns its status, and the last seq it acknowledged in each room.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.store.crash_writer", str(path), *arguments],
        stdout=-1,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    output = b""
    with trio.fail_after(PATIENCE):
        async for chunk in process.stdout:
            output += chunk
            if lines is not None and output.count(b"\n") >= lines:
                process.kill()
        status = await process.wait()
    acknowledged: dict[str, int] = {}
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):
            room_id, seq = line.split()
            acknowledged[room_id.decode()] = int(seq)
    return status, acknowledged


async def heads_of_whole_logs(path: Path) -> dict[str, int]:
    """The length of each room's log, after reading all of it."""
    store = SqliteStore.open(path)  # the dead process's lock is gone
    heads = {}
    for room_id in ROOMS:
        row = store.room(room_id)
        head = 0 if row is None else row.head_seq
        seq = 0
        while page := store.entries(room_id, after=seq, limit=PAGE):
            for found in page:
                seq += 1
                assert found == entry(seq, room_id=room_id)
        assert seq == head
        heads[room_id] = head
    assert store.changed_rooms(0) == {room_id: 1 for room_id, head in heads.items() if head}
    await store.aclose()
    return heads


async def test_every_acknowledged_entry_survives_kill_9_and_logs_have_no_gaps(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    chance = random.Random(20261123)  # noqa: S311 - picks moments, not secrets
    heads = dict.fromkeys(ROOMS, 0)
    for _ in range(ROUNDS):
        status, acknowledged = await writer(path, lines=chance.randint(1, MOST_LINES))
        assert status == -signal.SIGKILL, "it was killed and did not stop by itself"
        before, heads = heads, await heads_of_whole_logs(path)
        assert all(heads[room_id] >= seq for room_id, seq in (*before.items(), *acknowledged.items()))
    assert sum(heads.values()) > ROUNDS


async def test_a_full_disk_ends_in_an_error_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    status, acknowledged = await writer(path, str(FULL_DISK_BYTES))
    assert status == DISK_FULL
    assert acknowledged
    heads = await heads_of_whole_logs(path)
    assert all(heads[room_id] >= seq for room_id, seq in acknowledged.items())
    # With room again, it goes on.
    await writer(path, lines=1)
    assert sum((await heads_of_whole_logs(path)).values()) > sum(heads.values())
