"""The part of the contract about account data."""

from __future__ import annotations

from dataclasses import replace

from linearized.store.account_data import GLOBAL, AccountDataRow
from linearized.store.base import Store
from tests.store.rows import ROOM

ALICE, BOB = "@alice:a.example", "@bob:a.example"
ROW = AccountDataRow(user_id=ALICE, room_id=GLOBAL, type="m.direct", content=b'{"n":1}')


async def put(store: Store, *rows: AccountDataRow) -> list[bool]:
    return [await store.put_account_data(row, most_rows=3, most_bytes=30) for row in rows]


class AccountDataContract:
    """Positions, replacing, bounds."""

    async def test_account_data_is_told_in_the_order_of_its_changes(self, store: Store) -> None:
        other = replace(ROW, room_id=ROOM)
        assert await put(store, ROW, other, replace(ROW, content=b'{"n":2}')) == [True] * 3
        assert store.account_data(ALICE, after=0) == [
            replace(other, position=2),
            replace(ROW, content=b'{"n":2}', position=3),
        ]
        assert store.account_data(ALICE, after=2) == [replace(ROW, content=b'{"n":2}', position=3)]
        assert store.account_data(ALICE, after=3) == []
        assert store.account_datum(ALICE, ROOM, "m.direct") == b'{"n":1}'
        assert store.account_datum(ALICE, ROOM, "m.other") is None

    async def test_account_data_of_one_room_can_be_asked_for(self, store: Store) -> None:
        first, second = replace(ROW, room_id=ROOM), replace(ROW, room_id=ROOM, type="m.tag")
        await put(store, first, ROW, second, replace(first, user_id=BOB))
        found = [replace(first, position=1), replace(second, position=3)]
        assert store.account_data_in(ALICE, ROOM) == found
        assert store.account_data_in(ALICE, "!other:a.example") == []

    async def test_each_user_has_their_own_account_data(self, store: Store) -> None:
        await put(store, ROW, replace(ROW, user_id=BOB, content=b"{}"))
        assert store.account_datum(ALICE, GLOBAL, "m.direct") == b'{"n":1}'
        assert store.account_data(BOB, after=0) == [replace(ROW, user_id=BOB, content=b"{}", position=1)]

    async def test_too_much_account_data_changes_nothing(self, store: Store) -> None:
        await put(store, *(replace(ROW, type=kind) for kind in "abc"))
        before = store.account_data(ALICE, after=0)
        assert await put(store, replace(ROW, type="d"), replace(ROW, type="a", content=bytes(17))) == [
            False,
            False,
        ]
        assert store.account_data(ALICE, after=0) == before
        assert await put(store, replace(ROW, type="a", content=bytes(16))) == [True]
