"""What one event costs the hub: submissions through the actor into SQLite, counted and timed.

    python -m benchmarks.bench_hub [--events 2000] [--waiting 1,8,64]

For each number of submissions kept waiting at once: events per second, CPU microseconds per event,
transactions (each one fsync under ``synchronous=FULL``), signatures made, and bytes of log per event. The
last line is the floor: what the events alone cost to build and sign, without hub and store.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import openmls
import trio

from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.protocol.state import StateMap
from linearized.protocol.versions import get_version
from linearized.room.room import Room
from linearized.room.submissions import LocalEvent
from linearized.server.hub import Hub
from linearized.server.mls import OpenMls
from linearized.server.ordered_rooms import OrderedRooms
from linearized.store.sqlite import SqliteStore

ROOM = "!bench:a.example"
USER = "@alice:a.example"
VERSION = "dev.linearized.1"


@dataclass(frozen=True)
class Result:
    name: str
    events: int
    events_per_s: float
    cpu_us_per_event: float
    transactions_per_event: float
    signatures_per_event: float
    log_bytes_per_event: float


def clock() -> int:
    return time.time_ns() // 1_000_000


def message(number: int) -> LocalEvent:
    return LocalEvent(
        sender=USER, type="m.room.message", content={"msgtype": "m.text", "body": f"message {number}"}
    )


def beginning() -> list[LocalEvent]:
    return [
        LocalEvent(sender=USER, type="m.room.create", state_key="", content={"room_version": VERSION}),
        LocalEvent(sender=USER, type="m.room.member", state_key=USER, content={"membership": "join"}),
    ]


async def through_the_hub(identity: ServerIdentity, events: int, waiting: int) -> Result:
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore.open(Path(directory) / "bench.sqlite3")
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)

            def appended(room_id: str, state: StateMap) -> None:
                return

            rooms = OrderedRooms(
                identity=identity,
                store=store,
                mls=OpenMls(clock),
                signer=openmls.SignatureKeyPair.generate(),
                vouched=frozenset(),
                appended=appended,
            )
            hub = Hub(rooms, clock=clock, nursery=nursery)
            await hub.create(ROOM, VERSION, list(beginning()))
            commits, cpu, started = store.commits, time.process_time(), time.perf_counter()
            numbers = iter(range(events))

            async def submitter() -> None:
                for number in numbers:
                    await hub.submit(ROOM, message(number))

            async with trio.open_nursery() as submitters:
                for _ in range(waiting):
                    submitters.start_soon(submitter)
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
            rows = store.entries(ROOM, after=2, limit=events)
            assert len(rows) == events
            result = Result(
                name=f"hub, {waiting} waiting",
                events=events,
                events_per_s=events / wall,
                cpu_us_per_event=cpu / events * 1e6,
                transactions_per_event=(store.commits - commits) / events,
                signatures_per_event=sum(row.pdu.count(b'"ed25519:') for row in rows) / events,
                log_bytes_per_event=sum(len(row.pdu) for row in rows) / events,
            )
            await store.aclose()
            nursery.cancel_scope.cancel()
        return result


def room_alone(identity: ServerIdentity, events: int) -> Result:
    room = Room(room_id=ROOM, version=get_version(VERSION), identity=identity, mls=OpenMls(clock))
    for event in beginning():
        room.submit(event, now=clock())
    cpu, started, size = time.process_time(), time.perf_counter(), 0
    for number in range(events):
        size += len(room.submit(message(number), now=clock()).entries[0].event.raw)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Result(
        name="room alone (no store)",
        events=events,
        events_per_s=events / wall,
        cpu_us_per_event=cpu / events * 1e6,
        transactions_per_event=0,
        signatures_per_event=1,
        log_bytes_per_event=size / events,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--waiting", default="1,8,64")
    parser.add_argument("--json", type=Path, help="also write the raw results there")
    options = parser.parse_args()
    identity = ServerIdentity(name="a.example", key=SigningKey.generate("bench", secrets.token_bytes(32)))
    results = [
        trio.run(through_the_hub, identity, options.events, int(waiting))
        for waiting in options.waiting.split(",")
    ]
    results.append(room_alone(identity, options.events))
    print(f"{'':24}{'events/s':>10}{'CPU us':>9}{'fsyncs':>8}{'signatures':>12}{'bytes':>8}")
    for row in results:
        print(
            f"{row.name:24}{row.events_per_s:10.0f}{row.cpu_us_per_event:9.0f}{row.transactions_per_event:8.3f}"
            f"{row.signatures_per_event:12.1f}{row.log_bytes_per_event:8.0f}"
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        raw = {"cpus": os.cpu_count(), "results": [asdict(row) for row in results]}
        options.json.write_text(json.dumps(raw, indent=2))


if __name__ == "__main__":
    main()
