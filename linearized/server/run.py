"""Starts a server: node, faces, listeners; and stops it when asked, in the order that loses nothing."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio

from linearized.config import Address, Config
from linearized.control import control_path
from linearized.garbage import collect_rarely
from linearized.server import clients, federation, providers, telemetry
from linearized.server.app import build_app
from linearized.server.control import commands, serve_control
from linearized.server.discovery import split
from linearized.server.federation import lookup
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.listener import Binding, serve_bindings, server_context
from linearized.server.node import Node
from linearized.server.opening import open_node
from linearized.server.telemetry import get_log
from linearized.server.web_page import web_routes

# How long the loop may keep the interpreter from the store's thread, which asks for it after each statement
# of a transaction. With Python's five milliseconds a commit takes ten times as long when the loop is busy.
SWITCH_SECONDS: Final = 0.0005
# What a client asks whose keys sign a log.
KEYS: Final = ("GET", "/_matrix/key/v2/query/{server_name}")


def tune_interpreter() -> None:
    """Set the interpreter up for a process that only serves: turns of its threads, and garbage."""
    sys.setswitchinterval(SWITCH_SECONDS)
    collect_rarely()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a started server listens; ports are the real ones when the settings said 0."""

    tls: Address
    client: Address | None


async def serve(
    config: Config,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a server until ``stop`` is set; without one, as a process of its own, until SIGTERM or SIGINT.

    As a process of its own it logs JSON to standard error, unless logging was set up before, and sets the
    interpreter up for a server.

    Stopping refuses new connections, lets running requests finish within ``limits.grace_seconds``, and then
    closes the store. Cancelling stops at once; the store is closed all the same. Reports where it listens
    once it does.

    Raises:
        ConfigError: a file or address of the settings cannot be used.
    """
    context = server_context(config.tls)
    log = get_log(server=config.server_name)
    async with trio.open_nursery() as nursery:
        if stop is None:
            if not structlog.is_configured():
                telemetry.configure()
            tune_interpreter()
            stop = trio.Event()
            await nursery.start(_stop_on_signal, stop)
        async with open_node(config) as node:
            bindings = [Binding(address=config.listen.tls, app=build_app(routes(node), log=log), tls=context)]
            if config.listen.client is not None:
                bindings.append(
                    Binding(address=config.listen.client, app=build_app(plain_routes(node), log=log))
                )
            async with trio.open_nursery() as control:
                await control.start(serve_control, control_path(config), commands(node))
                async with trio.open_nursery() as listeners:
                    addresses = await listeners.start(
                        partial(
                            serve_bindings,
                            bindings,
                            stop=stop,
                            max_connections=config.limits.max_connections,
                            grace_seconds=config.limits.grace_seconds,
                            log=log,
                        )
                    )
                    log.info("listening", addresses=[str(address) for address in addresses])
                    task_status.started(
                        Serving(tls=addresses[0], client=addresses[1] if config.listen.client else None)
                    )
                control.cancel_scope.cancel()
            log.info("stopped")
        nursery.cancel_scope.cancel()


def routes(node: Node) -> list[Route]:
    """Every face, for the TLS listener."""
    return [*federation.routes(node), *providers.routes(node), *client_routes(node)]


def plain_routes(node: Node) -> list[Route]:
    """What the plain listener serves: what is for people and their clients, and the keys they check it by.
    The rest is for servers.
    """
    keys = [route for route in lookup.routes(node) if (route.method, route.pattern) == KEYS]
    return [*client_routes(node), *keys]


def client_routes(node: Node) -> list[Route]:
    """What people and their clients are served, on every listener."""
    host, port = split(node.identity.name)
    base_url = f"https://{host}:{port or node.config.listen.tls.port}"

    async def well_known(_request: Request) -> Response:
        return json_response({"m.homeserver": {"base_url": base_url}})

    return [
        *clients.routes(node),
        Route("GET", "/.well-known/matrix/client", well_known),
        Route("GET", "/health", _health),
        *web_routes(),
    ]


async def _health(_request: Request) -> Response:
    return json_response({"status": "ok"})


async def _stop_on_signal(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            get_log().info("stopping", signal=signal.Signals(number).name)
            stop.set()
