"""What another server is served, by the cases of ``tests/protocol/fixtures/visibility.json``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import trio

from linearized.server import histories
from linearized.server.federation import visibility
from linearized.server.federation.visibility import projected, visible_until
from linearized.store.base import Store
from linearized.store.sqlite import SqliteStore
from tests.protocol.test_visibility import CASES
from tests.server.clients.rows import append, entries_of, entry, member
from tests.server.clients.rows import visibility as visibility_entry

ROOM = "!r:a.example"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened
        nursery.cancel_scope.cancel()


def served(store: Store, server: str = "b.example") -> tuple[list[int], list[int]]:
    """The entries a server may know of, and those of them whose content it does not see."""
    node: Any = SimpleNamespace(store=store)
    row = store.room(ROOM)
    assert row is not None
    until = visible_until(node, row, server) or 0
    entries = [entry for entry in store.entries(ROOM, after=0, limit=100) if entry.seq <= until]
    pdus = projected(node, row, server, entries)
    redacted = [
        entry.seq for entry, pdu in zip(entries, pdus, strict=True) if orjson.loads(pdu)["content"] == {}
    ]
    return [entry.seq for entry in entries], redacted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
async def test_a_server_is_served_what_its_users_may_see(store: Store, case: dict[str, Any]) -> None:
    await append(store, ROOM, *entries_of(ROOM, case["log"]))
    assert served(store) == (case["served"], case.get("redacted", []))


async def test_a_page_asks_for_no_more_members_than_it_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"@user{number}:b.example" for number in range(20)]
    await append(
        store,
        ROOM,
        visibility_entry(ROOM, 1, "joined"),
        *(member(ROOM, seq, user, "join") for seq, user in enumerate(users, 2)),
        entry(ROOM, 22, content={"body": "x"}),
    )
    asked: list[str] = []
    changes = histories.membership_changes

    def counted(*args: Any) -> Any:
        asked.append(args[1].user_id)
        return changes(*args)

    monkeypatch.setattr(visibility, "membership_changes", counted)
    node: Any = SimpleNamespace(store=store)
    row = store.room(ROOM)
    assert row is not None
    last = store.entries(ROOM, after=21, limit=1)
    assert projected(node, row, "b.example", last) == [last[0].pdu]
    assert len(asked) == 1
    assert projected(node, row, "b.example", []) == []
