"""For the tests of sliding sync."""

from __future__ import annotations

from typing import Any

from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Answer, Client, Server

SYNC = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
ROOM = "!r:a.example"
ALL = {"ranges": [[0, 99]], "timeline_limit": 20, "required_state": []}


async def ask(client: Client, body: Any, pos: str | None = None, **query: Any) -> Answer:
    return await client.call("POST", SYNC, body, {**query, **({"pos": pos} if pos is not None else {})})


async def slide(client: Client, pos: str | None = None, wait: int = 0, **body: Any) -> Any:
    body = body or {"lists": {"all": ALL}}
    return (await ask(client, body, pos, timeout=wait)).ok()


def seqs(value: Any) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in value["timeline"]]


def state(value: Any) -> set[tuple[str, str]]:
    return {(event["type"], event["state_key"]) for event in value["required_state"]}


async def fill(server: Server, user_id: str, *, room_id: str = ROOM, last: int = 5) -> None:
    entries = [entry(room_id, seq) for seq in range(2, last + 1)]
    await append(server.store, room_id, member(room_id, 1, user_id, "join"), *entries)
