"""The bridge of the demonstration, made and run with the ``linearized bridge`` commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from linearized.demo.homeserver import SERVER_NAME
from linearized.demo.processes import Service, run_command
from linearized.demo.providers import LINEARIZED, Provider
from linearized.protocol.identifiers import parse_user_id, user_id_from_uri

BOT_TOKEN_FILE = "bridge.token"  # noqa: S105 - a file name
# The bridge's default namespace of ghosts.
PREFIX = "_lin_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """The bridge: its settings, its registration, the process."""

    settings: Path
    registration: Path
    service: Service

    @property
    def bot(self) -> str:
        """The bridge's own user on the homeserver."""
        return f"@{PREFIX}bot:{SERVER_NAME}"

    def ghost(self, uri: str) -> str:
        """The Matrix user that stands for a user of another provider (lower-case names only)."""
        localpart, provider = parse_user_id(user_id_from_uri(uri))
        return f"@{PREFIX}{provider}_{localpart}:{SERVER_NAME}"

    async def import_room(self, matrix_room: str) -> str:
        """``linearized bridge import``: gives the room's ID on the provider.

        Raises:
            StepFailed: it failed.
        """
        command = [*LINEARIZED, "bridge", "import", "--config", str(self.settings), matrix_room]
        output = await run_command(command, log=self.service.log)
        return output.decode().split()[-1]


async def make_bridge(directory: Path, provider: Provider, *, homeserver_url: str, port: int) -> Bridge:
    """Make the bridge for the demonstration's homeserver and its registration; nothing runs yet."""
    log = directory.parent / "logs" / "bridge.log"
    command = [*LINEARIZED, "bridge", "init", str(directory), "--provider", str(provider.settings)]
    command += ["--homeserver", homeserver_url, "--listen", f"127.0.0.1:{port}"]
    await run_command(command, log=log)
    settings, registration = directory / "bridge.toml", directory / "registration.yaml"
    await run_command(
        [*LINEARIZED, "bridge", "registration", "--config", str(settings), str(registration)], log=log
    )
    service = Service(
        name="bridge",
        command=[*LINEARIZED, "bridge", "run", "--config", str(settings)],
        log=log,
        # It answers nobody without the homeserver's token; that it says so means that it listens.
        health=f"http://127.0.0.1:{port}/",
        healthy=httpx.codes.UNAUTHORIZED,
    )
    return Bridge(settings=settings, registration=registration, service=service)
