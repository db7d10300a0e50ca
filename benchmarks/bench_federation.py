"""What the federation face costs: a real hub behind HTTPS on loopback; others in one process.

``python -m benchmarks.bench_federation --help``. The hub is put together as ``linearized.server.run`` does
it, stores with ``synchronous=FULL`` and writes its log to a file. Three things are measured, each on a new
database: taking LPDUs in (``ingest``), passing events on (``fan_out``), and how long an event of one server
needs to the others at a fixed rate (``latency``). Timed runs are repeated; one more run of each, shorter and
not timed, counts signatures and SQL statements. The floor of ``ingest`` are the same bodies, sent to an
application that only echoes them, by the same listener and TLS. With the defaults it takes some four minutes
on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from openmls import ed25519_verify, ed25519_verify_all

from benchmarks.federation_peers import (
    HUB,
    VERSION,
    answer,
    cpu_seconds,
    name_of,
    read_body,
)
from linearized.config import Address, Config, ListenConfig, StoreConfig, TlsConfig
from linearized.protocol import signing
from linearized.room.submissions import LocalEvent
from linearized.server import telemetry
from linearized.server.app import build_app
from linearized.server.http import Receive, Scope, Send
from linearized.server.listener import Binding, serve_bindings, server_context
from linearized.server.node import Node
from linearized.server.opening import open_node
from linearized.server.run import routes, tune_interpreter

ALICE = f"@alice:{HUB}"
LOOPBACK = Address(host="127.0.0.1", port=0)
BATCH = 50  # "There MUST NOT be more than 50 entries in pdus"
PARTICIPANTS = (1, 10)
FOLLOWERS = (1, 10, 100)
LATENCY_FOLLOWERS = (10, 100)
LATENCY_SENDERS = 10  # of the followers, in turn
LATENCY_PER_SECOND = 100
COUNTED = 300  # events of a run that only counts: what an event costs does not depend on how many follow it
WAITING = 64  # local events submitted at a time while they are fanned out
SMALLEST = 100  # events, however many followers they go to: two full requests for each
PATIENCE = 300  # seconds for one command: a benchmark that hangs should say so
SETTLED_POLL = 0.01  # seconds between looks at the cursors, outside of what is timed
LINE = 2**16


class Peers:
    """The process with the other servers."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""
        self.port = 0

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            part = await self._process.stdout.receive_some(LINE)
            assert part, "the process of the other servers ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        result: dict[str, Any] = json.loads(line)
        return result

    async def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        with trio.fail_after(PATIENCE):
            await self._process.stdin.send_all(json.dumps({"do": command, **fields}).encode() + b"\n")
            return await self.answer()


@dataclass
class Bench:
    """What all measurements share."""

    peers: Peers
    tls: TlsConfig
    directory: Path
    options: argparse.Namespace


@dataclass
class Running:
    """A hub that serves, with a room that the first ``servers`` of the others have joined."""

    node: Node
    room: str
    port: int
    echo_port: int
    release: Callable[[], None]  # lets fan-out go on, which is held back from the start

    @property
    def head(self) -> int:
        row = self.node.store.room(self.room)
        assert row is not None
        return row.head_seq

    async def settled(self) -> None:
        """Wait until every follower has the whole log, and we know it."""
        head = self.head
        with trio.fail_after(PATIENCE):
            while True:
                if all(row.cursor >= head for row in self.node.store.followers(self.room)):
                    return
                await trio.sleep(SETTLED_POLL)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await answer(send, await read_body(receive))


