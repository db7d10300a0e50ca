"""What a Matrix client waits for: our server and a real Synapse, the same driver and requests, in one run.

    LINEARIZED_SYNAPSE_PYTHON=… python -m benchmarks.bench_clients [--quick]

One room is filled by 32 clients at once, which is the measurement of sending; then it is synced, paged back
and looked into. Both servers are processes of their own with SQLite, one after the other; the driver speaks
HTTP/1.1 with hardly more than h11. A large room is made on our server only: a homeserver takes no history but
by sending it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trio

from benchmarks.history_server import PASSWORD, ROOM
from benchmarks.lean_http import Connection
from linearized.demo.homeserver import HomeserverFiles, prepare, register
from linearized.demo.processes import ending
from linearized.room.segments import SEGMENT, unpack

V3 = "/_matrix/client/v3"
SEGMENTS = "/_matrix/client/unstable/dev.linearized.1/rooms/{}/segments"
SENDERS = 32
PAGE = 1000  # what both servers clamp to
SEGMENT_FETCHERS = 4
PATIENCE = 900  # seconds for a server to make its room
TICKS = os.sysconf("SC_CLK_TCK")
# What we are to reach beside Synapse in one run: a time at most this share, a rate at least so many times.
TARGETS = {"page": 20, "bulk": 100, "sync": 1 / 3, "send": 10}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything."""

    events: int = 5000
    large: int = 100_000
    lone: int = 300
    syncs: int = 200
    initial: int = 10
    contexts: int = 50


QUICK = Sizes(events=300, large=2100, lone=20, syncs=10, initial=2, contexts=5)


