"""The part of the contract about state, members, groups, followers and the position of changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from linearized.exceptions import StoreError
from linearized.store.base import (
    FollowerRow,
    MembershipRow,
    Role,
    RoomAppend,
    Store,
)
from tests.store.rows import (
    ALICE,
    BOB,
    OTHER_ROOM,
    ROOM,
    entry,
    group,
    member,
    message,
    new_room,
    room,
)


class StateContract:
    """State, members, groups, followers, and the position of changes."""

    async def test_state_is_the_latest_entry_of_each_type_and_key_up_to_a_point(self, store: Store) -> None:
        log = (
            entry(1, kind="m.room.create", state_key=""),
            member(2, ALICE, "join"),
            entry(3, kind="m.room.topic", state_key="", content={"topic": "old"}),
            entry(4, kind="m.room.topic"),  # not state: no state key
            member(5, BOB, "invite"),
            entry(6, kind="m.room.topic", state_key="", content={"topic": "new"}),
            member(7, BOB, "join"),
            entry(8, kind="m.room.topic", state_key="other"),
        )
        await store.append(new_room(*log))

        def state(seq: int) -> list[int]:
            rows = store.state_at(ROOM, seq=seq)
            assert all(row == log[row.seq - 1] for row in rows)
            for row in rows:
                assert store.state_entry(ROOM, row.type, row.state_key or "", seq=seq) == row
            assert store.state_entry(ROOM, "m.room.topic", "nobody's", seq=seq) is None
            assert store.state_entry(OTHER_ROOM, "m.room.create", "", seq=seq) is None
            return [row.seq for row in rows]

        assert state(0) == []
        assert state(4) == [1, 2, 3]
        assert state(5) == [1, 2, 3, 5]
        assert state(8) == [1, 2, 6, 7, 8]
        assert state(10_000) == [1, 2, 6, 7, 8]

    async def test_state_of_one_room_is_not_that_of_another(self, store: Store) -> None:
        await store.append(new_room(member(1, ALICE, "join")))
        await store.append(new_room(member(1, BOB, "join", room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        assert [row.state_key for row in store.state_at(ROOM, seq=9)] == [ALICE]
        assert [row.state_key for row in store.state_at(OTHER_ROOM, seq=9)] == [BOB]

    async def test_memberships_follow_from_member_entries_the_last_one_counts(self, store: Store) -> None:
        await store.append(
            new_room(member(1, ALICE, "join"), member(2, BOB, "invite"), member(3, BOB, "join"))
        )
        await store.append(RoomAppend(room_id=ROOM, entries=(member(4, ALICE, "leave"),)))
        alice = MembershipRow(room_id=ROOM, user_id=ALICE, membership="leave", seq=4)
        bob = MembershipRow(room_id=ROOM, user_id=BOB, membership="join", seq=3)
        assert sorted(store.memberships(ROOM), key=lambda row: row.user_id) == [alice, bob]
        assert store.rooms_of(ALICE) == [alice]
        assert store.membership(alice.room_id, ALICE) == alice
        assert store.membership(alice.room_id, "@nobody:a.example") is None
        assert store.membership("!nowhere:a.example", ALICE) is None
        assert store.rooms_of("@nobody:a.example") == []

    async def test_memberships_without_an_entry_can_be_set_too(self, store: Store) -> None:
        row = MembershipRow(room_id=ROOM, user_id=BOB, membership="join", seq=0)
        await store.append(RoomAppend(room_id=ROOM, room=room(role=Role.FOLLOWER), memberships=(row,)))
        assert store.memberships(ROOM) == [row]
        assert store.rooms_of(BOB) == [row]

    async def test_members_are_found_by_their_server(self, store: Store) -> None:
        with_port, longer = "@bob:b.example:8448", "@bob:x.b.example"
        await store.append(
            new_room(
                member(1, ALICE, "join"),
                member(2, BOB, "invite"),
                member(3, with_port, "join"),
                member(4, longer, "leave"),
            )
        )
        await store.append(new_room(member(1, BOB, "join", room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        for user_id, membership, seq in (
            (ALICE, "join", 1),
            (BOB, "invite", 2),
            (with_port, "join", 3),
            (longer, "leave", 4),
        ):
            row = MembershipRow(room_id=ROOM, user_id=user_id, membership=membership, seq=seq)
            assert store.members_of(ROOM, user_id.partition(":")[2]) == [row]
        assert store.members_of(ROOM, "example") == store.members_of("!nowhere:a.example", "b.example") == []

    async def test_the_rooms_of_a_user_span_rooms(self, store: Store) -> None:
        await store.append(new_room(member(1, ALICE, "join")))
        await store.append(new_room(member(1, ALICE, "invite", room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        assert [(row.room_id, row.membership) for row in store.rooms_of(ALICE)] == [
            (ROOM, "join"),
            (OTHER_ROOM, "invite"),
        ]

    @pytest.mark.parametrize("content", [{}, [], "join"])
    async def test_a_member_entry_without_a_membership_is_refused(
        self, store: Store, content: object
    ) -> None:
        bad = entry(1, kind="m.room.member", state_key=BOB, content=content)
        with pytest.raises(StoreError):
            await store.append(new_room(bad))
        assert store.room(ROOM) is None

    async def test_a_message_of_the_member_type_is_no_membership(self, store: Store) -> None:
        await store.append(new_room(entry(1, kind="m.room.member", content={"membership": "join"})))
        assert store.memberships(ROOM) == []

    async def test_the_group_is_replaced_with_the_entries_that_changed_it(self, store: Store) -> None:
        await store.append(
            RoomAppend(room_id=ROOM, room=room(), entries=(entry(1, epoch=1),), group=group(1))
        )
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(2, epoch=2),), group=group(2)))
        assert store.group(ROOM) == group(2)
        row = store.room(ROOM)
        assert row is not None
        assert row.epoch == 2

    async def test_a_room_may_be_in_a_later_epoch_than_its_group_was_written_in(self, store: Store) -> None:
        entries = (entry(1, epoch=1), entry(2, epoch=2))
        await store.append(RoomAppend(room_id=ROOM, room=room(), entries=entries, group=group(1)))
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(3, epoch=3),)))
        assert store.group(ROOM) == group(1)
        row = store.room(ROOM)
        assert row is not None
        assert row.epoch == 3

    async def test_followers_keep_a_cursor_each_per_protocol(self, store: Store) -> None:
        await store.append(new_room())
        await store.append(new_room(room_id=OTHER_ROOM))
        mimi = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=0)
        linear = FollowerRow(room_id=ROOM, provider="b.example", protocol="linearized", cursor=2)
        other = FollowerRow(room_id=OTHER_ROOM, provider="c.example", protocol="mimi", cursor=1)
        for follower in (mimi, linear, other):
            await store.put_follower(follower)
        assert store.followers(ROOM) == [linear, mimi]
        assert store.followers() == [linear, mimi, other]
        assert store.cursors(ROOM, "b.example") == [linear, mimi]
        assert store.cursors(ROOM, "c.example") == store.cursors("!unknown:a.example", "b.example") == []
        moved = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=5, stop_seq=9)
        await store.put_follower(moved)
        assert store.followers(ROOM) == [linear, moved]
        again = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=9)
        await store.put_follower(again)
        assert store.followers(ROOM) == [linear, again]

    async def test_a_cursor_moves_forward_only_and_leaves_the_stop_alone(self, store: Store) -> None:
        await store.append(new_room())
        await store.append(new_room(room_id=OTHER_ROOM))
        stopping = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=3, stop_seq=9)
        others = [
            FollowerRow(room_id=ROOM, provider="b.example", protocol="linearized", cursor=2),
            FollowerRow(room_id=ROOM, provider="c.example", protocol="mimi", cursor=2),
            FollowerRow(room_id=OTHER_ROOM, provider="b.example", protocol="mimi", cursor=2),
        ]
        for follower in (stopping, *others):
            await store.put_follower(follower)
        unknown = FollowerRow(room_id=ROOM, provider="d.example", protocol="mimi", cursor=5)
        await store.move_cursors([replace(stopping, cursor=7), unknown])
        await store.move_cursors([replace(stopping, cursor=5, stop_seq=None)])
        await store.move_cursors([])
        moved = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=7, stop_seq=9)
        assert sorted(store.followers(), key=repr) == sorted([moved, *others], key=repr)

    async def test_followers_may_change_with_the_entries_that_add_them(self, store: Store) -> None:
        follower = FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=1)
        await store.append(RoomAppend(room_id=ROOM, room=room(), entries=(entry(1),), followers=(follower,)))
        assert store.followers(ROOM) == [follower]

    async def test_a_follower_of_no_room_is_an_error(self, store: Store) -> None:
        with pytest.raises(StoreError, match="no room"):
            await store.put_follower(
                FollowerRow(room_id=ROOM, provider="b.example", protocol="mimi", cursor=0)
            )

    async def test_the_position_grows_with_every_append_and_tells_what_changed(self, store: Store) -> None:
        assert store.position() == 0
        assert store.changed_rooms(0) == {}
        await store.append(new_room(entry(1), entry(2)))
        first = store.position()
        await store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
        second = store.position()
        await store.append(RoomAppend(room_id=ROOM, entries=(entry(3), entry(4))))
        await store.append(message(5))
        assert 0 < first < second < store.position()
        assert store.changed_rooms(0) == {ROOM: 1, OTHER_ROOM: 1}
        assert store.changed_rooms(first) == {ROOM: 3, OTHER_ROOM: 1}
        assert store.changed_rooms(second) == {ROOM: 3}
        assert store.changed_rooms(store.position()) == {}
        assert store.changed_rooms(store.position() + 100) == {}

    async def test_a_membership_without_an_entry_changes_the_room_too(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        since = store.position()
        row = MembershipRow(room_id=ROOM, user_id=BOB, membership="join", seq=1)
        await store.append(RoomAppend(room_id=ROOM, memberships=(row,)))
        assert store.changed_rooms(since) == {ROOM: 2}

    async def test_appends_that_share_a_transaction_report_the_first_new_entry(self, store: Store) -> None:
        await store.append(new_room(entry(1)))
        since = store.position()
        async with trio.open_nursery() as nursery:
            for seq in range(2, 6):
                nursery.start_soon(store.append, message(seq))
                await trio.testing.wait_all_tasks_blocked()
        assert store.changed_rooms(since) == {ROOM: 2}
