"""The server of ``bench_streams``: one public room, accounts, and the client API on a loopback port.

It prints one JSON object once it listens and one for each line it is sent: its resident memory and CPU time.
It ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from benchmarks.history_server import NAME, PASSWORD, ROOM, VERSION, cpu_seconds
from linearized.config import Address
from linearized.provider_files import ProviderPlan, create_provider
from linearized.room.submissions import LocalEvent
from linearized.server import run, telemetry
from linearized.server.app import build_app
from linearized.server.clients.passwords import hash_password
from linearized.server.listener import Binding, serve_bindings
from linearized.server.opening import open_node
from linearized.store.base import UserRow

ROOM_FOR_MORE = 100  # connections beside the streams


def user(number: int) -> str:
    return f"@user{number}:{NAME}"


def entries(users: int) -> Iterator[LocalEvent]:
    first = user(0)
    yield LocalEvent(sender=first, type="m.room.create", state_key="", content={"room_version": VERSION})
    yield LocalEvent(sender=first, type="m.room.member", state_key=first, content={"membership": "join"})
    rules = {"join_rule": "public"}
    yield LocalEvent(sender=first, type="m.room.join_rules", state_key="", content=rules)
    for name in map(user, range(1, users)):
        yield LocalEvent(sender=name, type="m.room.member", state_key=name, content={"membership": "join"})


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def say(port: int) -> None:
    print(json.dumps({"port": port, "rss": resident_bytes(), "cpu_s": cpu_seconds()}), flush=True)


async def main(directory: Path, users: int, streams: int) -> None:
    telemetry.configure(logging.ERROR)
    plan = ProviderPlan(server_name=NAME, dev_ca=directory / "ca", peers={})
    async with open_node(create_provider(directory, plan)) as node:
        made = list(entries(users))
        await node.rooms._hub.create(ROOM, VERSION, made[:2])
        for outcome in await node.rooms._hub.submit_all(ROOM, [(event, None) for event in made[2:]]):
            assert not isinstance(outcome, Exception), outcome
        secret = hash_password(PASSWORD, salt=b"salt")
        for number in range(users):
            await node.store.put_user(UserRow(user_id=user(number), password_hash=secret, created_ts=0))
        stop = trio.Event()
        binding = Binding(address=Address(host="127.0.0.1", port=0), app=build_app(run.plain_routes(node)))
        serve = partial(
            serve_bindings,
            [binding],
            stop=stop,
            grace_seconds=1,
            max_connections=streams + ROOM_FOR_MORE,
        )
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve)
            say(address.port)
            while await trio.to_thread.run_sync(sys.stdin.readline):
                say(address.port)
            stop.set()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
