"""What the MIMI face costs: a real hub behind mutual TLS on loopback; the other providers in one process.

``python -m benchmarks.bench_providers --help``. As in ``bench_federation``, the hub is put together as the
server does it and stores with ``synchronous=FULL``. Measured, in groups of each size: messages submitted by
one provider over one connection and over several, beside the same bodies sent to an application that only
answers, by the same listener and TLS; commits, each on the one before it; requests for the group's
information; and notifications to many providers. Every member is another user with one client. Timed runs
are repeated; one more run of each, not timed, counts signatures and SQL statements.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trustme

from benchmarks.bench_federation import (
    LOOPBACK,
    Bench,
    Peers,
    Running,
    echo,
    hold_back,
    issue,
    measured,
    median,
    rates,
    spread,
)
from benchmarks.federation_peers import HUB, cpu_seconds, name_of
from linearized.config import Address, Config, LimitsConfig, ListenConfig, StoreConfig
from linearized.mimi.participants import ParticipantListUpdate, UserRolePair
from linearized.protocol.identifiers import group_id, user_uri
from linearized.room.admission import ALGORITHM
from linearized.room.submissions import Submission
from linearized.server import telemetry
from linearized.server.app import build_app
from linearized.server.listener import Binding, serve_bindings, server_context
from linearized.server.opening import open_node
from linearized.server.run import routes
from tests.room.support import ALICE, Member

MEMBERS = (10, 100, 1_000)
CONNECTIONS = (1, 16)
FOLLOWERS = (1, 10, 100)
# By what is measured: the command that makes the requests, and what every answer is looked at for.
PREPARED = {
    "submitMessage": ("messages", "submitMessage"),
    "update": ("commits", "update"),
    "partialUpdate": ("partial_commits", "update"),
    "groupInfo": ("group_infos", "any"),
}
UNLIMITED = 1_000_000  # requests a second; one provider makes here what many make elsewhere
ADDED_AT_ONCE = 250  # clients in one commit while a group is filled: few commits, none of them enormous


class Group:
    """The room's group as its creator, a user of the hub, sees it."""

    def __init__(self, hub: Running) -> None:
        self._hub = hub
        self.alice = Member(ALICE)

    async def submit(self, submission: Submission) -> Any:
        return await self._hub.node.rooms.submit(self._hub.room, submission)

    async def create(self, packages: list[bytes], users: list[str], members: int) -> tuple[bytes, bytes]:
        """Make the group of ``members`` users with a client each: the creator, those with ``packages``, and
        more of the hub's. The Welcome of ``packages``, and its tree.
        """
        await self.submit(self.alice.create(name=group_id(self._hub.room)))
        self.alice.accept()
        missing = members - 1 - len(packages)
        while missing > 0:
            count = min(missing, ADDED_AT_ONCE)
            others = [Member(f"@member{missing - number}:{HUB}") for number in range(count)]
            await self.submit(self.alice.add(*others))
            self.alice.accept()
            missing -= count
        # The first provider's client comes with the last commit, so that it need follow none.
        for first in reversed(range(0, len(packages), ADDED_AT_ONCE)):
            part = slice(first, first + ADDED_AT_ONCE)
            added = tuple(UserRolePair(user=user_uri(user), role_index=1) for user in users[part])
            change = self.alice.change(ParticipantListUpdate(added=added), add=packages[part])
            accepted = await self.submit(change)
            self.alice.accept()
        return accepted.welcomes[0].welcome, accepted.welcomes[0].ratchet_tree


@asynccontextmanager
async def grouped(bench: Bench, *, providers: int, members: int) -> AsyncIterator[tuple[Running, Group]]:
    """A hub with an encrypted room in which a user of each provider has one client."""
    with tempfile.TemporaryDirectory(dir=bench.directory) as directory:
        peers = Address(host="127.0.0.1", port=bench.peers.port)
        config = Config(
            server_name=HUB,
            data_dir=Path(directory),
            listen=ListenConfig(tls=LOOPBACK),
            tls=bench.tls,
            discovery_overrides={name_of(number): peers for number in range(providers)},
            store=StoreConfig(synchronous="FULL"),
            limits=LimitsConfig(group_rate=UNLIMITED, provider_rate=UNLIMITED),
        )
        async with open_node(config) as node, trio.open_nursery() as nursery:
            context = server_context(bench.tls)
            bindings = [
                Binding(address=LOOPBACK, app=build_app(routes(node)), tls=context),
                Binding(address=LOOPBACK, app=echo, tls=context),
            ]
            addresses = await nursery.start(partial(serve_bindings, bindings, stop=trio.Event()))
            release = hold_back(node)
            room = await node.rooms.create(
                creator=ALICE,
                version="dev.linearized.1",
                creation_content={"encryption": {"algorithm": ALGORITHM}},
                initial=[],
            )

            hub = Running(node, room, addresses[0].port, addresses[1].port, partial(release, room))
            made = await bench.peers.ask("packages", providers=providers)
            packages = [b64decode(package) for package in made["packages"]]
            users = [f"@user:{name_of(number)}" for number in range(providers)]
            group = Group(hub)
            welcome, tree = await group.create(packages, users, members)
            await bench.peers.ask(
                "join", room=room, welcome=b64encode(welcome).decode(), tree=b64encode(tree).decode()
            )
            yield hub, group
            nursery.cancel_scope.cancel()


