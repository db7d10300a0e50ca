"""An unmodified matrix-nio, in an environment of its own, uses what the client API has beside rooms."""

from __future__ import annotations

from pathlib import Path

from tests.interop.programs import environment, run_with_two_users

SCRIPT = Path(__file__).with_name("nio_peer.py")


async def test_two_clients_see_what_the_other_reads_types_and_is_called(tmp_path: Path) -> None:
    python = environment("LINEARIZED_NIO_PYTHON", "matrix-nio")
    seen = await run_with_two_users(tmp_path, [python, str(SCRIPT)])
    sent = seen.pop("sent")
    assert seen == {
        "typing": [["@bob:a.example"]],
        "receipts": [["@bob:a.example", "m.read", sent]],
        "markers": [sent],
        "name": "Alice",
        "name_in_room": "Alice",
    }
