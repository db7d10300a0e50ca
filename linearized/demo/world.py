"""Everything the steps of the demonstration share, and how it is set up and taken down."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from linearized.demo.bridging import Bridge, make_bridge
from linearized.demo.checks import Checks
from linearized.demo.existing_room import ExistingRoom, write_history_registration
from linearized.demo.homeserver import SERVER_NAME, HomeserverFiles, prepare
from linearized.demo.ports import free_ports
from linearized.demo.processes import Service, ending
from linearized.demo.providers import Provider, create_user, make_provider
from linearized.exceptions import ConfigError

A = "a.example"
B = "b.example"
DORA_PASSWORD = "dora has a password"  # noqa: S105 - on loopback, for a minute
READER_PASSWORD = "reader has a password"  # noqa: S105 - as above
# Says that a directory is ours to empty.
_MARKER = ".linearized-demo"


@dataclass(slots=True, kw_only=True)
class World:
    """The programs, and what the steps found out so far."""

    directory: Path
    progress: Progress
    checks: Checks
    homeserver_files: HomeserverFiles
    homeserver: Service
    homeserver_http: httpx.AsyncClient
    history_token: str
    a: Provider
    b: Provider
    bridge: Bridge
    dora: str  # user ID on B
    reader: str  # user ID on A
    existing: ExistingRoom | None = None
    room_id: str = ""  # on A
    matrix_order: list[str] = field(default_factory=list)  # event IDs of the existing room, oldest first
    secrets: list[str] = field(default_factory=list)  # what was said after bridging

    @property
    def room(self) -> ExistingRoom:
        """The existing room, once it has been made."""
        if self.existing is None:
            raise RuntimeError("the existing room is made in step 2")
        return self.existing

    @property
    def services(self) -> tuple[Service, ...]:
        """Every program, in the order of starting."""
        return (self.homeserver, self.a.service, self.bridge.service, self.b.service)


def program(variable: str, name: str) -> Path:
    """The interpreter of a program's environment: from the environment variable, or where `make` puts it."""
    given = os.environ.get(variable)
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = sorted((cache / "linearized").glob(f"{name}-[0-9]*/bin/python"))
    if not found:
        raise ConfigError(f"{name} is not installed: run `make {name}`, or set {variable}")
    return found[-1]


def empty_directory(directory: Path) -> None:
    """Make ``directory`` ours and empty.

    Raises:
        ConfigError: it holds something that is not from an earlier demonstration.
    """
    if directory.exists() and any(directory.iterdir()):
        if not (directory / _MARKER).exists():
            raise ConfigError(
                f"{directory} holds files that are not the demonstration's; choose another --dir"
            )
        _remove(directory)
    (directory / "logs").mkdir(parents=True)
    (directory / _MARKER).touch()


def _remove(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink()
    directory.rmdir()


def make_progress(console: Console) -> Progress:
    """A line for each thing under way."""
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


@asynccontextmanager
async def make_world(directory: Path, console: Console) -> AsyncIterator[World]:
    """Write every program's files into the absolute path ``directory``; nothing runs yet.

    Whatever runs when the block ends is stopped.
    """
    synapse = program("LINEARIZED_SYNAPSE_PYTHON", "synapse")
    empty_directory(directory)
    logs, ca = directory / "logs", directory / "ca"
    matrix_port, a_port, b_port, bridge_port = free_ports(4)
    history_token = secrets.token_urlsafe(24)
    history = directory / "history.yaml"
    write_history_registration(history, token=history_token, homeserver_token=secrets.token_urlsafe(24))
    a = await make_provider(directory / "a", A, port=a_port, ca=ca, peers={B: b_port}, bridged=(SERVER_NAME,))
    b = await make_provider(directory / "b", B, port=b_port, ca=ca, peers={A: a_port})
    homeserver_url = f"http://127.0.0.1:{matrix_port}"
    bridge = await make_bridge(directory / "bridge", a, homeserver_url=homeserver_url, port=bridge_port)
    files = HomeserverFiles(
        directory=directory / "synapse",
        port=matrix_port,
        python=synapse,
        registrations=(bridge.registration, history),
        shared_secret=secrets.token_urlsafe(24),
    )
    homeserver = await prepare(files, logs / "synapse.log")
    async with AsyncExitStack() as stack:
        world = World(
            directory=directory,
            progress=stack.enter_context(make_progress(console)),
            checks=Checks(),
            homeserver_files=files,
            homeserver=homeserver,
            homeserver_http=await stack.enter_async_context(httpx.AsyncClient(base_url=files.url)),
            history_token=history_token,
            a=a,
            b=b,
            bridge=bridge,
            dora=await create_user(b, "dora", DORA_PASSWORD),
            reader=await create_user(a, "reader", READER_PASSWORD),
        )
        await stack.enter_async_context(ending(world.services))
        yield world
