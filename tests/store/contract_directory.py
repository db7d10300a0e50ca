"""The part of the contract about names of rooms and published rooms."""

from __future__ import annotations

from linearized.store.base import Store
from linearized.store.directory import AliasRow
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM


def named(name: str, room_id: str = ROOM, creator: str = ALICE) -> AliasRow:
    return AliasRow(alias=f"#{name}:a.example", room_id=room_id, creator=creator)


class DirectoryContract:
    """Naming, publishing."""

    async def test_an_alias_stands_for_the_first_room_it_was_given_to(self, store: Store) -> None:
        assert store.alias("#one:a.example") is None
        assert await store.put_alias(named("one"), most=2) == ROOM
        assert await store.put_alias(named("one", OTHER_ROOM, BOB), most=2) == ROOM
        assert store.alias("#one:a.example") == named("one")
        await store.delete_alias("#one:a.example")
        assert store.alias("#one:a.example") is None

    async def test_a_room_has_only_so_many_aliases(self, store: Store) -> None:
        for name, room_id in (("b", ROOM), ("a", ROOM), ("c", None)):
            assert await store.put_alias(named(name), most=2) == room_id
        assert store.aliases(ROOM) == ["#a:a.example", "#b:a.example"]
        assert store.aliases(OTHER_ROOM) == []

    async def test_only_so_many_rooms_are_published(self, store: Store) -> None:
        assert await store.set_published(ROOM, True, most=1)
        assert await store.set_published(ROOM, True, most=1)
        assert not await store.set_published(OTHER_ROOM, True, most=1)
        assert store.published() == [ROOM]
        assert await store.set_published(ROOM, False, most=1)
        assert store.published() == []
