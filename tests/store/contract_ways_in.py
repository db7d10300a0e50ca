"""The part of the contract about what outsiders may know of rooms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from linearized.store.base import EntryRow, Role, RoomAppend, Store
from linearized.store.moving import Adoption
from linearized.store.ways_in import ASKING, MAX_ALLOWED, MEMBERSHIP, READING
from tests.store.rows import OTHER_ROOM, ROOM, entry, new_room, room


def state(seq: int, kind: str, key: str = "", **content: Any) -> EntryRow:
    return entry(seq, kind=f"m.room.{kind}", state_key=key, content=content)


def allow(*rooms: Any) -> list[Any]:
    return [{"type": "m.room_membership", "room_id": room_id} for room_id in rooms]


class WayContract:
    """What the state says now."""

    async def test_ways_into_a_room_are_as_its_state_says_now(self, store: Store) -> None:
        assert store.ways_in(ROOM) == frozenset()
        await store.append(new_room(entry(1, kind="m.room.create", state_key="")))
        other = allow(OTHER_ROOM, "!x:a.example", OTHER_ROOM, 7)
        by_membership = {(MEMBERSHIP, OTHER_ROOM), (MEMBERSHIP, "!x:a.example")}
        steps: list[tuple[EntryRow, set[tuple[str, str]]]] = [
            (state(2, "join_rules", join_rule="invite"), set()),
            (state(3, "join_rules", join_rule="public"), {(ASKING, "")}),
            (
                state(4, "history_visibility", history_visibility="world_readable"),
                {(ASKING, ""), (READING, "")},
            ),
            (state(5, "join_rules", join_rule="restricted", allow=other), {(READING, ""), *by_membership}),
            (state(6, "history_visibility", history_visibility="shared"), by_membership),
            (state(7, "join_rules", "other", join_rule="public"), by_membership),
            (state(8, "join_rules", join_rule="knock_restricted", allow=other), {(ASKING, "")}),
            (state(9, "join_rules", join_rule="knock"), {(ASKING, "")}),
            (state(10, "join_rules", join_rule=["public"]), set()),
            (state(11, "join_rules", join_rule="restricted", allow={}), set()),
            (state(12, "join_rules", join_rule="restricted", allow=["x", {}]), set()),
            (entry(13, kind="m.room.join_rules", content={"join_rule": "public"}), set()),
        ]
        for made, ways in steps:
            await store.append(RoomAppend(room_id=ROOM, entries=(made,)))
            assert store.ways_in(ROOM) == ways, made.seq
        assert store.ways_in(OTHER_ROOM) == frozenset()

    async def test_of_several_in_one_append_the_last_counts(self, store: Store) -> None:
        await store.append(
            new_room(state(1, "join_rules", join_rule="public"), state(2, "join_rules", join_rule="invite"))
        )
        assert store.ways_in(ROOM) == frozenset()

    async def test_only_so_many_rooms_are_ways_into_one(self, store: Store) -> None:
        rooms = [f"!{number}:a.example" for number in range(MAX_ALLOWED + 1)]
        await store.append(new_room(state(1, "join_rules", join_rule="restricted", allow=allow(*rooms))))
        assert store.ways_in(ROOM) == {(MEMBERSHIP, room_id) for room_id in rooms[:MAX_ALLOWED]}

    async def test_a_log_that_takes_the_place_of_a_copy_brings_its_ways_in(self, store: Store) -> None:
        log = (
            state(1, "join_rules", join_rule="knock"),
            state(2, "join_rules", join_rule="public"),
            entry(3),
        )
        copy = (state(1, "history_visibility", history_visibility="world_readable"), replace(log[2], seq=2))
        await store.append(RoomAppend(room_id=ROOM, room=room(role=Role.PARTICIPANT), entries=copy))
        assert store.ways_in(ROOM) == {(READING, "")}
        await store.stage_entries(ROOM, log)
        assert store.ways_in(ROOM) == {(READING, "")}
        await store.adopt(Adoption(room=room(role=Role.HUB)))
        assert store.ways_in(ROOM) == {(ASKING, "")}