@asynccontextmanager
async def running(bench: Bench, servers: int) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(dir=bench.directory) as directory:
        peers = Address(host="127.0.0.1", port=bench.peers.port)
        config = Config(
            server_name=HUB,
            data_dir=Path(directory),
            listen=ListenConfig(tls=LOOPBACK),
            tls=bench.tls,
            discovery_overrides={name_of(number): peers for number in range(servers)},
            store=StoreConfig(synchronous="FULL"),
        )
        async with open_node(config) as node, trio.open_nursery() as nursery:
            context = server_context(bench.tls)
            bindings = [
                Binding(address=LOOPBACK, app=build_app(routes(node)), tls=context),
                Binding(address=LOOPBACK, app=echo, tls=context),
            ]
            addresses = await nursery.start(partial(serve_bindings, bindings, stop=trio.Event()))
            release = hold_back(node)
            rules = LocalEvent(
                sender=ALICE, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
            )
            room = await node.rooms.create(
                creator=ALICE, version=VERSION, creation_content={}, initial=[rules]
            )
            await bench.peers.ask("join", port=addresses[0].port, room=room, servers=servers)
            assert len(node.store.followers(room)) == servers

            yield Running(node, room, addresses[0].port, addresses[1].port, partial(release, room))
            nursery.cancel_scope.cancel()


@contextmanager
def traced(hub: Running, counter: Counter[str]) -> Iterator[None]:
    """Count the hub's SQL statements, and its signatures where they are made and checked."""

    def counted(name: str, function: Callable[..., Any], many: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            counter[name] += len(arguments[0]) if many else 1
            return function(*arguments)

        return call

    # A benchmark may look inside: all connections of the store, the reading and the writing one among them.
    connections = hub.node.store._connections
    for connection in connections:
        connection.set_trace_callback(
            lambda statement: counter.update(["sql", f"sql {statement.split(maxsplit=1)[0].upper()}"])
        )
    patch = pytest.MonkeyPatch()
    patch.setattr(signing.SigningKey, "sign", counted("signed", signing.SigningKey.sign))
    patch.setattr(signing, "ed25519_verify", counted("checked", ed25519_verify))
    patch.setattr(signing, "ed25519_verify_all", counted("checked", ed25519_verify_all, many=True))
    try:
        yield
    finally:
        patch.undo()
        for connection in connections:
            connection.set_trace_callback(None)


def hold_back(node: Node) -> Callable[[str], None]:
    """Tell no follower of what is appended, until what this gives is called with the room."""
    appended = node.followers.appended
    node.followers.appended = lambda *_: None

    def release(room: str) -> None:
        node.followers.appended = appended
        node.followers.room_changed(room)

    return release


@contextmanager
def measured(hub: Running, counter: Counter[str] | None, result: dict[str, Any]) -> Iterator[None]:
    """Put what the hub spends into ``result``: CPU seconds, commits, entries and their bytes."""
    commits, head, cpu = hub.node.store.commits, hub.head, cpu_seconds()
    if counter is None:
        yield
    else:
        with traced(hub, counter):
            yield
    result["hub_cpu"] = cpu_seconds() - cpu
    result["commits"] = hub.node.store.commits - commits
    result["entries"] = hub.head - head
    rows = hub.node.store.entries(hub.room, after=head, limit=max(result["entries"], 1))
    result["log_bytes"] = sum(len(row.pdu) for row in rows)


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1e3, 2),
        "p99": round(ordered[int(len(ordered) * 0.99)] * 1e3, 2),
        "max": round(ordered[-1] * 1e3, 2),
    }


def rates(count: int, wall: float, hub_cpu: float, peers_cpu: float) -> dict[str, float]:
    return {
        "per_second": round(count / wall, 1),
        "wall_us": round(wall / count * 1e6, 1),
        "cpu_us": round(hub_cpu / count * 1e6, 1),
        "hub_busy": round(hub_cpu / wall, 2),
        "peers_busy": round(peers_cpu / wall, 2),
    }


