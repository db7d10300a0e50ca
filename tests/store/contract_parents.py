"""The part of the contract about rooms that depend on others."""

from __future__ import annotations

from linearized.protocol.state import PARENT_ROOM
from linearized.store.base import EntryRow, Role, RoomAppend, Store
from tests.store.rows import ALICE, BOB, OTHER_ROOM, ROOM, entry, member, room

PARENT = OTHER_ROOM


def create(parent: object, room_id: str = ROOM) -> EntryRow:
    return entry(1, room_id=room_id, kind="m.room.create", state_key="", content={PARENT_ROOM: parent})


async def open_parent(store: Store, **memberships: str) -> None:
    """The parent room with its creator and whoever else is named."""
    users = {"alice": ALICE, "bob": BOB}
    entries = [
        entry(1, room_id=PARENT, kind="m.room.create", state_key=""),
        *(
            member(seq, users[name], value, room_id=PARENT)
            for seq, (name, value) in enumerate(memberships.items(), 2)
        ),
    ]
    await store.append(RoomAppend(room_id=PARENT, room=room(PARENT), entries=tuple(entries)))


async def open_dependant(store: Store, *memberships: str, role: Role = Role.HUB) -> None:
    entries = (create(PARENT), *(member(seq, BOB, value) for seq, value in enumerate(memberships, 2)))
    await store.append(RoomAppend(room_id=ROOM, room=room(role=role), entries=entries))


class ParentContract:
    """Who is in a room and not in its parent."""

    async def test_it_tells_how_many_have_joined_a_room(self, store: Store) -> None:
        await open_parent(store, alice="join", bob="invite")
        assert (store.joined_count(PARENT), store.joined_count("!nowhere:a.example")) == (1, 0)

    async def test_it_counts_no_further_than_it_is_asked_to(self, store: Store) -> None:
        await open_parent(store, alice="join", bob="join")
        assert [store.joined_count(PARENT, at_most=most) for most in (1, 2, 3)] == [1, 2, 2]

    async def test_a_room_depends_on_the_one_its_create_event_names(self, store: Store) -> None:
        await open_parent(store, alice="join")
        assert store.dependants(PARENT, limit=9) == []
        await open_dependant(store)
        assert store.dependants(PARENT, limit=9) == [ROOM]
        assert store.dependants(PARENT, limit=0) == []
        assert store.dependants(ROOM, limit=9) == []

    async def test_a_parent_that_is_no_text_is_none(self, store: Store) -> None:
        await store.append(RoomAppend(room_id=ROOM, room=room(), entries=(create(7),)))
        assert store.strayed(limit=9) == []

    async def test_a_room_strays_while_somebody_is_in_it_who_has_not_joined_its_parent(
        self, store: Store
    ) -> None:
        await open_dependant(store)
        assert store.strayed(limit=9) == []
        for seq, value in enumerate(("join", "invite", "knock"), 2):
            await store.append(RoomAppend(room_id=ROOM, entries=(member(seq, BOB, value),)))
            assert store.strayed(limit=9) == [ROOM]
        assert store.strayed(limit=0) == []
        await open_parent(store, bob="join")
        assert store.strayed(limit=9) == []
        await store.append(RoomAppend(room_id=PARENT, entries=(member(3, BOB, "leave", room_id=PARENT),)))
        assert store.strayed(limit=9) == [ROOM]
        await store.append(RoomAppend(room_id=ROOM, entries=(member(5, BOB, "ban"),)))
        assert store.strayed(limit=9) == []

    async def test_rooms_of_other_hubs_are_theirs_to_look_after(self, store: Store) -> None:
        await open_dependant(store, "join", role=Role.PARTICIPANT)
        assert (store.strayed(limit=9), store.dependants(PARENT, limit=9)) == ([], [])