async def requests(
    bench: Bench, counter: Counter[str] | None, *, endpoint: str, members: int, connections: int
) -> dict[str, Any]:
    """One provider sends requests of one kind; nothing is passed on."""
    prepare, expect = PREPARED[endpoint]
    count = bench.options.events if endpoint == "submitMessage" else max(bench.options.events // 10, 10)
    async with grouped(bench, providers=1, members=members) as (hub, _):
        made = await bench.peers.ask(prepare, count=count)
        await bench.peers.ask("connect", port=hub.echo_port, connections=connections)
        cpu = cpu_seconds()
        floor = await bench.peers.ask("send", expect="any")
        floor_cpu = cpu_seconds() - cpu
        await bench.peers.ask("disconnect")
        await bench.peers.ask("connect", port=hub.port, connections=connections)
        spent: dict[str, Any] = {}
        with measured(hub, counter, spent):
            sent = await bench.peers.ask("send", expect=expect)
        await bench.peers.ask("disconnect")
        # A commit that is larger than an event is several entries.
        assert spent["entries"] == 0 if endpoint == "groupInfo" else spent["entries"] >= count
        return {
            **rates(count, sent["wall"], spent["hub_cpu"], sent["cpu"]),
            "request_ms": spread(sent["durations"]),
            "echo": {
                **rates(count, floor["wall"], floor_cpu, floor["cpu"]),
                "request_ms": spread(floor["durations"]),
            },
            "rate_of_echo": round(floor["wall"] / sent["wall"], 2),
            "events": count,
            "commits_per_event": round(spent["commits"] / count, 3),
            "body_bytes_per_event": round(made["bytes"] / count, 1),
            "log_bytes_per_event": round(spent["log_bytes"] / count, 1),
        }


async def notify(bench: Bench, counter: Counter[str] | None, *, followers: int) -> dict[str, Any]:
    """The hub's own user sends; every provider is notified."""
    events = max(bench.options.events // followers, min(100, bench.options.events))
    async with grouped(bench, providers=followers, members=followers + 1) as (hub, group):
        hub.release()
        await hub.settled()
        messages = iter([group.alice.message(b"message %d" % number) for number in range(events)])

        async def submitter() -> None:
            for message in messages:
                await group.submit(message)

        peers_cpu = (await bench.peers.ask("reset"))["cpu"]
        spent: dict[str, Any] = {}
        with measured(hub, counter, spent):
            began = trio.current_time()
            async with trio.open_nursery() as submitters:
                for _ in range(64):
                    submitters.start_soon(submitter)
            received = await bench.peers.ask("received", messages=events * followers)
            wall = trio.current_time() - began
            await hub.settled()
        delivered = events * followers
        assert received["messages"] == delivered
        return {
            **rates(delivered, wall, spent["hub_cpu"], received["cpu"] - peers_cpu),
            "events": events,
            "deliveries": delivered,
            "requests": received["requests"],
            "messages_per_request": round(delivered / received["requests"], 2),
            "body_bytes_per_delivery": round(received["bytes"] / delivered, 1),
        }


async def repeated(bench: Bench, measure: Any, **what: Any) -> dict[str, Any]:
    """The runs of one measurement, their medians, and the counts of one more."""
    runs = [await measure(bench, None, **what) for _ in range(bench.options.rounds)]
    counter: Counter[str] = Counter()
    last = await measure(bench, counter, **what)
    per = last.get("deliveries", last["events"])
    counts = {name: round(counter[name] / per, 3) for name in ("signed", "checked", "sql")}
    return {**what, "median": median(runs), "counts": counts, "runs": runs}


async def measure_all(bench: Bench) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "options": {key: str(value) for key, value in vars(bench.options).items()},
        "submitMessage": [
            await repeated(
                bench, requests, endpoint="submitMessage", members=members, connections=connections
            )
            for members in bench.options.members
            for connections in CONNECTIONS
        ],
        "update": [
            await repeated(bench, requests, endpoint="update", members=members, connections=1)
            for members in bench.options.members
        ],
        "partialUpdate": [
            await repeated(bench, requests, endpoint="partialUpdate", members=members, connections=1)
            for members in bench.options.members
        ],
        "groupInfo": [
            await repeated(bench, requests, endpoint="groupInfo", members=members, connections=4)
            for members in bench.options.members
        ],
        "notify": [
            await repeated(bench, notify, followers=followers) for followers in bench.options.followers
        ],
    }


async def run(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    ca = trustme.CA()
    hub = issue(ca, directory, "hub", [HUB])
    others = issue(ca, directory, "peers", [name_of(number) for number in range(max(FOLLOWERS))])
    files = [str(others.certificate), str(others.key), str(others.trusted_ca)]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-m", "benchmarks.provider_peers", *files],
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
    parser.add_argument("--events", type=int, default=2000, help="messages of each run")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each measurement")
    parser.add_argument("--quick", action="store_true", help="one small run, to see that it works")
    parser.add_argument("--directory", type=Path, default=None, help="where the databases go (same disk!)")
    options = parser.parse_args()
    options.members, options.followers = MEMBERS, FOLLOWERS
    if options.quick:
        options.events, options.rounds, options.members, options.followers = (
            100,
            1,
            MEMBERS[:2],
            FOLLOWERS[:2],
        )
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
