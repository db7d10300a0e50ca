"""The part of the contract about a room's log."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from linearized.exceptions import AppendConflict, StoreError
from linearized.store.base import (
    EntryRow,
    MembershipRow,
    Reply,
    Role,
    RoomAppend,
    RoomRow,
    Store,
)
from tests.store.rows import (
    BOB,
    OTHER_ROOM,
    ROOM,
    entry,
    event_id,
    group,
    message,
    new_room,
    room,
    to_device,
)


class LogContract:
    """Appends, and what is read of a room."""

    async def test_an_unknown_room_reads_as_nothing(self, store: Store) -> None:
        assert store.room(ROOM) is None
        assert store.rooms() == []
        assert store.entries(ROOM, after=0, limit=10) == []
        assert store.entries_before(ROOM, before=10, limit=10) == []
        assert store.proposals(ROOM, after=0, limit=10) == []
        assert store.commit_entries(ROOM, after=0, limit=10) == []
        assert store.entry_by_id(event_id(ROOM, 1)) is None
        assert store.state_at(ROOM, seq=10) == []
        assert store.memberships(ROOM) == []
        assert store.group(ROOM) is None
        assert store.followers(ROOM) == []

    async def test_entries_come_back_byte_for_byte(self, store: Store) -> None:
        entries = (
            entry(1, kind="m.room.create", state_key=""),
            entry(2, epoch=0),
            entry(3, epoch=2**40, state_key=None),
        )
        await store.append(new_room(*entries))
        assert store.entries(ROOM, after=0, limit=10) == list(entries)

    async def test_the_handshakes_after_an_entry_are_found_among_the_others(self, store: Store) -> None:
        kinds = ["m.mls.proposal", "m.mls.commit", "m.mls.proposal", "m.room.encrypted", "m.mls.proposal"]
        await store.append(new_room(*(entry(seq, kind=kind) for seq, kind in enumerate(kinds, 1))))
        await store.append(new_room(entry(1, kind="m.mls.proposal", room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        assert [row.seq for row in store.proposals(ROOM, after=2, limit=10)] == [3, 5]
        assert [row.seq for row in store.proposals(ROOM, after=0, limit=2)] == [1, 3]
        assert [row.seq for row in store.commit_entries(ROOM, after=0, limit=10)] == [2]
        assert store.commit_entries(ROOM, after=2, limit=10) == []

    async def test_the_commit_before_an_entry_is_the_last_one(self, store: Store) -> None:
        kinds = ["m.room.create", "m.mls.commit", "m.room.encrypted", "m.mls.commit", "m.room.encrypted"]
        await store.append(new_room(*(entry(seq, kind=kind) for seq, kind in enumerate(kinds, 1))))
        await store.append(new_room(entry(1, kind="m.mls.commit", room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        found = [store.commit_before(ROOM, seq=seq) for seq in range(1, 7)]
        assert [row and row.seq for row in found] == [None, None, 2, 2, 4, 4]
        assert store.commit_before("!none:a.example", seq=5) is None

    async def test_a_room_knows_its_head_and_the_epoch_after_its_last_commit(self, store: Store) -> None:
        await store.append(new_room(entry(1), entry(2, epoch=7), entry(3)))
        assert store.room(ROOM) == RoomRow(
            room_id=ROOM, version="dev.linearized.1", role=Role.HUB, hub="a.example", head_seq=3, epoch=7
        )

    async def test_a_room_may_be_created_empty(self, store: Store) -> None:
        await store.append(new_room())
        assert store.room(ROOM) == room()

    async def test_a_room_that_exists_takes_its_new_hub_and_role_and_keeps_its_log(
        self, store: Store
    ) -> None:
        await store.append(new_room(entry(1, epoch=4)))
        moved = room(role=Role.PARTICIPANT, hub="b.example")
        await store.append(RoomAppend(room_id=ROOM, room=moved))
        assert store.room(ROOM) == RoomRow(
            room_id=ROOM, version=moved.version, role=Role.PARTICIPANT, hub="b.example", head_seq=1, epoch=4
        )

    async def test_rooms_are_listed_in_the_order_they_came(self, store: Store) -> None:
        await store.append(new_room(room_id=ROOM))
        await store.append(new_room(room_id="!a:a.example"))
        assert [row.room_id for row in store.rooms()] == [ROOM, "!a:a.example"]

    async def test_pages_of_a_log_fit_together_in_both_directions(self, store: Store) -> None:
        await store.append(new_room(*[entry(seq) for seq in range(1, 8)]))
        # A neighbour on either side must not leak into the pages.
        await store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))

        def seqs(rows: list[EntryRow]) -> list[int]:
            return [row.seq for row in rows]

        assert seqs(store.entries(ROOM, after=0, limit=3)) == [1, 2, 3]
        assert seqs(store.entries(ROOM, after=3, limit=100)) == [4, 5, 6, 7]
        assert seqs(store.entries(ROOM, after=7, limit=3)) == []
        assert seqs(store.entries(ROOM, after=-5, limit=1)) == [1]
        assert seqs(store.entries_before(ROOM, before=8, limit=3)) == [7, 6, 5]
        assert seqs(store.entries_before(ROOM, before=5, limit=100)) == [4, 3, 2, 1]
        assert seqs(store.entries_before(ROOM, before=2**60, limit=1)) == [7]
        assert seqs(store.entries_before(ROOM, before=1, limit=3)) == []
        assert seqs(store.entries(OTHER_ROOM, after=0, limit=9)) == [1]
        assert store.entries(ROOM, after=2**60, limit=1) == []

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_a_limit_below_one_reads_nothing(self, store: Store, limit: int) -> None:
        await store.append(new_room(entry(1)))
        assert store.entries(ROOM, after=0, limit=limit) == []
        assert store.entries_before(ROOM, before=2, limit=limit) == []

    async def test_an_entry_is_found_by_its_whole_event_id_in_any_room(self, store: Store) -> None:
        await store.append(new_room(entry(1), entry(2)))
        await store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        assert store.entry_by_id(event_id(ROOM, 2)) == entry(2)
        assert store.entry_by_id(event_id(OTHER_ROOM, 1)) == entry(1, room_id=OTHER_ROOM)
        assert store.entry_by_id(event_id(ROOM, 2)[:-1]) is None
        assert store.entry_by_id("") is None

    @pytest.mark.parametrize("seqs", [(3,), (1,), (2, 4), (2, 2), (0,)])
    async def test_an_append_that_does_not_continue_the_log_is_refused_whole(
        self, store: Store, seqs: tuple[int, ...]
    ) -> None:
        await store.append(new_room(entry(1)))
        before = store.position()
        stale = RoomAppend(
            room_id=ROOM,
            entries=tuple(entry(seq, salt="late") for seq in seqs),
            group=group(9),
            memberships=(MembershipRow(room_id=ROOM, user_id=BOB, membership="join", seq=1),),
            replies=(Reply(scope="s", key="k", value="v"),),
            to_device=(to_device(1),),
        )
        with pytest.raises(AppendConflict):
            await store.append(stale)
        assert store.entries(ROOM, after=0, limit=10) == [entry(1)]
        assert store.room(ROOM) == RoomRow(
            room_id=ROOM, version="dev.linearized.1", role=Role.HUB, hub="a.example", head_seq=1, epoch=None
        )
        assert store.group(ROOM) is None
        assert store.memberships(ROOM) == []
        assert store.reply("s", "k") is None
        assert store.to_device_position() == 0
        assert store.position() == before

    async def test_a_room_refused_at_its_first_append_does_not_exist(self, store: Store) -> None:
        with pytest.raises(AppendConflict):
            await store.append(new_room(entry(2)))
        assert store.room(ROOM) is None

    async def test_an_event_id_that_is_in_a_log_already_is_refused(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        twin = replace(entry(2), event_id=event_id(ROOM, 1))
        with pytest.raises(AppendConflict):
            await store.append(RoomAppend(room_id=ROOM, entries=(twin,)))
        with pytest.raises(AppendConflict):
            await store.append(RoomAppend(room_id=ROOM, entries=(entry(2), replace(entry(2), seq=3))))
        assert store.entries(ROOM, after=0, limit=10) == [entry(1)]

    async def test_appending_to_a_room_nobody_created_is_an_error(self, store: Store) -> None:
        with pytest.raises(StoreError, match="no room"):
            await store.append(message(1))

    async def test_an_append_that_names_two_rooms_is_an_error(self, store: Store) -> None:
        await store.append(new_room())
        with pytest.raises(StoreError, match="lounge"):
            await store.append(RoomAppend(room_id=ROOM, entries=(entry(1, room_id=OTHER_ROOM),)))
        with pytest.raises(StoreError, match="lounge"):
            await store.append(RoomAppend(room_id=ROOM, group=group(1, OTHER_ROOM)))

    async def test_two_appends_for_the_same_place_cannot_both_win(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        outcomes: list[str] = []

        async def contend(salt: str) -> None:
            try:
                await store.append(message(2, salt=salt))
                outcomes.append("won")
            except AppendConflict:
                outcomes.append("lost")

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(contend, str(n))
        assert sorted(outcomes) == ["lost"] * 19 + ["won"]
        assert [row.seq for row in store.entries(ROOM, after=0, limit=10)] == [1, 2]

    async def test_a_failing_append_does_not_undo_its_neighbours(self, store: Store) -> None:
        rooms = [f"!{n}:a.example" for n in range(10)]
        failed: list[str] = []

        async def create(room_id: str, seq: int) -> None:
            try:
                await store.append(new_room(entry(seq, room_id=room_id), room_id=room_id))
            except AppendConflict:
                failed.append(room_id)

        async with trio.open_nursery() as nursery:
            for n, room_id in enumerate(rooms):
                nursery.start_soon(create, room_id, 1 + n % 2)
        assert sorted(failed) == rooms[1::2]
        assert {row.room_id for row in store.rooms()} == set(rooms[0::2])
