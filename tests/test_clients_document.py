"""The example in ``docs/clients.md`` does what the document says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import trio

from linearized.client.offline import HistoryStore
from linearized.mimi.content import MimiContent, text
from tests.client.test_live import listening
from tests.client.test_real_server import open_club
from tests.server.support import PASSWORD

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "clients.md"


def example() -> dict[str, Any]:
    """The names that the document's code defines."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, DOCUMENT, "exec"), names)  # noqa: S102 - our own document
    return names


async def test_the_example_talks_and_keeps_a_checked_log(tmp_path: Path) -> None:
    names = example()
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        for user in ("alice", "bob"):
            await server.user(user)
        async with listening(server) as url, httpx.AsyncClient() as http:
            alice = await names["log_in"](http, url, "alice", PASSWORD)
            bob = await names["log_in"](http, url, "bob", PASSWORD)
            with trio.fail_after(60):
                room_id = await names["talk"](alice, bob)
                payload = await names["first_message"](bob)
                assert b"good morning" in payload
                assert MimiContent.decode(payload)
                bob.archive.enable()
                await alice.send(room_id, text("for later", salt=bytes(16)))
                await bob.catch_up()
                tablet = await names["log_in"](http, url, "bob", PASSWORD)
                await tablet.groups.join(room_id)
                await bob.catch_up()
                assert await names["hand_over"](bob, tablet) == ["for later"]
                with HistoryStore(tmp_path / "history.sqlite") as store:
                    kept = await names["keep"](alice, room_id, store)
                    assert kept == ["m.room.encrypted", room_id, str(alice.device.epoch(room_id))]
                    row = server.node.store.room(room_id)
                    assert row is not None
                    assert len(list(store.pdus(room_id))) == row.head_seq