@dataclass(kw_only=True)
class Peer:
    """A server that runs: where, and what it has used so far."""

    name: str
    port: int
    pid: int
    tokens: list[str] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Of all its threads, in user space and in the kernel."""
        parts = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / TICKS

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def spread(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return {"p50_ms": statistics.median(ordered) * 1000, "p99_ms": p99 * 1000, "samples": len(ordered)}


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await work()
    return time.monotonic() - began


@asynccontextmanager
async def measured(peer: Peer, result: dict[str, Any], events: int) -> AsyncIterator[None]:
    """Puts the rate, and what the server used for it, into ``result``."""
    began, cpu = time.monotonic(), peer.cpu_seconds()
    yield
    seconds = time.monotonic() - began
    result |= {
        "events": events,
        "seconds": seconds,
        "events_per_s": events / seconds,
        "server_cpu_us_per_event": (peer.cpu_seconds() - cpu) / events * 1e6,
    }


class Driver:
    """Asks one server for everything."""

    def __init__(self, peer: Peer, sizes: Sizes) -> None:
        self.peer, self.sizes = peer, sizes
        self.room = ""
        self._numbers = count()

    @asynccontextmanager
    async def connections(self, tokens: list[str]) -> AsyncIterator[list[Connection]]:
        """One for each token."""
        made = [await Connection.open(self.peer.port, token) for token in tokens]
        yield made
        for connection in made:
            await connection.aclose()

    def path(self, rest: str, room: str | None = None) -> str:
        return f"{V3}/rooms/{quote(room or self.room)}/{rest}"

    async def send(self, connection: Connection) -> str:
        number = next(self._numbers)
        body = {"msgtype": "m.text", "body": f"message {number}: what one says in a sentence or two"}
        answer = await connection.json("PUT", self.path(f"send/m.room.message/t{number}"), body)
        return str(answer["event_id"])

    async def run(self) -> dict[str, Any]:
        """All measurements, by name."""
        results: dict[str, Any] = {"resident_bytes_before": self.peer.resident_bytes()}
        async with self.connections(self.peer.tokens) as users:
            wish = {"preset": "public_chat", "name": "Harbour"}
            made = await users[0].json("POST", f"{V3}/createRoom", wish)
            self.room = made["room_id"]
            for user in users[1:]:
                await user.json("POST", f"{V3}/join/{quote(self.room)}")
            results["send_1"] = await self.send_alone(users[0])
            results["send_32"], event_ids = await self.send_at_once(users)
            results["initial_sync"] = await self.initial_sync(users[0])
            results["incremental_sync"] = await self.incremental_sync(users[0], users[1])
            results["page_back"] = await self.page_back(users[0], self.room)
            results["context"] = await self.context(users[0], event_ids)
        return results

    async def send_alone(self, user: Connection) -> dict[str, Any]:
        """One after another."""
        result: dict[str, Any] = {}
        async with measured(self.peer, result, self.sizes.lone):
            taken = [await timed(partial(self.send, user)) for _ in range(self.sizes.lone)]
        return result | spread(taken)

    async def send_at_once(self, users: list[Connection]) -> tuple[dict[str, Any], list[str]]:
        """All users, each one message after another, until the room is full."""
        result: dict[str, Any] = {}
        number = self.sizes.events - self.sizes.lone
        left = iter(range(number))
        event_ids: list[str] = []

        async def sending(user: Connection) -> None:
            for _ in left:
                event_ids.append(await self.send(user))

        async with measured(self.peer, result, number), trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(sending, user)
        return result, event_ids

    async def initial_sync(self, user: Connection) -> dict[str, Any]:
        """With the latest twenty messages of each room."""
        target = f"{V3}/sync?filter=" + quote('{"room":{"timeline":{"limit":20}}}')
        taken, before = [], user.received
        for _ in range(self.sizes.initial):
            taken.append(await timed(partial(user.request, "GET", target)))
        return spread(taken) | {"bytes": (user.received - before) // self.sizes.initial}

    async def incremental_sync(self, reader: Connection, writer: Connection) -> dict[str, Any]:
        """What is new is one message, sent before."""
        since = (await reader.json("GET", f"{V3}/sync"))["next_batch"]
        taken, cpu = [], 0.0
        for _ in range(self.sizes.syncs):
            event_id = await self.send(writer)
            before, began = self.peer.cpu_seconds(), time.monotonic()
            answer = await reader.json("GET", f"{V3}/sync?timeout=10000&since={quote(since)}")
            taken.append(time.monotonic() - began)
            cpu += self.peer.cpu_seconds() - before
            since = answer["next_batch"]
            (event,) = answer["rooms"]["join"][self.room]["timeline"]["events"]
            assert event["event_id"] == event_id
        return spread(taken) | {"server_cpu_us": cpu / self.sizes.syncs * 1e6}

    async def page_back(self, user: Connection, room: str) -> dict[str, Any]:
        """The whole history, from the newest event to the one that made the room."""
        events, target = [], self.path(f"messages?dir=b&limit={PAGE}", room)
        cpu, began, received = self.peer.cpu_seconds(), time.monotonic(), user.received
        while target:
            page = await user.json("GET", target)
            events += page["chunk"]
            more = quote(page.get("end", ""))
            target = self.path(f"messages?dir=b&limit={PAGE}&from={more}", room) if more else ""
        seconds = time.monotonic() - began
        assert events[-1]["type"] == "m.room.create"
        return {
            "events": len(events),
            "seconds": seconds,
            "events_per_s": len(events) / seconds,
            "server_cpu_us_per_event": (self.peer.cpu_seconds() - cpu) / len(events) * 1e6,
            "bytes": user.received - received,
        }

    async def context(self, user: Connection, event_ids: list[str]) -> dict[str, Any]:
        """The neighbours of messages all over the room."""
        step = max(1, len(event_ids) // self.sizes.contexts)
        chosen = event_ids[::step][: self.sizes.contexts]
        taken = [
            await timed(partial(user.request, "GET", self.path(f"context/{quote(event_id)}?limit=10")))
            for event_id in chosen
        ]
        return spread(taken)

    async def bulk(self, room: str) -> dict[str, Any]:
        """All segments, over a few connections, unpacked; for the first time the server has to pack them."""
        async with self.connections(self.peer.tokens[:1]) as (user,):
            runs = (await user.json("GET", SEGMENTS.format(quote(room))))["segments"]
        targets = [
            f"{SEGMENTS.format(quote(room))}/{number}"
            for first, last in runs
            for number in range(first, last + 1)
        ]
        return {name: await self.fetch_all(targets) for name in ("packed_first", "packed_before")}

    async def fetch_all(self, targets: list[str]) -> dict[str, Any]:
        left, entries = iter(targets), 0
        result: dict[str, Any] = {}

        async def fetch(connection: Connection) -> None:
            nonlocal entries
            for target in left:
                data = await connection.request("GET", target)
                entries += len(unpack(data))

        async with (
            self.connections(self.peer.tokens[:1] * SEGMENT_FETCHERS) as made,
            measured(self.peer, result, len(targets) * SEGMENT),
            trio.open_nursery() as nursery,
        ):
            for connection in made:
                nursery.start_soon(fetch, connection)
        assert entries == len(targets) * SEGMENT
        return result


@asynccontextmanager
async def ours(directory: Path, large: int) -> AsyncIterator[Peer]:
    """Our server, with accounts and the large room, in which alice is alone."""
    names = ["alice", *(f"user{number}" for number in range(1, SENDERS))]
    arguments = [str(directory), ",".join(names), str(large)]
    command = [sys.executable, "-m", "benchmarks.client_server", *arguments]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    with trio.fail_after(PATIENCE):
        while not line.endswith(b"}\n"):
            line += await process.stdout.receive_some()
    peer = Peer(name="linearized", port=json.loads(line)["port"], pid=process.pid)
    visitor = await Connection.open(peer.port)
    for name in names:
        identifier = {"type": "m.id.user", "user": name}
        body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        peer.tokens.append((await visitor.json("POST", f"{V3}/login", body))["access_token"])
    await visitor.aclose()
    yield peer
    await process.stdin.aclose()
    await process.wait()


@asynccontextmanager
async def synapse(directory: Path, python: Path) -> AsyncIterator[Peer]:
    """A homeserver as the demonstration runs it, without rate limits."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    secret = secrets.token_urlsafe(16)
    files = HomeserverFiles(
        directory=directory, port=port, python=python, registrations=(), shared_secret=secret
    )
    service = await prepare(files, directory / "synapse.log")
    async with ending([service]):
        await service.start()
        assert service.pid is not None
        peer = Peer(name="synapse", port=port, pid=service.pid)
        async with httpx.AsyncClient(base_url=files.url) as http:
            for number in range(SENDERS):
                user = await register(http, files.shared_secret, f"user{number}", PASSWORD)
                peer.tokens.append(user._headers["Authorization"].removeprefix("Bearer "))
        yield peer