async def ingest(
    bench: Bench, counter: Counter[str] | None, *, participants: int, fan_out: bool
) -> dict[str, Any]:
    events = max(bench.options.events, participants * BATCH)  # a full transaction of each at least
    async with running(bench, participants) as hub:
        if fan_out:
            hub.release()
            await hub.settled()
        made = await bench.peers.ask(
            "prepare", room=hub.room, servers=participants, events=events, batch=BATCH
        )
        await bench.peers.ask("connect", port=hub.echo_port)
        cpu = cpu_seconds()
        floor = await bench.peers.ask("send")
        floor_cpu = cpu_seconds() - cpu
        await bench.peers.ask("disconnect")
        await bench.peers.ask("connect", port=hub.port)
        spent: dict[str, Any] = {}
        with measured(hub, counter, spent):
            sent = await bench.peers.ask("send")
        await bench.peers.ask("disconnect")
        assert spent["entries"] == events
        assert sent["refused"] == 0
        return {
            **rates(events, sent["wall"], spent["hub_cpu"], sent["cpu"]),
            "request_ms": spread(sent["durations"]),
            "echo": {
                **rates(events, floor["wall"], floor_cpu, floor["cpu"]),
                "request_ms": spread(floor["durations"]),
            },
            "wall_ratio_to_echo": round(sent["wall"] / floor["wall"], 2),
            "cpu_ratio_to_echo": round(spent["hub_cpu"] / floor_cpu, 2),
            "events": events,
            "requests": made["requests"],
            "fsyncs_per_event": round(spent["commits"] / events, 3),
            "body_bytes_per_event": round(made["bytes"] / events, 1),
            "log_bytes_per_event": round(spent["log_bytes"] / events, 1),
        }


async def fan_out(
    bench: Bench, counter: Counter[str] | None, *, followers: int, backlog: bool
) -> dict[str, Any]:
    events = max(bench.options.events // followers, min(SMALLEST, bench.options.events))
    async with running(bench, followers) as hub:
        hub.release()
        await hub.settled()
        numbers = iter(range(events))

        async def submitter() -> None:
            for number in numbers:
                content = {"msgtype": "m.text", "body": f"message {number}", "n": number}
                await hub.node.rooms.send(
                    hub.room, LocalEvent(sender=ALICE, type="m.room.message", content=content)
                )

        async def submit_all() -> None:
            async with trio.open_nursery() as submitters:
                for _ in range(WAITING):
                    submitters.start_soon(submitter)

        if backlog:  # the log is there before anybody is told
            release = hold_back(hub.node)
            await submit_all()
        peers_cpu = (await bench.peers.ask("reset"))["cpu"]
        spent: dict[str, Any] = {}
        with measured(hub, counter, spent):
            began = time.monotonic()
            if backlog:
                release(hub.room)
            else:
                await submit_all()
            received = await bench.peers.ask("received", events=events * followers)
            await hub.settled()
        delivered = events * followers
        assert received["events"] == delivered
        return {
            **rates(delivered, received["at"] - began, spent["hub_cpu"], received["cpu"] - peers_cpu),
            "events": events,
            "deliveries": delivered,
            "requests": received["requests"],
            "requests_per_event": round(received["requests"] / events, 2),
            "events_per_request": round(delivered / received["requests"], 2),
            "fsyncs_per_delivery": round(spent["commits"] / delivered, 4),
            "body_bytes_per_delivery": round(received["bytes"] / delivered, 1),
        }


async def latency(bench: Bench, counter: Counter[str] | None, *, followers: int) -> dict[str, Any]:
    events: int = bench.options.events
    async with running(bench, followers) as hub:
        hub.release()
        await hub.settled()
        await bench.peers.ask("prepare", room=hub.room, servers=LATENCY_SENDERS, events=events, batch=1)
        await bench.peers.ask("connect", port=hub.port)
        peers_cpu = (await bench.peers.ask("reset"))["cpu"]
        spent: dict[str, Any] = {}
        with measured(hub, counter, spent):
            paced = await bench.peers.ask("pace", per_second=LATENCY_PER_SECOND, followers=followers)
            received = await bench.peers.ask("received", events=events * followers)
            await hub.settled()
        await bench.peers.ask("disconnect")
        assert spent["entries"] == events
        return {
            "visible_ms": spread(paced["latencies"]),
            "achieved_per_second": round(events / paced["wall"], 1),
            "cpu_us": round(spent["hub_cpu"] / events * 1e6, 1),
            "hub_busy": round(spent["hub_cpu"] / paced["wall"], 2),
            "peers_busy": round((received["cpu"] - peers_cpu) / paced["wall"], 2),
            "events": events,
            "requests_per_event": round(received["requests"] / events, 2),
            "events_per_request": round(received["events"] / received["requests"], 2),
            "fsyncs_per_event": round(spent["commits"] / events, 3),
            "body_bytes_per_event": round(received["bytes"] / events, 1),
            "log_bytes_per_event": round(spent["log_bytes"] / events, 1),
        }


def median(runs: list[Any]) -> Any:
    """The median of each number, through nested objects."""
    if isinstance(runs[0], dict):
        return {key: median([run[key] for run in runs]) for key in runs[0]}
    return statistics.median(runs)


async def repeated(bench: Bench, measure: Callable[..., Any], **what: Any) -> dict[str, Any]:
    """The runs of one measurement, their medians, and the counts of one more."""
    runs = [await measure(bench, None, **what) for _ in range(bench.options.rounds)]
    counter: Counter[str] = Counter()
    options = argparse.Namespace(**{**vars(bench.options), "events": min(COUNTED, bench.options.events)})
    last = await measure(replace(bench, options=options), counter, **what)
    per = last.get("deliveries", last["events"])
    counts = {
        "per": "delivery" if "deliveries" in last else "event",
        "signatures_made": round(counter["signed"] / per, 3),
        "signatures_checked": round(counter["checked"] / per, 3),
        "sql_statements": round(counter["sql"] / per, 2),
        "sql_by_kind": {
            key.removeprefix("sql "): round(count / per, 3)
            for key, count in sorted(counter.items())
            if key.startswith("sql ")
        },
    }
    return {**what, "median": median(runs), "counts": counts, "runs": runs}


async def measure_all(bench: Bench) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "options": {key: str(value) for key, value in vars(bench.options).items()},
        "ingest": [
            await repeated(bench, ingest, participants=participants, fan_out=alive)
            for participants in PARTICIPANTS
            for alive in (False, True)
        ],
        "fan_out": [
            await repeated(bench, fan_out, followers=followers, backlog=backlog)
            for followers in FOLLOWERS
            for backlog in (True, False)
        ],
        "latency": [await repeated(bench, latency, followers=followers) for followers in LATENCY_FOLLOWERS],
    }


