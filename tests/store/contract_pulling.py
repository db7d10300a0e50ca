"""The part of the contract about deliveries by another way than ``notify``."""

from __future__ import annotations

import pytest

from linearized.exceptions import AppendConflict
from linearized.store.base import FollowerRow, RoomAppend, Store
from linearized.store.pulling import FanoutTokenRow, PullCursorRow
from tests.store.rows import OTHER_ROOM, ROOM, entry, new_room


class PullContract:
    """Pull followers, and our own cursors at the hubs we fetch from."""

    async def test_who_fetches_is_remembered_until_it_no_longer_does(self, store: Store) -> None:
        assert store.pull_followers() == []
        for provider in ("c.example", "b.example", "c.example"):
            await store.set_pull_follower(provider, pulls=True)
        assert store.pull_followers() == ["b.example", "c.example"]
        for _ in range(2):
            await store.set_pull_follower("b.example", pulls=False)
        assert store.pull_followers() == ["c.example"]

    async def test_where_we_fetch_is_remembered_until_we_no_longer_do(self, store: Store) -> None:
        assert store.pulled_hubs() == []
        for hub in ("c.example", "b.example", "c.example"):
            await store.set_pulled_hub(hub, pulled=True)
        assert store.pulled_hubs() == ["b.example", "c.example"]
        for _ in range(2):
            await store.set_pulled_hub("b.example", pulled=False)
        assert store.pulled_hubs() == ["c.example"]

    async def test_a_cursor_is_stored_with_the_entries_it_came_with_or_not_at_all(self, store: Store) -> None:
        first, second = (PullCursorRow(hub="b.example", cursor=text) for text in ("one", "two"))
        assert store.pull_cursor("b.example") is None
        await store.append(new_room(entry(1)))
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(2),), pulled=first))
        assert store.pull_cursor("b.example") == "one"
        with pytest.raises(AppendConflict):
            await store.append(RoomAppend(room_id=ROOM, entries=(entry(2),), pulled=second))
        assert store.pull_cursor("b.example") == "one"
        await store.put_pull_cursor(second)
        assert store.pull_cursor("b.example") == "two"
        assert store.pull_cursor("c.example") is None

    async def test_whose_leaves_a_followed_group_has_is_kept_with_the_entries_until_it_is_forgotten(
        self, store: Store
    ) -> None:
        assert store.followed_group(ROOM) is None
        await store.append(new_room(entry(1)))
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(2),), followed=b"one"))
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(3),)))
        assert store.followed_group(ROOM) == b"one"
        await store.append(RoomAppend(room_id=ROOM, followed=b"two"))
        assert store.followed_group(ROOM) == b"two"
        await store.append(RoomAppend(room_id=ROOM, followed=b""))
        assert store.followed_group(ROOM) is None

    async def test_the_tokens_of_a_providers_clients_in_a_room_are_replaced_as_a_whole(
        self, store: Store
    ) -> None:
        assert store.fanout_tokens(ROOM, "b.example") == []
        one, two = (FanoutTokenRow(client=f"mimi://b.example/d/bob/{n}", token=n.encode()) for n in "12")
        await store.put_fanout_tokens(ROOM, "b.example", (two, one))
        await store.put_fanout_tokens(OTHER_ROOM, "b.example", (one,))
        await store.put_fanout_tokens(ROOM, "c.example", (two,))
        assert store.fanout_tokens(ROOM, "b.example") == [one, two]
        await store.put_fanout_tokens(ROOM, "b.example", (two,))
        assert store.fanout_tokens(ROOM, "b.example") == [two]
        await store.put_fanout_tokens(ROOM, "b.example", ())
        assert store.fanout_tokens(ROOM, "b.example") == []
        assert store.fanout_tokens(OTHER_ROOM, "b.example") == [one]
        assert store.fanout_tokens(ROOM, "c.example") == [two]

    async def test_a_providers_cursors_are_found_in_all_rooms(self, store: Store) -> None:
        def follower(provider: str, protocol: str, room_id: str = ROOM) -> FollowerRow:
            return FollowerRow(room_id=room_id, provider=provider, protocol=protocol, cursor=3, stop_seq=7)

        mine = [
            follower("b.example", "linearized"),
            follower("b.example", "mimi"),
            follower("b.example", "mimi", OTHER_ROOM),
        ]
        await store.append(new_room(entry(1)))
        await store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        for row in (*mine, follower("c.example", "mimi")):
            await store.put_follower(row)
        assert store.followed_by("b.example") == mine
        assert store.followed_by("d.example") == []
