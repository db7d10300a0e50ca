"""The part of the contract about a log that takes the place of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import AppendConflict, StoreError
from linearized.store.base import FollowerRow, Role, RoomAppend, Store
from linearized.store.moving import Adoption
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM, entry, event_id, group, member, new_room, room

PARTICIPANT = room(role=Role.PARTICIPANT)
HUB = replace(PARTICIPANT, role=Role.HUB, hub="b.example", epoch=3)

# The hub's log, and what a participant has of it: the state at its join, and what came since, numbered anew.
LOG = (
    entry(1, kind="m.room.create", state_key=""),
    member(2, ALICE, "join"),
    entry(3),
    entry(4, kind="m.room.name", state_key=""),
    member(5, BOB, "join"),
    entry(6, epoch=3),
    entry(7, kind="m.room.hub", state_key="", epoch=3),
)
COPY = tuple(replace(LOG[seq - 1], seq=number) for number, seq in enumerate((1, 2, 5, 6, 7), 1))
OFFSET = len(LOG) - len(COPY)


class MovingContract:
    """Staging and adopting."""

    async def test_a_log_is_staged_in_pieces_beside_the_copy(self, store: Store) -> None:
        await store.append(RoomAppend(room_id=ROOM, room=PARTICIPANT, entries=COPY))
        assert store.staged_head(ROOM) == 0
        await store.stage_entries(ROOM, LOG[:3])
        await store.stage_entries(ROOM, LOG[3:5])
        assert store.staged_head(ROOM) == 5
        assert store.staged(ROOM, after=0, limit=100) == list(LOG[:5])
        assert store.staged(ROOM, after=2, limit=2) == list(LOG[2:4])
        assert store.staged(ROOM, after=2, limit=-1) == []
        assert store.entries(ROOM, after=0, limit=100) == list(COPY)
        await store.drop_staged(ROOM)
        assert store.staged_head(ROOM) == 0
        await store.stage_entries(ROOM, LOG[:1])

    async def test_a_staged_log_has_no_holes_and_is_of_one_known_room(self, store: Store) -> None:
        await store.append(new_room())
        await store.stage_entries(ROOM, LOG[:2])
        for wrong in (LOG[3:4], LOG[1:2], (LOG[2], LOG[4]), (entry(3, room_id=OTHER_ROOM),)):
            with pytest.raises(AppendConflict):
                await store.stage_entries(ROOM, wrong)
        assert store.staged_head(ROOM) == 2
        with pytest.raises(StoreError):
            await store.stage_entries("!unknown:a.example", LOG[:1])
        assert store.staged_head("!unknown:a.example") == 0
        assert store.staged("!unknown:a.example", after=0, limit=1) == []
        await store.drop_staged("!unknown:a.example")

    async def test_a_staged_log_takes_the_place_of_the_copy_whole(self, store: Store) -> None:
        neighbours = [entry(seq, room_id=OTHER_ROOM) for seq in range(1, 4)]
        await store.append(RoomAppend(room_id=ROOM, room=PARTICIPANT, entries=COPY[:3]))
        await store.append(new_room(*neighbours, room_id=OTHER_ROOM))
        before = store.position()
        await store.append(RoomAppend(room_id=ROOM, entries=COPY[3:]))
        await store.put_follower(FollowerRow(room_id=ROOM, provider="x.example", protocol="mimi", cursor=1))
        await store.put_tree_hashes(ROOM, 1, 0, [bytes(32)])
        await store.stage_entries(ROOM, LOG)
        follower = FollowerRow(room_id=ROOM, provider="a.example", protocol="linearized", cursor=7)
        await store.adopt(Adoption(room=HUB, group=group(3), followers=(follower,)))

        assert store.entries(ROOM, after=0, limit=100) == list(LOG)
        assert [row.event_id for row in store.state_at(ROOM, seq=4)] == [event_id(ROOM, n) for n in (1, 2, 4)]
        found = store.room(ROOM)
        assert found == replace(HUB, head_seq=len(LOG))
        members = {row.user_id: (row.membership, row.seq) for row in store.memberships(ROOM)}
        assert members == {ALICE: ("join", 2), BOB: ("join", 5)}
        assert store.group(ROOM) == group(3)
        assert store.followers(ROOM) == [follower]
        assert store.tree_count(ROOM, 1) == 0
        assert store.staged_head(ROOM) == 0
        for row in LOG:
            assert store.entry_by_id(row.event_id) == row
        # Who had read the copy up to its third entry goes on with the same event in the log.
        assert store.changed_rooms(before) == {ROOM: 4 + OFFSET}
        # The log goes on, and the neighbours are as they were.
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(8),)))
        assert store.entries(OTHER_ROOM, after=0, limit=100) == neighbours

    async def test_a_log_that_ends_otherwise_does_not_take_the_place_of_the_copy(self, store: Store) -> None:
        await store.append(RoomAppend(room_id=ROOM, room=PARTICIPANT, entries=COPY))
        await store.stage_entries(ROOM, LOG[:-1])
        with pytest.raises(StoreError):
            await store.adopt(Adoption(room=HUB))
        assert store.entries(ROOM, after=0, limit=100) == list(COPY)
        assert store.staged_head(ROOM) == len(LOG) - 1
        await store.append(RoomAppend(room_id=OTHER_ROOM, room=room(OTHER_ROOM)))
        with pytest.raises(StoreError):
            await store.adopt(Adoption(room=replace(HUB, room_id=OTHER_ROOM)))
        with pytest.raises(StoreError):
            await store.adopt(Adoption(room=replace(HUB, room_id="!unknown:a.example")))
