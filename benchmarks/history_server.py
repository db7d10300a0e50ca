"""The server of ``bench_history``: one room of so many events, and the client API on a loopback port.

A process of its own, so that what it costs is not counted as the client's. It prints one JSON object once it
listens, and ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from linearized.config import Address, StoreConfig
from linearized.provider_files import ProviderPlan, create_provider
from linearized.room.submissions import LocalEvent
from linearized.server import run, telemetry
from linearized.server.app import build_app
from linearized.server.clients.passwords import hash_password
from linearized.server.listener import Binding, serve_bindings
from linearized.server.node import Node
from linearized.server.opening import open_node
from linearized.store.base import UserRow

NAME = "a.example"
ROOM = "!bench:a.example"
USER = "@alice:a.example"
PASSWORD = "password of the benchmark"  # noqa: S105 - it guards nothing
VERSION = "I.1"
AT_ONCE = 250  # submissions in one batch


def submissions(events: int) -> Iterator[LocalEvent]:
    """A room of just so many entries: made, joined, then messages."""
    yield LocalEvent(sender=USER, type="m.room.create", state_key="", content={"room_version": VERSION})
    yield LocalEvent(sender=USER, type="m.room.member", state_key=USER, content={"membership": "join"})
    for number in range(events - 2):
        content = {"msgtype": "m.text", "body": f"message {number}: what one says in a sentence or two"}
        yield LocalEvent(sender=USER, type="m.room.message", content=content)


async def fill(node: Node, events: int) -> None:
    hub = node.rooms._hub
    made = iter(submissions(events))
    await hub.create(ROOM, VERSION, [next(made), next(made)])
    while batch := [(event, None) for event in islice(made, AT_ONCE)]:
        outcomes = await hub.submit_all(ROOM, batch)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes[0]


async def main(directory: Path, events: int) -> None:
    telemetry.configure(logging.ERROR)
    config = create_provider(directory, ProviderPlan(server_name=NAME, dev_ca=directory / "ca", peers={}))
    # Making the room is not what is measured.
    config = replace(config, store=StoreConfig(synchronous="OFF"))
    async with open_node(config) as node:
        began = time.monotonic()
        await fill(node, events)
        row = UserRow(user_id=USER, password_hash=hash_password(PASSWORD, salt=b"salt"), created_ts=0)
        await node.store.put_user(row)
        stop = trio.Event()
        binding = Binding(address=Address(host="127.0.0.1", port=0), app=build_app(run.plain_routes(node)))
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(partial(serve_bindings, [binding], stop=stop, grace_seconds=5))
            room = node.store.room(ROOM)
            assert room is not None
            assert room.head_seq == events
            say({"port": address.port, "fill_s": time.monotonic() - began, "cpu_s": cpu_seconds()})
            await trio.to_thread.run_sync(sys.stdin.read)
            say({"cpu_s": cpu_seconds()})
            stop.set()


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(value: dict[str, float]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
