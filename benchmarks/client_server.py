"""Our server of ``bench_clients``: accounts, one large room, and the client API on a loopback port.

It prints its port once it listens, and ends with its standard input. The large room is made by the hub, with
as little else as can be; everything that is measured comes over the client API and is flushed to the disk.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from benchmarks.history_server import NAME, PASSWORD, fill
from linearized.config import Address, LimitsConfig
from linearized.provider_files import ProviderPlan, create_provider
from linearized.server import run, telemetry
from linearized.server.app import build_app
from linearized.server.clients.passwords import hash_password
from linearized.server.listener import Binding, serve_bindings
from linearized.server.opening import open_node
from linearized.store.base import UserRow

NO_LIMIT = 1_000_000  # requests a second; as for the homeserver beside it


async def main(directory: Path, users: list[str], large: int) -> None:
    telemetry.configure(logging.ERROR)
    config = create_provider(directory, ProviderPlan(server_name=NAME, dev_ca=directory / "ca", peers={}))
    limits = LimitsConfig(address_rate=NO_LIMIT, account_rate=NO_LIMIT)
    run.tune_interpreter()
    async with open_node(replace(config, limits=limits)) as node:
        if large:
            await fill(node, large)
        secret = hash_password(PASSWORD, salt=b"salt")
        for name in users:
            row = UserRow(user_id=f"@{name}:{NAME}", password_hash=secret, created_ts=0)
            await node.store.put_user(row)
        stop = trio.Event()
        binding = Binding(address=Address(host="127.0.0.1", port=0), app=build_app(run.plain_routes(node)))
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(partial(serve_bindings, [binding], stop=stop, grace_seconds=1))
            print(json.dumps({"port": address.port}), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            stop.set()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]))
