"""A process that appends as fast as it can and prints what was acknowledged, until it is killed.

``python -m tests.store.crash_writer <database> [<bytes>]``: several tasks, each with its own room, continue
their logs. With ``bytes``, no file may grow beyond that, like on a full disk; a StoreError ends the process
with status 3.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import trio

from linearized.exceptions import StoreError
from linearized.store.sqlite import SqliteStore
from tests.store.rows import message, new_room

DISK_FULL = 3
ROOMS = [f"!{n}:a.example" for n in range(6)]


async def append_for_ever(store: SqliteStore, room_id: str) -> None:
    row = store.room(room_id)
    if row is None:
        await store.append(new_room(room_id=room_id))
    seq = 1 if row is None else row.head_seq + 1
    while True:
        await store.append(message(seq, room_id))
        # One write call per line: a line is printed whole or not at all, and only after the store said so.
        sys.stdout.write(f"{room_id} {seq}\n")
        sys.stdout.flush()
        seq += 1


async def main(path: Path) -> None:
    store = SqliteStore.open(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for room_id in ROOMS:
            nursery.start_soon(append_for_ever, store, room_id)


if __name__ == "__main__":
    if sys.argv[2:]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    try:
        trio.run(main, Path(sys.argv[1]))
    except* StoreError:
        sys.exit(DISK_FULL)
