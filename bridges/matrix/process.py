"""The bridge as a process: its connections, its socket, and what the commands run."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import httpx
import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from hypercorn.typing import Framework

from bridges.matrix.checks import Check, check_both, check_encrypted_rooms
from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database, DatabaseInUse
from bridges.matrix.importer import ImportReport, Progress
from bridges.matrix.megolm.extensions import Extensions
from bridges.matrix.parts import Environment
from bridges.matrix.runner import Bridge
from linearized.exceptions import ConfigError

# Connections kept to each side; every puppet that sends at once needs one.
MAX_CONNECTIONS = 50

# Seconds that a homeserver's connection may be idle: a new one makes us look for what it may have forgotten.
KEEP_ALIVE = 600

log = structlog.get_logger(__name__)


def _clock() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def _connections(
    config: BridgeConfig,
) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient], None]:
    """Connections to the homeserver and to the provider."""
    tls = ssl.create_default_context()
    if config.trusted_ca is not None:
        try:
            tls.load_verify_locations(config.trusted_ca)
        except OSError as error:
            raise ConfigError(f"provider.trusted_ca: cannot use {config.trusted_ca}: {error}") from error
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    async with (
        httpx.AsyncClient(verify=tls, limits=limits, trust_env=False) as homeserver,
        httpx.AsyncClient(verify=tls, limits=limits, trust_env=False) as provider,
    ):
        yield homeserver, provider


@asynccontextmanager
async def open_bridge(config: BridgeConfig) -> AsyncGenerator[Bridge, None]:
    """A bridge with its database and connections, for as long as the context lasts.

    Raises:
        StoreError: another bridge has the database open.
    """
    database = Database(config.database)
    try:
        async with _connections(config) as (homeserver, provider):
            environment = Environment(
                homeserver=homeserver,
                provider=provider,
                clock=_clock,
                ids=secrets.token_urlsafe,
                random=secrets.token_bytes,
            )
            yield Bridge(config, database, environment)
    finally:
        database.close()


async def listen(bridge: Bridge, *, task_status: trio.TaskStatus[list[str]]) -> None:
    """Serve the application service; ``task_status`` is told the URLs.

    Raises:
        ConfigError: another program listens there, or the address is not ours.
    """
    address = bridge.config.listen
    host, _, port = address.rpartition(":")
    try:
        # Hypercorn leaves its socket open when it cannot have the address, so we try first.
        for probe in await trio.open_tcp_listeners(int(port), host=host.strip("[]")):
            await probe.aclose()
    except (OSError, ValueError) as error:
        raise ConfigError(f"bridge.listen: cannot listen on {address}: {error}") from error
    server = HypercornConfig()
    server.bind = [address]
    server.accesslog = None
    server.loglevel = "WARNING"  # that it listens is said by whoever asked for it
    server.include_server_header = False
    server.keep_alive_timeout = KEEP_ALIVE
    # Hypercorn's types are those of its own dictionaries, narrower than what ASGI promises.
    await serve(cast("Framework", bridge.app), server, task_status=task_status)


async def run_bridge(
    config: BridgeConfig, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the bridge until cancelled; ``task_status`` is told when it listens and both sides know it.

    Raises:
        ApiError: one side refuses us: a wrong token, or the homeserver has not loaded our registration.
        StoreError: another bridge has the database open.
    """
    async with open_bridge(config) as bridge, trio.open_nursery() as nursery:
        urls = await nursery.start(listen, bridge)
        log.info("listening", urls=urls)
        await bridge.start()
        task_status.started()
        await bridge.run()


async def run_checks(config: BridgeConfig) -> list[Check]:
    """Ask both sides whether they are there and know us; a bridge that is not running listens for as long.

    Raises:
        ConfigError: another program listens where the bridge should.
        StoreError: the database is not one of ours.
    """
    try:
        async with open_bridge(config) as bridge, trio.open_nursery() as nursery:
            # Should the homeserver deliver now, its events are kept for when the bridge runs.
            await nursery.start(listen, bridge)
            checks = await bridge.check()
            nursery.cancel_scope.cancel()
    except DatabaseInUse:  # the running bridge will answer
        async with _connections(config) as (homeserver, provider):
            checks = await check_both(config, homeserver=homeserver, provider=provider)
        database = Database.reading(config.database)
        try:
            missing = Extensions(database, probe="").missing()
        finally:
            database.close()
        return [*checks, check_encrypted_rooms(config, missing)]
    return checks


async def run_import(config: BridgeConfig, name: str, progress: Progress | None = None) -> ImportReport:
    """Import the room that an ID or alias names and stop; for use while the bridge is not running.

    Raises:
        ClientError: calling it again continues.
        ConfigError: there is no such room.
        StoreError: the bridge is running.
    """
    async with open_bridge(config) as bridge, trio.open_nursery() as nursery:
        await nursery.start(listen, bridge)
        await bridge.start()
        report = await bridge.import_room(await bridge.find_room(name), progress)
        nursery.cancel_scope.cancel()
    return report


async def run_unbridge(config: BridgeConfig, name: str) -> str:
    """Unbridge the room that an ID or alias names; returns its ID. For use while the bridge is not running.

    Raises:
        ClientError: calling it again continues.
        ConfigError: there is no such room, or it is not bridged.
        StoreError: the bridge is running.
    """
    async with open_bridge(config) as bridge, trio.open_nursery() as nursery:
        await nursery.start(listen, bridge)
        await bridge.start()
        room_id = await bridge.find_room(name)
        link = bridge.links.of_matrix(room_id)
        if link is None:
            raise ConfigError(f"{room_id} is not bridged")
        await bridge.unbridging.run(link)
        nursery.cancel_scope.cancel()
    return room_id
