"""The programs of these tests: a homeserver, two providers, and the bridge of one of them, as processes.

The bridge's provider is a.example; the people on the other side are users of b.example. Everything is made
once and shared by the tests of this directory: each makes rooms of its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import trio
import trustme
from click.testing import CliRunner

from linearized.cli import main
from linearized.demo.homeserver import SERVER_NAME, Federation, HomeserverFiles, write_settings
from linearized.demo.ports import free_ports
from linearized.demo.processes import Service
from linearized.demo.providers import LINEARIZED
from linearized.demo.world import program
from linearized.exceptions import ConfigError

A, B = "a.example", "b.example"
BOT = "_lin_bot"
PASSWORD = "a password for a test"
# People of the two providers, who have accounts before these run; each test has its own.
PEOPLE = {A: ("amy", "al"), B: ("bea", "bill", "bo", "bess", "brad", "bree")}
# What the homeserver lost is missing for this long.
AUDIT_SECONDS = 2


def provider_of(name: str) -> str:
    """Whose user one of ``PEOPLE`` is."""
    return next(provider for provider, names in PEOPLE.items() if name in names)


def synapse() -> Path:
    try:
        return program("LINEARIZED_SYNAPSE_PYTHON", "synapse")
    except ConfigError as missing:
        if os.environ.get("LINEARIZED_PEERS_REQUIRED"):
            raise
        return pytest.skip(str(missing))


def linearized(*words: str | Path, stdin: str | None = None) -> str:
    """One command, in this process: starting Python for each would take longer than all tests here."""
    result = CliRunner().invoke(main, [str(word) for word in words], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def homeserver(files: HomeserverFiles, log: Path) -> Service:
    """A homeserver that can be started; its key depends on its name only."""
    write_settings(files)
    seed = base64.b64encode(hashlib.sha256(files.server_name.encode()).digest()).decode().rstrip("=")
    (files.directory / "signing.key").write_text(f"ed25519 a_test {seed}\n")
    command = [str(files.python), "-m", "synapse.app.homeserver", "-c", str(files.settings)]
    return Service(name=files.server_name, command=command, log=log, health=f"{files.url}/health")


@dataclass(kw_only=True)
class Stage:
    """Every program, and where it is."""

    directory: Path
    files: HomeserverFiles
    homeserver: Service
    a: Service
    b: Service
    bridge: Service
    a_url: str
    b_url: str
    bridge_settings: Path
    services: list[Service] = field(default_factory=list)

    @property
    def domain(self) -> str:
        return self.files.server_name

    @property
    def bot(self) -> str:
        return f"@{BOT}:{self.domain}"

    @property
    def ca(self) -> Path:
        return self.directory / "ca" / "ca.pem"

    def ghost(self, name: str) -> str:
        """The Matrix user that stands for one of ``PEOPLE``."""
        return f"@_lin_{provider_of(name)}_{name}:{self.domain}"

    def url_of(self, provider: str) -> str:
        """Where clients of a provider find it."""
        return self.a_url if provider == A else self.b_url

    async def start(self, *others: Service) -> None:
        """Start everything, and ``others``. The bridge waits for the rest by itself."""
        async with trio.open_nursery() as nursery:
            for service in (self.homeserver, self.a, self.b, self.bridge, *others):
                self.services.append(service)
                nursery.start_soon(service.start)

    async def stop(self) -> None:
        """Kill everything: nobody needs these files any more."""
        async with trio.open_nursery() as nursery:
            for service in self.services:
                nursery.start_soon(service.kill)


def _provider(directory: Path, name: str, port: int, *more: str) -> Service:
    init = ["init", str(directory / name[0]), "--server-name", name, "--listen", f"127.0.0.1:{port}"]
    linearized(*init, "--dev-ca", directory / "ca", *more)
    settings = directory / name[0] / "linearized.toml"
    # A test is one address and a few accounts that do what hundreds do.
    limits = "".join(f"{kind}_rate = 10000\n" for kind in ("address", "account", "provider", "group"))
    settings.write_text(f"{settings.read_text()}\n[limits]\n{limits}")
    return Service(
        name=name,
        command=[*LINEARIZED, "serve", "--config", str(settings)],
        log=directory / f"{name}.log",
        health=f"https://127.0.0.1:{port}/health",
        ca=directory / "ca" / "ca.pem",
    )


def federation_at(directory: Path, port: int) -> Federation:
    """Where a homeserver is to be reached by others, with a certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    found = Federation(port=port, certificate=directory / "tls.pem", key=directory / "tls.key")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(found.key)
    issued.cert_chain_pems[0].write_to_path(found.certificate)
    return found


def make_stage(
    directory: Path, *, federation: Federation | None = None, audit_seconds: int = AUDIT_SECONDS
) -> Stage:
    """Write every program's files; nothing runs yet. Not to be called inside trio."""
    matrix_port, a_port, b_port, bridge_port = free_ports(4)
    domain = SERVER_NAME if federation is None else f"localhost:{federation.port}"
    a = _provider(directory, A, a_port, "--peer", f"{B}=127.0.0.1:{b_port}", "--bridge", domain)
    b = _provider(directory, B, b_port, "--peer", f"{A}=127.0.0.1:{a_port}")
    for provider, names in PEOPLE.items():
        for name in names:
            words = ("user", "create", name, "--config", directory / provider[0] / "linearized.toml")
            linearized(*words, "--password-file", "-", stdin=f"{PASSWORD}\n")
    matrix_url, settings = f"http://127.0.0.1:{matrix_port}", directory / "bridge" / "bridge.toml"
    init = [
        "bridge",
        "init",
        str(directory / "bridge"),
        "--provider",
        str(directory / "a" / "linearized.toml"),
    ]
    # Neither side runs yet, which is no failure of making the files.
    CliRunner().invoke(main, [*init, "--homeserver", matrix_url, "--listen", f"127.0.0.1:{bridge_port}"])
    settings.write_text(f"{settings.read_text()}\naudit_seconds = {audit_seconds}\nread_receipts = false\n")
    files = HomeserverFiles(
        directory=directory / "synapse",
        port=matrix_port,
        python=synapse(),
        registrations=(directory / "bridge" / "registration.yaml",),
        shared_secret=secrets.token_urlsafe(24),
        server_name=domain,
        federation=federation,
    )
    bridge = Service(
        name="bridge",
        command=[*LINEARIZED, "bridge", "run", "--config", str(settings)],
        log=directory / "bridge.log",
        # It answers nobody without the homeserver's token; that it says so means that it listens.
        health=f"http://127.0.0.1:{bridge_port}/",
        healthy=httpx.codes.UNAUTHORIZED,
    )
    return Stage(
        directory=directory,
        files=files,
        homeserver=homeserver(files, directory / "synapse.log"),
        a=a,
        b=b,
        bridge=bridge,
        a_url=f"https://127.0.0.1:{a_port}",
        b_url=f"https://127.0.0.1:{b_port}",
        bridge_settings=settings,
    )