async def measure(peer: Peer, sizes: Sizes) -> dict[str, Any]:
    driver = Driver(peer, sizes)
    results = await driver.run()
    if peer.name == "linearized":
        if sizes.large:
            async with driver.connections(peer.tokens[:1]) as (alice,):
                results["page_back_large"] = await driver.page_back(alice, ROOM)
            results["bulk_large"] = await driver.bulk(ROOM)
        if sizes.events >= SEGMENT:
            results["bulk"] = await driver.bulk(driver.room)
    return results | {"resident_bytes": peer.resident_bytes()}


def compared(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The targets: rates over Synapse's, times as a share of Synapse's."""
    paged = theirs["page_back"]["events_per_s"]
    rates = {
        "page_back": (mine["page_back"]["events_per_s"] / paged, TARGETS["page"]),
        "send_32": (mine["send_32"]["events_per_s"] / theirs["send_32"]["events_per_s"], TARGETS["send"]),
    }
    for name in ("bulk", "bulk_large"):
        if name in mine:
            rate = mine[name]["packed_before"]["events_per_s"]
            rates[f"{name}_over_page_back"] = (rate / paged, TARGETS["bulk"])
    share = mine["incremental_sync"]["p50_ms"] / theirs["incremental_sync"]["p50_ms"]
    return {
        name: {"ratio": ratio, "target": target, "met": ratio >= target}
        for name, (ratio, target) in rates.items()
    } | {"incremental_sync_p50": {"ratio": share, "target": TARGETS["sync"], "met": share <= TARGETS["sync"]}}


async def main(sizes: Sizes, python: Path | None) -> None:
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in ("linearized", "synapse"):
            (Path(directory) / name).mkdir()
        async with ours(Path(directory) / "linearized", sizes.large) as peer:
            results["linearized"] = await measure(peer, sizes)
        if python is not None:
            async with synapse(Path(directory) / "synapse", python) as peer:
                results["synapse"] = await measure(peer, sizes)
            results["targets"] = compared(results["linearized"], results["synapse"])
    about = {"load": os.getloadavg(), "python": sys.version.split()[0], "sizes": vars(sizes)}
    print(json.dumps({**about, **results}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--events", type=int, help="of the room that both have (5000)")
    parser.add_argument("--large", type=int, help="of the room that only we have (100000)")
    chosen = parser.parse_args()
    wanted = QUICK if chosen.quick else Sizes()
    asked = {"events": chosen.events, "large": chosen.large}
    changes = {name: value for name, value in asked.items() if value is not None}
    found = os.environ.get("LINEARIZED_SYNAPSE_PYTHON")
    trio.run(main, Sizes(**{**vars(wanted), **changes}), Path(found) if found else None)
