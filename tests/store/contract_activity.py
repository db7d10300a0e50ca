"""The part of the contract about when something last happened in rooms."""

from __future__ import annotations

from linearized.store.base import MembershipRow, Role, RoomAppend, Store
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM, entry, member, message, new_room, room

THIRD = "!third:a.example"


class ActivityContract:
    """Order, whose doing a membership is, and what counts."""

    async def test_rooms_are_told_the_most_recently_active_first(self, store: Store) -> None:
        for room_id in (ROOM, OTHER_ROOM):
            await store.append(new_room(member(1, BOB, "join", room_id=room_id), room_id=room_id))
        assert [each.row.room_id for each in store.rooms_by_activity(BOB)] == [OTHER_ROOM, ROOM]
        await store.append(message(2))
        found = store.rooms_by_activity(BOB)
        assert [each.row.room_id for each in found] == [ROOM, OTHER_ROOM]
        assert found[0].position == store.position() > found[1].position
        assert found[0].row == store.membership(ROOM, BOB)
        assert found[0].room == store.room(ROOM)
        assert store.rooms_by_activity(ALICE) == []

    async def test_a_room_that_one_is_not_joined_to_was_active_when_the_membership_was_set(
        self, store: Store
    ) -> None:
        await store.append(new_room(entry(1), entry(2)))
        await store.append(RoomAppend(room_id=ROOM, entries=(member(3, BOB, "invite"), entry(4))))
        then = store.position()
        await store.append(message(5))
        (found,) = store.rooms_by_activity(BOB)
        assert (found.position, found.set_by) == (then, ALICE)
        await store.append(RoomAppend(room_id=ROOM, entries=(member(6, BOB, "join"),)))
        assert store.rooms_by_activity(BOB)[0].position == store.position()

    async def test_a_membership_without_an_entry_was_set_by_nobody(self, store: Store) -> None:
        for room_id, entries in ((ROOM, ()), (OTHER_ROOM, (entry(1, room_id=OTHER_ROOM),))):
            row = MembershipRow(room_id=room_id, user_id=BOB, membership="invite", seq=len(entries))
            await store.append(
                RoomAppend(
                    room_id=room_id,
                    room=room(room_id, role=Role.FOLLOWER),
                    entries=entries,
                    memberships=(row,),
                )
            )
        then = {each.row.room_id: (each.position, each.set_by) for each in store.rooms_by_activity(BOB)}
        assert then == {ROOM: (1, None), OTHER_ROOM: (2, None)}
        again = MembershipRow(room_id=OTHER_ROOM, user_id=BOB, membership="leave", seq=1)
        await store.append(RoomAppend(room_id=OTHER_ROOM, entries=(), memberships=(again,)))
        assert store.rooms_by_activity(BOB)[0].position == store.position() == 3

    async def test_the_latest_entry_of_some_types_is_found_as_far_back_as_is_asked(
        self, store: Store
    ) -> None:
        kinds = ["m.room.create", "m.room.message", "m.reaction", "m.reaction"]
        positions = [0]
        for seq, kind in enumerate(kinds, 1):
            made = entry(seq, kind=kind)
            await store.append(new_room(made) if seq == 1 else RoomAppend(room_id=ROOM, entries=(made,)))
            positions.append(store.position())

        def last(*types: str, until: int = 4, depth: int = 9, room_id: str = ROOM) -> int:
            return store.last_of_types(room_id, types, until=until, depth=depth)

        assert last("m.room.message", "m.room.create") == positions[2]
        assert last("m.room.message", "m.room.create", until=1) == positions[1]
        assert last("m.reaction") == positions[4]
        assert last("m.reaction", until=3) == positions[3]
        assert last("m.room.message", depth=3) == positions[2]
        assert last("m.room.message", depth=2) == 0
        assert last("m.room.message", until=0) == last("m.other") == last(room_id=THIRD) == last() == 0
