"""Unmodified client libraries that run as programs of their own, in environments that are not ours."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.client.test_live import listening
from tests.client.test_real_server import open_club
from tests.server.support import PASSWORD

PATIENCE_S: Final = 100  # far more than any of them takes, on a machine that does much else


def environment(variable: str, what: str) -> str:
    """Where an environment is. Where it is required it is there; elsewhere the test needs it."""
    found = os.environ.get(variable)
    if found is not None:
        return found
    if os.environ.get("LINEARIZED_PEERS_REQUIRED"):
        pytest.fail(f"{variable} is not set")
    pytest.skip(f"{what} has an environment of its own, which {variable} names")


async def run_with_two_users(directory: Path, command: list[str]) -> dict[str, Any]:
    """Let a program talk to a provider ``a.example`` with the users alice and bob.

    It is given ``homeserver`` and ``password`` as JSON; the last line that it writes is JSON, and the answer.
    """
    async with open_club(directory) as club:
        server = await club.server("a.example")
        for user in ("alice", "bob"):
            await server.user(user)
        async with listening(server) as url:
            request = json.dumps({"homeserver": url, "password": PASSWORD}).encode()
            run = partial(trio.run_process, command, stdin=request, capture_stdout=True)
            with trio.fail_after(PATIENCE_S):
                done: subprocess.CompletedProcess[bytes] = await run(capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
