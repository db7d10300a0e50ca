"""What the SQLite store costs: appends at several group sizes, range reads, and counts.

``python -m benchmarks.bench_store --help``. Each group size runs on a new database: as many tasks as the
group is large append to rooms of their own, each waiting for its append to be durable before the next. The
same bytes then go through a bare ``BEGIN; INSERT ...; COMMIT`` of the same group size into a table with one
key: the ratio of the two, taken in one run, is what the store adds.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from linearized.store import sqlite_writer
from linearized.store.base import EntryRow, Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore

GROUP_SIZES = (1, 8, 64, 512)
PAGE = 100
# Appends of the run that counts statements; it is traced, so it is not timed.
COUNTED_APPENDS = 64


class Meter:
    """Wall and CPU time (all threads) of what runs between ``start`` and ``stop``."""

    def __enter__(self) -> Meter:
        self._wall, self._cpu = time.perf_counter(), _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu

    def per(self, count: int) -> dict[str, float]:
        return {
            "per_second": round(count / self.wall),
            "wall_us": round(self.wall / count * 1e6, 2),
            "cpu_us": round(self.cpu / count * 1e6, 2),
        }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def room_id(number: int) -> str:
    return f"!room{number}:a.example"


def entry(room: str, seq: int, size: int) -> EntryRow:
    # Random IDs, as hashes are: the order in which they arrive is what their index has to bear.
    event_id = "$" + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    return EntryRow(
        room_id=room,
        seq=seq,
        event_id=event_id,
        type="m.room.encrypted",
        state_key=None,
        sender="@alice:a.example",
        origin_server_ts=1_700_000_000_000 + seq,
        epoch=3,
        pdu=os.urandom(size // 2).hex().encode(),
    )


def appends(number: int, first: int, count: int, size: int) -> list[RoomAppend]:
    room = room_id(number)
    return [
        RoomAppend(room_id=room, entries=(entry(room, seq, size),)) for seq in range(first, first + count)
    ]


async def create_rooms(store: SqliteStore, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            row = RoomRow(
                room_id=room_id(number),
                version="dev.linearized.1",
                role=Role.HUB,
                hub="a.example",
                head_seq=0,
                epoch=None,
            )
            nursery.start_soon(store.append, RoomAppend(room_id=row.room_id, room=row))


async def measure_appends(path: Path, group: int, options: argparse.Namespace) -> dict[str, Any]:
    store = SqliteStore.open(path, synchronous=options.synchronous)
    per_task = max(options.events // group, 1)
    latencies: list[float] = []

    async def submit(work: list[RoomAppend]) -> None:
        for append in work:
            began = time.perf_counter()
            await store.append(append)
            latencies.append(time.perf_counter() - began)

    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await create_rooms(store, group)
        filled = await prefill(store, group, options)
        prepared = [appends(number, filled + 1, per_task, options.bytes) for number in range(group)]
        commits, writes = store.commits, store.writes
        with Meter() as meter:
            async with trio.open_nursery() as submitters:
                for work in prepared:
                    submitters.start_soon(submit, work)
        commits, writes = store.commits - commits, store.writes - writes
        reads = measure_reads(store, filled + per_task, prepared)
        log_bytes = file_size(path.with_name(path.name + "-wal"))
        await store.aclose()
    latencies.sort()
    count = per_task * group
    return {
        "group": group,
        "appends": count,
        **meter.per(count),
        "commits": commits,
        "mean_group": round(writes / commits, 1),
        "latency_ms": {
            "p50": round(statistics.median(latencies) * 1e3, 2),
            "p99": round(latencies[int(len(latencies) * 0.99)] * 1e3, 2),
            "max": round(latencies[-1] * 1e3, 2),
        },
        "file_bytes_per_event": round(file_size(path) / ((filled + per_task) * group)),
        "log_mib": round(log_bytes / 2**20, 1),
        "reads": reads,
    }


async def prefill(store: SqliteStore, rooms: int, options: argparse.Namespace) -> int:
    """Entries put into each room beforehand, many at a time."""
    per_room: int = options.prefill // rooms
    for number in range(rooms):
        room = room_id(number)
        for first in range(1, per_room + 1, 500):
            last = min(first + 499, per_room)
            entries = tuple(entry(room, seq, options.bytes) for seq in range(first, last + 1))
            await store.append(RoomAppend(room_id=room, entries=entries))
    return per_room


def measure_reads(store: SqliteStore, head: int, written: list[list[RoomAppend]]) -> dict[str, Any]:
    rooms = [work[0].room_id for work in written]
    read = 0
    with Meter() as pages:
        for room in rooms:
            after = 0
            while page := store.entries(room, after=after, limit=PAGE):
                after = page[-1].seq
                read += len(page)
    assert read == head * len(rooms)
    ids = [append.entries[0].event_id for work in written for append in work][:5000]
    with Meter() as points:
        for event_id in ids:
            assert store.entry_by_id(event_id) is not None
    return {"page_of": min(PAGE, head), "range": pages.per(read), "by_id": points.per(len(ids))}


def measure_bare(path: Path, group: int, options: argparse.Namespace) -> dict[str, Any]:
    """The floor: the same payloads, grouped alike, into one table, in one thread."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {options.synchronous}")
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, pdu BLOB NOT NULL)")
    count = max(options.events // group, 1) * group
    payloads = [os.urandom(options.bytes // 2).hex().encode() for _ in range(count)]
    with Meter() as meter:
        for start in range(0, count, group):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(start, start + group):
                connection.execute("INSERT INTO entries VALUES (?, ?)", (number, payloads[number]))
            connection.execute("COMMIT")
    connection.close()
    return meter.per(count)


async def count_statements(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    counter: Counter[str] = Counter()
    store = SqliteStore.open(path, synchronous="OFF")
    # A benchmark may look inside: the writing connection, before the writer starts to use it.
    connection = store._writes()._connection
    connection.set_trace_callback(lambda statement: counter.update([statement.split(maxsplit=1)[0]]))
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await create_rooms(store, COUNTED_APPENDS)
        counter.clear()
        async with trio.open_nursery() as submitters:
            for number in range(COUNTED_APPENDS):
                (append,) = appends(number, 1, 1, options.bytes)
                submitters.start_soon(store.append, append)
        await store.aclose()
    return {
        "appends": COUNTED_APPENDS,
        "statements_per_append": round(counter.total() / COUNTED_APPENDS, 2),
        "by_kind": dict(counter),
    }


async def run(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    if options.checkpoint == "commit":
        sqlite_writer.CHECKPOINT_AFTER_WRITES = sys.maxsize
    results = []
    for group in options.groups:
        ours = await measure_appends(directory / f"{group}.sqlite3", group, options)
        bare = measure_bare(directory / f"bare-{group}.sqlite3", group, options)
        ours["bare"] = bare
        ours["cpu_ratio_to_bare"] = round(ours["cpu_us"] / bare["cpu_us"], 2)
        ours["wall_ratio_to_bare"] = round(ours["wall_us"] / bare["wall_us"], 2)
        results.append(ours)
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": os.getloadavg()[0],
        "options": {key: str(value) for key, value in vars(options).items()},
        "counts": await count_statements(directory / "counts.sqlite3", options),
        "groups": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUP_SIZES, help="concurrent submitters")
    parser.add_argument("--events", type=int, default=20_000, help="appends per group size")
    parser.add_argument("--bytes", type=int, default=1000, help="size of an event")
    parser.add_argument("--prefill", type=int, default=0, help="events in the database beforehand")
    parser.add_argument("--synchronous", default="FULL", help="SQLite's setting")
    parser.add_argument("--checkpoint", choices=("background", "commit"), default="background")
    parser.add_argument("--directory", type=Path, default=None, help="where the databases go (same disk!)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        json.dump(trio.run(run, Path(directory), options), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
