"""A provider and a bridge as processes, measured from outside, beside a homeserver in memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio
from click.testing import CliRunner

from bridges.matrix.config import BridgeConfig, load_bridge_config
from bridges.matrix.links import Phase
from linearized.cli import main
from linearized.demo.ports import free_ports
from linearized.demo.processes import Service
from linearized.demo.providers import LINEARIZED
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, MatrixRoom
from tests.bridges.imports.served import serve_homeserver
from tests.bridges.support import ALICE, BOT, MATRIX_ROOM

PROVIDER = "a.example"


def long_past(homeserver: FakeHomeserver, events: int, members: int) -> MatrixRoom:
    """A room of so many people, with so many events, most of them what they said."""
    room = homeserver.create(MATRIX_ROOM, ALICE)
    users = [ALICE, *(f"@member{number}:{DOMAIN}" for number in range(members - 1))]
    for user in users[1:]:
        homeserver.users.add(user)
        homeserver.member(room, user, "join", push=False)
    for number in range(events - len(room.timeline)):
        homeserver.say(room, users[number % members], f"line {number} of a long past", push=False)
    return room


def peak_of(pid: int) -> int:
    """The most memory, in bytes, that a process ever had at once: what its kernel counted as resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the import of the one room is: its phase (none before it begins), the events that were read and
    that were imported or refused, and the MLS clients that were made, the bot's included.
    """

    phase: Phase | None
    read: int
    imported: int
    clients: int


@dataclass(kw_only=True)
class Processes:
    """The homeserver with its port, and the programs. ``peaks`` has the most memory that any life of each
    ever had, in bytes.
    """

    homeserver: FakeHomeserver
    port: int
    provider: Service
    bridge: Service
    settings: Path
    peaks: Counter[str] = field(default_factory=Counter)
    config: BridgeConfig = field(init=False)

    def __post_init__(self) -> None:
        self.config = load_bridge_config(self.settings)

    def note_peaks(self) -> None:
        """Look how much memory each process had at most until now."""
        for service in (self.provider, self.bridge):
            if service.pid is not None:
                self.peaks[service.name] = max(self.peaks[service.name], peak_of(service.pid))

    async def kill_bridge(self) -> None:
        """Kill it (SIGKILL) and start it again."""
        self.note_peaks()
        await self.bridge.kill()
        await self.bridge.start()

    async def invite(self, room: MatrixRoom) -> None:
        """Invite the bot to a room, which begins the import."""
        event = self.homeserver.member(room, BOT, "invite", sender=ALICE, push=False)
        async with httpx.AsyncClient() as http:
            answer = await http.put(
                f"http://{self.config.listen}/_matrix/app/v1/transactions/1",
                headers={"Authorization": f"Bearer {self.config.hs_token}"},
                json={"events": [event]},
            )
        assert answer.status_code == httpx.codes.OK

    def progress(self) -> Progress:
        """How far the bridge is, as its database says."""
        with closing(sqlite3.connect(f"file:{self.config.database}?mode=ro", uri=True)) as reader:
            ((phase,),) = reader.execute("SELECT MAX(phase) FROM rooms")
            ((read, imported),) = reader.execute("SELECT COUNT(*), COUNT(*) - COUNT(event) FROM history")
            ((clients,),) = reader.execute("SELECT COUNT(*) FROM devices")
        return Progress(phase=Phase(phase) if phase else None, read=read, imported=imported, clients=clients)


def _linearized(*words: str | Path) -> None:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def make_processes(directory: Path) -> Processes:
    """Write both programs' files; nothing runs yet. Not to be called inside trio."""
    homeserver_port, provider_port, bridge_port = free_ports(3)
    init: list[str | Path] = ["init", directory / "provider", "--server-name", PROVIDER, "--bridge", DOMAIN]
    _linearized(*init, "--listen", f"127.0.0.1:{provider_port}", "--dev-ca", directory / "ca")
    provider = directory / "provider" / "linearized.toml"
    homeserver = f"http://127.0.0.1:{homeserver_port}"
    words: list[str | Path] = [
        "bridge",
        "init",
        directory / "bridge",
        "--provider",
        provider,
        "--homeserver",
        homeserver,
    ]
    # Nobody answers yet, which is no failure of making the files.
    _linearized(*words, "--listen", f"127.0.0.1:{bridge_port}")
    settings = directory / "bridge" / "bridge.toml"
    return Processes(
        homeserver=FakeHomeserver(),
        port=homeserver_port,
        settings=settings,
        provider=Service(
            name="provider",
            command=[*LINEARIZED, "serve", "--config", str(provider)],
            log=directory / "provider.log",
            health=f"https://127.0.0.1:{provider_port}/health",
            ca=directory / "ca" / "ca.pem",
        ),
        bridge=Service(
            name="bridge",
            command=[*LINEARIZED, "bridge", "run", "--config", str(settings)],
            log=directory / "bridge.log",
            # It answers nobody without the homeserver's token; that it says so means that it listens.
            health=f"http://127.0.0.1:{bridge_port}/",
            healthy=httpx.codes.UNAUTHORIZED,
        ),
    )


@asynccontextmanager
async def running(made: Processes) -> AsyncIterator[None]:
    """The homeserver, and the two processes, which are killed at the end: nobody needs their files then."""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_homeserver, made.homeserver, made.port)
            async with trio.open_nursery() as starting:
                starting.start_soon(made.bridge.start)
                starting.start_soon(made.provider.start)
            yield
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await made.bridge.kill()
            await made.provider.kill()
