"""For the tests of sync."""

from __future__ import annotations

from typing import Any

from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Server

ROOM = "!r:a.example"


def seqs(section: Any) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in section["timeline"]["events"]]


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


async def fill(server: Server, user_id: str, last: int) -> None:
    entries = [entry(ROOM, seq) for seq in range(3, last + 1)]
    name = entry(ROOM, 2, "m.room.name", state_key="", content={"name": "old"})
    await append(server.store, ROOM, member(ROOM, 1, user_id, "join"), name, *entries)
