"""Entries that local clients are not shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from linearized.room.submissions import NewEntry
from linearized.server.soft_failures import replies_for, shown
from linearized.store.base import Role, Store
from linearized.store.sqlite import SqliteStore
from tests.protocol.support import ROOM, local_event
from tests.server.clients.rows import append, entry, member

BOB = "@bob:b.example"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened
        nursery.cancel_scope.cancel()


async def marked(store: Store, *event_ids: str) -> None:
    """Remember that these entries of the room were soft-failed."""
    for event_id in event_ids:
        event = local_event()
        (reply,) = replies_for([NewEntry(seq=1, event=event, epoch=None, soft_failed="why")])
        assert (reply.key, reply.value) == (event.event_id, "why")
        await store.put_reply(type(reply)(scope=reply.scope, key=event_id, value=reply.value))


def test_only_soft_failed_entries_are_remembered() -> None:
    assert replies_for([NewEntry(seq=1, event=local_event(), epoch=None)]) == ()


async def test_soft_failed_entries_of_another_hubs_room_are_left_out(store: Store) -> None:
    entries = [member(ROOM, 1, BOB, "join"), entry(ROOM, 2), entry(ROOM, 3), entry(ROOM, 4)]
    await append(store, ROOM, *entries, role=Role.PARTICIPANT)
    await marked(store, entries[1].event_id, entries[3].event_id)
    assert shown(store, entries) == [entries[0], entries[2]]
    assert shown(store, [entries[1]]) == []
    assert shown(store, []) == []


async def test_a_room_of_our_own_has_none_and_is_not_looked_through(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(store, ROOM, entry(ROOM, 1), role=Role.HUB)
    monkeypatch.setattr(type(store), "replies", None)
    assert [found.seq for found in shown(store, [entry(ROOM, 1)])] == [1]
