"""An unmodified matrix-nio, in an environment of its own, uses what the client API has beside rooms."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.client.test_live import listening
from tests.client.test_real_server import open_club
from tests.server.support import PASSWORD

SCRIPT = Path(__file__).with_name("nio_peer.py")


@pytest.fixture
def python() -> str:
    """The interpreter of that environment. Where it is required it is there; elsewhere the test needs it."""
    found = os.environ.get("LINEARIZED_NIO_PYTHON")
    if found is None:
        if os.environ.get("LINEARIZED_PEERS_REQUIRED"):
            pytest.fail("LINEARIZED_NIO_PYTHON is not set")
        pytest.skip("matrix-nio has an environment of its own: LINEARIZED_NIO_PYTHON names its interpreter")
    return found


async def test_two_clients_see_what_the_other_reads_types_and_is_called(tmp_path: Path, python: str) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        for user in ("alice", "bob"):
            await server.user(user)
        async with listening(server) as url:
            request = json.dumps({"homeserver": url, "password": PASSWORD}).encode()
            run = partial(trio.run_process, [python, str(SCRIPT)], stdin=request, capture_stdout=True)
            with trio.fail_after(60):
                done: subprocess.CompletedProcess[bytes] = await run(capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    seen = json.loads(done.stdout)
    sent = seen.pop("sent")
    assert seen == {
        "typing": [["@bob:a.example"]],
        "receipts": [["@bob:a.example", "m.read", sent]],
        "markers": [sent],
        "name": "Alice",
        "name_in_room": "Alice",
    }
