"""What a room's whole history costs its reader: fetched in segments, checked entry by entry, kept in SQLite.

    python -m benchmarks.bench_history [--events 1000,10000,100000,1000000]

For each size, as soon as it is measured, one line of JSON: seconds and CPU seconds of the client (the server
is a process of its own), events per second, microseconds of CPU per event, bytes that came, and the server's
CPU seconds for packing and sending. Then what it costs to check the same entries again from the store, and to
read them offline. Target: 100,000 events in less than 15 seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import trio

from benchmarks.history_server import PASSWORD, ROOM
from linearized.client import ProviderApi
from linearized.client.bulk import Keys, RoomHistory
from linearized.client.offline import HistoryStore
from linearized.garbage import collecting_rarely

PATIENCE = 1_800  # seconds for the server to make its room: a million entries take minutes


@dataclass(frozen=True)
class Result:
    events: int
    seconds: float
    cpu_s: float
    events_per_s: float
    cpu_us_per_event: float
    server_cpu_s: float
    bytes_received: int
    store_bytes: int
    again_s: float
    again_cpu_s: float
    read_s: float


class Counted(httpx.AsyncHTTPTransport):
    """Counts the bytes of answers."""

    received = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.received += int(response.headers.get("content-length", 0))
        return response


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def told(output: trio.abc.ReceiveStream) -> dict[str, float]:
    """The next object that the server prints; it prints one at a time."""
    line = b""
    while not line.endswith(b"}\n"):
        line += await output.receive_some()
    found: dict[str, float] = json.loads(line)
    return found


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    began, cpu = time.monotonic(), cpu_seconds()
    await work()
    return time.monotonic() - began, cpu_seconds() - cpu


async def measure(events: int, directory: Path) -> Result:
    command = [sys.executable, "-m", "benchmarks.history_server", str(directory / "server"), str(events)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.fail_after(PATIENCE):
        ready = await told(process.stdout)
    transport = Counted()
    async with httpx.AsyncClient(transport=transport, timeout=60) as http:
        api = ProviderApi(
            f"http://127.0.0.1:{ready['port']}",
            token=None,
            http=http,
            clock=lambda: time.time_ns() // 1_000_000,
            ids=secrets.token_urlsafe,
        )
        api = api.with_login(await api.login("alice", PASSWORD))
        with HistoryStore(directory / "history.sqlite") as store:
            history = RoomHistory(api, ROOM, store, keys=Keys(api))
            seconds, cpu = await timed(history.pull)
            received = transport.received
            assert history.report.entries == events
            again = RoomHistory(api, ROOM, store, keys=Keys(api))
            again_s, again_cpu = await timed(again.pull)
            began = time.monotonic()
            assert sum(1 for _ in store.pdus(ROOM)) == events
            read_s = time.monotonic() - began
    await process.stdin.aclose()
    done = await told(process.stdout)
    await process.wait()
    return Result(
        events=events,
        seconds=seconds,
        cpu_s=cpu,
        events_per_s=events / seconds,
        cpu_us_per_event=cpu / events * 1e6,
        server_cpu_s=done["cpu_s"] - ready["cpu_s"],
        bytes_received=received,
        store_bytes=(directory / "history.sqlite").stat().st_size,
        again_s=again_s,
        again_cpu_s=again_cpu,
        read_s=read_s,
    )


async def main(sizes: list[int]) -> None:
    for events in sizes:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "server").mkdir()
            result = asdict(await measure(events, Path(directory)))
        about = {"load": os.getloadavg(), "python": sys.version.split()[0]}
        print(json.dumps({**about, **result}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", default="1000,10000,100000")
    chosen = parser.parse_args()
    with collecting_rarely():  # as the command does
        trio.run(main, [int(size) for size in chosen.events.split(",")])