def issue(ca: trustme.CA, directory: Path, file: str, names: list[str]) -> TlsConfig:
    certificate, key, trusted = directory / f"{file}.pem", directory / f"{file}.key", directory / "ca.pem"
    issued = ca.issue_cert(*names)
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    ca.cert_pem.write_to_path(str(trusted))
    return TlsConfig(certificate=certificate, key=key, trusted_ca=trusted)


async def run(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    ca = trustme.CA()
    hub = issue(ca, directory, "hub", [HUB])
    others = issue(ca, directory, "peers", [name_of(number) for number in range(max(FOLLOWERS))])
    assert others.trusted_ca is not None
    files = [str(others.certificate), str(others.key), str(others.trusted_ca)]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-m", "benchmarks.federation_peers", *files],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parent.parent,
            )
        )
        peers = Peers(process)
        peers.port = (await peers.answer())["port"]
        result = await measure_all(Bench(peers, hub, directory, options))
        await process.stdin.aclose()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1000, help="events of each run")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each measurement")
    parser.add_argument("--quick", action="store_true", help="one small run, to see that it works")
    parser.add_argument("--directory", type=Path, default=None, help="where the databases go (same disk!)")
    options = parser.parse_args()
    tune_interpreter()
    if options.quick:
        options.events, options.rounds = 100, 1
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as directory,
        (Path(directory) / "hub.log").open("wb") as log,
    ):
        telemetry.configure(stream=log)
        result = trio.run(run, Path(directory), options)
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
