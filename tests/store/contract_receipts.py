"""The part of the contract about receipts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import StoreError
from linearized.store.base import RoomAppend, Store
from linearized.store.receipts import READ_PRIVATE, ReceiptRow
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM, entry, member, new_room

READ = ReceiptRow(
    room_id=ROOM, user_id=BOB, kind="m.read", thread_id="", event_id="$2", seq=2, ts=7, position=1
)


async def rooms(store: Store) -> None:
    """Alice and Bob are in both rooms; the sender of every entry is Alice."""
    for room_id in (ROOM, OTHER_ROOM):
        people = [member(seq, user, "join", room_id=room_id) for seq, user in enumerate((ALICE, BOB), 1)]
        await store.append(
            new_room(*people, *(entry(seq, room_id=room_id) for seq in (3, 4, 5)), room_id=room_id)
        )


async def put(store: Store, *rows: ReceiptRow, most_threads: int = 9) -> list[bool]:
    return [await store.put_receipts([row], most_threads=most_threads) for row in rows]


class ReceiptContract:
    """Positions, moving forward, who is told."""

    async def test_receipts_are_told_in_the_order_of_their_changes(self, store: Store) -> None:
        await rooms(store)
        other = replace(READ, room_id=OTHER_ROOM, position=2)
        later = replace(READ, event_id="$4", seq=4, ts=9, position=3)
        assert await put(store, READ, other, later) == [True] * 3
        assert store.receipts(ALICE, after=0, limit=9) == [other, later]
        assert store.receipts(ALICE, after=0, limit=1) == [other]
        assert store.receipts(ALICE, after=2, limit=9) == [later]
        assert store.receipts(ALICE, after=3, limit=9) == []

    async def test_a_receipt_never_moves_back(self, store: Store) -> None:
        await rooms(store)
        assert await put(store, READ, replace(READ, event_id="$1", seq=1), READ) == [True, False, False]
        assert store.receipts(BOB, after=0, limit=9) == [READ]

    async def test_only_who_is_joined_is_told(self, store: Store) -> None:
        await rooms(store)
        await put(store, READ)
        await store.append(RoomAppend(room_id=ROOM, entries=(member(6, ALICE, "leave"),)))
        assert store.receipts(ALICE, after=0, limit=9) == []
        assert store.receipts("@eve:a.example", after=0, limit=9) == []

    async def test_a_private_receipt_is_told_to_its_user_alone(self, store: Store) -> None:
        await rooms(store)
        private = replace(READ, kind=READ_PRIVATE)
        await put(store, private)
        assert (
            store.receipts(ALICE, after=0, limit=9) == store.receipts_in(ROOM, ALICE, until=9, limit=9) == []
        )
        assert (
            store.receipts(BOB, after=0, limit=9)
            == store.receipts_in(ROOM, BOB, until=9, limit=9)
            == [private]
        )

    async def test_the_latest_receipts_of_one_room_can_be_asked_for(self, store: Store) -> None:
        await rooms(store)
        hers = replace(READ, user_id=ALICE, position=3)
        await put(store, READ, replace(READ, room_id=OTHER_ROOM), hers)
        assert store.receipts_in(ROOM, ALICE, until=9, limit=9) == [hers, READ]
        assert store.receipts_in(ROOM, ALICE, until=2, limit=9) == [READ]
        assert store.receipts_in(ROOM, ALICE, until=9, limit=1) == [hers]
        assert store.receipts_in("!other:a.example", ALICE, until=9, limit=9) == []

    async def test_of_many_threads_the_latest_are_kept_and_the_whole_rooms_always(self, store: Store) -> None:
        await rooms(store)
        await put(store, READ, *(replace(READ, thread_id=f"$t{n}") for n in range(4)), most_threads=2)
        assert [row.thread_id for row in store.receipts(BOB, after=0, limit=9)] == ["", "$t2", "$t3"]

    async def test_a_receipt_in_an_unknown_room_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreError):
            await put(store, READ)

    async def test_a_user_has_read_up_to_the_later_of_both_kinds_of_receipt_in_each_thread(
        self, store: Store
    ) -> None:
        await rooms(store)
        assert store.read_up_to(ROOM, BOB) == {}
        private = replace(READ, kind=READ_PRIVATE, event_id="$4", seq=4)
        in_thread = replace(READ, thread_id="$3", event_id="$5", seq=5)
        others = replace(READ, user_id=ALICE, seq=5), replace(READ, room_id=OTHER_ROOM, seq=5)
        await put(store, READ, private, in_thread, replace(private, thread_id="main", seq=3), *others)
        assert store.read_up_to(ROOM, BOB) == {"": 4, "$3": 5, "main": 3}
        await put(store, replace(READ, seq=5))
        assert store.read_up_to(ROOM, BOB)[""] == 5
        assert store.read_up_to("!other:a.example", BOB) == {}
