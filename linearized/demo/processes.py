"""The demonstration's programs as child processes: started, watched, killed, ended by their own PID."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import trio

from linearized.demo.failures import StepFailed, tail

# Synapse needs 2 to 5 s alone on a machine, and was seen to need more than 60 s on one with a load of ten. A
# program that exited is not waited for.
HEALTH_DEADLINE_S = 180.0
HEALTH_POLL_S = 0.1
# A server that has not finished its requests by then is killed; nothing acknowledged may be lost by that.
STOP_DEADLINE_S = 10.0
COMMAND_DEADLINE_S = 120.0


@dataclass(slots=True, kw_only=True)
class Service:
    """One program. ``log`` receives its standard output and error, appended over restarts.

    ``health`` is the URL that answers ``healthy`` when it is ready (None: ready when started).
    """

    name: str
    command: Sequence[str]
    log: Path
    health: str | None = None
    healthy: int = httpx.codes.OK
    ca: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: trio.Process | None = None
    _log_file: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process ID while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it and wait until it is healthy.

        Raises:
            StepFailed: it exited or did not become healthy in time; carries the end of its log.
        """
        self._log_file = self.log.open("ab")
        # A process group of its own: Ctrl-C reaches us alone, and we end the others in order.
        self._process = await trio.lowlevel.open_process(
            list(self.command),
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment},
            process_group=0,
        )
        if self.health is None:
            return
        with trio.move_on_after(HEALTH_DEADLINE_S):
            await self._until_healthy(self._process, self.health)
            return
        raise StepFailed(f"{self.name} was not healthy after {HEALTH_DEADLINE_S:.0f} s", tail(self.log))

    async def _until_healthy(self, process: trio.Process, health: str) -> None:
        trusted = ssl.create_default_context(cafile=str(self.ca)) if self.ca is not None else True
        async with httpx.AsyncClient(verify=trusted) as client:
            while True:
                if process.poll() is not None:
                    raise StepFailed(f"{self.name} exited with status {process.returncode}", tail(self.log))
                try:
                    response = await client.get(health, timeout=5.0)
                except httpx.TransportError:
                    pass  # not listening yet
                else:
                    if response.status_code == self.healthy:
                        return
                await trio.sleep(HEALTH_POLL_S)

    async def kill(self) -> None:
        """End it as a power cut would (SIGKILL) and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end (SIGTERM); kill it if it does not within the deadline."""
        with trio.move_on_after(STOP_DEADLINE_S):
            await self._end(signal.SIGTERM)
            return
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        await process.wait()
        self._process = None
        if self._log_file is not None:
            self._log_file.close()


@asynccontextmanager
async def ending(services: Sequence[Service]) -> AsyncIterator[None]:
    """Stop every service on the way out, all at once, whatever happened inside, cancellation included."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for service in services:
                    nursery.start_soon(service.stop)


async def run_command(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes:
    """Run a program to its end and give its standard output; standard error is appended to ``log``.

    Raises:
        StepFailed: a non-zero exit status, or none before the deadline.
    """
    with log.open("ab") as errors:
        try:
            with trio.fail_after(COMMAND_DEADLINE_S):
                done = await trio.run_process(
                    list(command),
                    stdin=stdin,
                    capture_stdout=True,
                    stderr=errors,
                    check=False,
                    env={**os.environ, **(environment or {})},
                )
        except trio.TooSlowError:
            raise StepFailed(
                f"{Path(command[0]).name} took over {COMMAND_DEADLINE_S:.0f} s", tail(log)
            ) from None
    if done.returncode != 0:
        shown = " ".join(command[1:5])
        raise StepFailed(f"{shown} … exited with status {done.returncode}", tail(log))
    return done.stdout
