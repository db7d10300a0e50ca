"""The part of the contract about group states that new members begin with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import AppendConflict, StoreError
from linearized.store.base import RoomAppend, Store
from linearized.store.past_trees import PastTreeRow
from linearized.store.sqlite_past_trees import MAX_PAST_TREES
from tests.store.rows import OTHER_ROOM, ROOM, entry, new_room


def tree(epoch: int, *waiting: bytes) -> PastTreeRow:
    return PastTreeRow(
        room_id=ROOM,
        epoch=epoch,
        group_info=b"info\0%d" % epoch,
        ratchet_tree=b"tree\xff%d" % epoch,
        waiting=frozenset(waiting),
    )


class PastTreeContract:
    """Keeping and forgetting."""

    async def test_a_tree_is_kept_until_everybody_it_waits_for_has_joined(self, store: Store) -> None:
        kept = tree(3, b"one", b"two")
        await store.append(replace(new_room(entry(1)), past_trees=(kept, tree(4, b"three"))))
        assert store.past_tree(ROOM, 3) == kept
        await store.forget_past_tree(ROOM, 3, b"one")
        await store.forget_past_tree(ROOM, 3, b"nobody")
        await store.forget_past_tree(OTHER_ROOM, 3, b"two")
        assert store.past_tree(ROOM, 3) == tree(3, b"two")
        await store.forget_past_tree(ROOM, 3, b"two")
        assert store.past_tree(ROOM, 3) is None
        assert store.past_tree(ROOM, 4) == tree(4, b"three")
        assert store.past_tree(OTHER_ROOM, 4) is None

    async def test_a_tree_is_stored_with_its_commit_or_not_at_all(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        with pytest.raises(AppendConflict):
            await store.append(RoomAppend(room_id=ROOM, entries=(entry(1),), past_trees=(tree(3, b"one"),)))
        with pytest.raises(StoreError):
            await store.append(
                RoomAppend(room_id=ROOM, past_trees=(replace(tree(3, b"one"), room_id=OTHER_ROOM),))
            )
        assert store.past_tree(ROOM, 3) is None

    async def test_the_oldest_trees_of_a_room_make_room_for_new_ones(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        for epoch in range(MAX_PAST_TREES + 2):
            await store.append(RoomAppend(room_id=ROOM, past_trees=(tree(epoch, b"one"),)))
        kept = [store.past_tree(ROOM, epoch) is not None for epoch in range(MAX_PAST_TREES + 2)]
        assert kept == [False] * 2 + [True] * MAX_PAST_TREES
