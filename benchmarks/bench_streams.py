"""What idle clients cost a server, and how soon a message reaches all of them.

    python -m benchmarks.bench_streams [--streams 2000] [--messages 20]

So many event streams (``live``) of one room are opened over loopback, a connection each, by accounts with
fifty each. Then the server's resident memory and its CPU seconds for a quiet while, and for each of some
messages the time from sending it to its arrival at the last stream, in milliseconds. Targets: 2,000 clients
in less than 250 MB, and all reached in less than a second. The server is a process of its own and shares the
two cores with the client.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trio

from benchmarks.bench_history import told
from benchmarks.history_server import PASSWORD, ROOM
from benchmarks.stream_server import user
from linearized.client import ProviderApi

STREAMS_EACH = 50
QUIET_SECONDS = 10
PATIENCE = 120  # seconds for anything that is to happen at all
OPENING = 100  # connections opened at a time
LIVE = f"/_matrix/client/unstable/dev.linearized.1/rooms/{quote(ROOM, safe='')}/live"


class Streams:
    """Counts what has arrived; ``all_have`` waits until every stream has another message."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._have = 0
        self._complete = trio.Event()
        self._opened = 0
        self.all_open = trio.Event()

    async def read(self, port: int, token: str, slots: trio.CapacityLimiter) -> None:
        async with slots:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            head = f"GET {LIVE} HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {token}\r\n\r\n"
            await stream.send_all(head.encode())
            seen = b""
            while b"retry:" not in seen:
                chunk = await stream.receive_some()
                assert chunk, seen
                seen += chunk
            assert seen.startswith(b"HTTP/1.1 200"), seen
            self._opened += 1
            if self._opened == self._count:
                self.all_open.set()
        async with stream:
            while True:
                chunk = await stream.receive_some()
                assert chunk, "the server ended a stream"
                self._have += chunk.count(b"\nid:") + chunk.startswith(b"id:")
                if self._have == self._count:
                    self._complete.set()

    async def all_have(self) -> None:
        await self._complete.wait()
        self._have, self._complete = 0, trio.Event()


async def ask(process: trio.Process) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.send_all(b"\n")
    return await told(process.stdout)


async def log_in(port: float, http: httpx.AsyncClient, name: str) -> tuple[ProviderApi, str]:
    """Somebody's API, and the token that it uses."""
    api = ProviderApi(
        f"http://127.0.0.1:{port}",
        token=None,
        http=http,
        clock=lambda: time.time_ns() // 1_000_000,
        ids=secrets.token_urlsafe,
    )
    login = await api.login(name, PASSWORD)
    return api.with_login(login), login.access_token


async def measure(process: trio.Process, count: int, messages: int) -> dict[str, Any]:
    assert process.stdout is not None
    empty = await told(process.stdout)
    port = int(empty["port"])
    streams, slots = Streams(count), trio.CapacityLimiter(OPENING)
    async with httpx.AsyncClient(timeout=PATIENCE) as http, trio.open_nursery() as nursery:
        accounts = [
            await log_in(port, http, user(n)[1:].partition(":")[0]) for n in range(count // STREAMS_EACH)
        ]
        logged_in = await ask(process)
        began = time.monotonic()
        for _, token in accounts:
            for _ in range(STREAMS_EACH):
                nursery.start_soon(streams.read, port, token, slots)
        await streams.all_open.wait()
        opening_s = time.monotonic() - began
        opened = await ask(process)
        await trio.sleep(QUIET_SECONDS)
        quiet = await ask(process)
        reached = []
        for number in range(messages):
            began = time.monotonic()
            content = {"msgtype": "m.text", "body": f"message {number} to everybody"}
            await accounts[0][0].send_event(ROOM, "m.room.message", content, txn_id=f"m{number}")
            await streams.all_have()
            reached.append((time.monotonic() - began) * 1000)
        busy = await ask(process)
        nursery.cancel_scope.cancel()
    return {
        "streams": count,
        "opening_s": opening_s,
        "rss_mb": {
            name: round(at["rss"] / 1e6, 1)
            for name, at in (
                ("before", empty),
                ("logged_in", logged_in),
                ("idle", quiet),
                ("after_messages", busy),
            )
        },
        "bytes_per_stream": (quiet["rss"] - logged_in["rss"]) / count,
        "quiet_cpu_s_per_minute": (quiet["cpu_s"] - opened["cpu_s"]) / QUIET_SECONDS * 60,
        "reached_ms": {"median": statistics.median(reached), "max": max(reached)},
        "cpu_us_per_stream_and_message": (busy["cpu_s"] - quiet["cpu_s"]) / messages / count * 1e6,
    }


async def main(count: int, messages: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "server"
        place.mkdir()
        command = [sys.executable, "-m", "benchmarks.stream_server", str(place)]
        process = await trio.lowlevel.open_process(
            [*command, str(count // STREAMS_EACH), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with trio.fail_after(PATIENCE + QUIET_SECONDS):
            result = await measure(process, count, messages)
        assert process.stdin is not None
        await process.stdin.aclose()
        await process.wait()
    print(json.dumps({"load": os.getloadavg(), "python": sys.version.split()[0], **result}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=20)
    chosen = parser.parse_args()
    trio.run(main, chosen.streams, chosen.messages)
