"""The two providers of the demonstration, made and run with the ``linearized`` command."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linearized.demo.processes import Service, run_command

# Our own command, by the interpreter that runs us: nothing has to be on the PATH.
LINEARIZED = (sys.executable, "-m", "linearized")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider: its directory, where it listens, and the process."""

    name: str
    directory: Path
    port: int
    ca: Path
    service: Service

    @property
    def url(self) -> str:
        """Base URL of its client API."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Path:
        """Its settings file."""
        return self.directory / "linearized.toml"

    @property
    def database(self) -> Path:
        """Its database; SQLite keeps ``-wal`` and ``-shm`` beside it."""
        return self.directory / "data" / "linearized.sqlite3"

    async def command(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run a ``linearized`` command that takes ``--config`` on this provider; gives its output.

        Raises:
            StepFailed: it failed.
        """
        command = [*LINEARIZED, *words, "--config", str(self.settings)]
        return await run_command(command, log=self.service.log, stdin=stdin)


async def make_provider(
    directory: Path,
    name: str,
    *,
    port: int,
    ca: Path,
    peers: Mapping[str, int],
    bridged: Sequence[str] = (),
) -> Provider:
    """``linearized init``: a provider that listens on a loopback port and knows where its peers are."""
    log = directory.parent / "logs" / f"{name}.log"
    command = [*LINEARIZED, "init", str(directory), "--server-name", name]
    command += ["--listen", f"127.0.0.1:{port}", "--dev-ca", str(ca)]
    command += [word for domain in bridged for word in ("--bridge", domain)]
    command += [word for peer, at in peers.items() for word in ("--peer", f"{peer}=127.0.0.1:{at}")]
    await run_command(command, log=log)
    settings = directory / "linearized.toml"
    service = Service(
        name=name,
        command=[*LINEARIZED, "serve", "--config", str(settings)],
        log=log,
        health=f"https://127.0.0.1:{port}/health",
        ca=ca / "ca.pem",
    )
    return Provider(name=name, directory=directory, port=port, ca=ca / "ca.pem", service=service)


async def create_user(provider: Provider, localpart: str, password: str) -> str:
    """``linearized user create`` while the server is stopped; gives the user ID."""
    output = await provider.command(
        "user", "create", localpart, "--password-file", "-", stdin=password.encode() + b"\n"
    )
    return output.decode().strip()
