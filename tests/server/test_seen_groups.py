"""What commits show of rooms that others order: read from the last one, and what a breach of it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.presets import PRESETS
from linearized.room.policy import RoomPolicy
from linearized.room.seen_roles import NOTHING_SEEN, SeenGroup
from linearized.room.submissions import LocalEvent
from linearized.server import seen_groups
from linearized.server.auditing import AGAINST_ROLES
from linearized.server.rows import entry_row
from linearized.server.seen_groups import SeenGroups
from linearized.server.soft_failures import shown
from linearized.store.base import Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore
from tests.room.support import ALICE, NOW, ROOM, Member, handshake, new_room, participant_list
from tests.server.federation.support import BOB
from tests.server.federation.test_two_servers import pair

OPEN = PRESETS["open"]


async def test_the_policy_is_that_of_the_last_commit_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_groups, "MAX_KEPT", 1)
    room, alice = new_room(), Member(ALICE)
    data = {PARTICIPANT_LIST: participant_list((ALICE, OPEN.creator_role)), **OPEN.components()}
    entries = [*room.submit(alice.create(app_data=data), now=NOW).entries]
    alice.accept()
    entries += room.submit(handshake(alice, alice.joined().commit()), now=NOW).entries
    store = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        row = RoomRow(
            room_id=ROOM,
            version="dev.linearized.1",
            role=Role.PARTICIPANT,
            hub="a.example",
            head_seq=0,
            epoch=None,
        )
        rows = tuple(entry_row(new.event, seq=seq, epoch=None) for seq, new in enumerate(entries, 1))
        await store.append(RoomAppend(room_id=ROOM, room=row, entries=rows))
        found = store.room(ROOM)
        assert found is not None
        groups = SeenGroups(store)
        seen = groups.of(found)
        assert seen.policy is not None
        assert seen.policy.participants == {ALICE: OPEN.creator_role}
        # It is kept for the room that events came for last, until that is forgotten.
        assert groups.of(found) is seen
        groups.keep("!other:a.example", 1, NOTHING_SEEN)
        again = groups.of(found)
        assert again is not seen
        groups.forget(ROOM)
        assert groups.of(found) is not again
        nursery.cancel_scope.cancel()
    await store.aclose()


async def test_what_a_hub_took_against_the_roles_is_hidden_and_found(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b, _, room_id):
        row = b.node.store.room(room_id)
        assert row is not None
        policy = RoomPolicy(roles=OPEN.roles, participants={}, clients={})
        b.node.rooms.participating._seen.keep(room_id, row.head_seq, SeenGroup(policy=policy))
        name = LocalEvent(sender=ALICE, type="m.room.name", state_key="", content={"name": "Tea"})
        ticket = b.node.notifier.ticket(BOB)
        event_id = await a.node.rooms.send(room_id, name)
        with trio.fail_after(20):
            await ticket.wait()
        found = b.node.store.findings(room_id)
        assert [(each.reason, each.proven) for each in found] == [(AGAINST_ROLES, False)]
        assert event_id in found[0].document
        entry = b.node.store.entry_by_id(event_id)
        assert entry is not None
        assert shown(b.node.store, [entry]) == []
        # It is said once, and stops nothing.
        await a.node.rooms.send(room_id, name)
        b.node.audits.require_trusted(row)
