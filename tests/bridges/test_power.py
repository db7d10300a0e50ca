from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.power import ABOVE_ALL, RoomPower

CREATOR, ALICE, BOB = "@creator:hs", "@alice:hs", "@bob:hs"


def power(levels: Any = None, **create: Any) -> RoomPower:
    state: list[dict[str, Any]] = [
        {"type": "m.room.create", "state_key": "", "sender": CREATOR, "content": create},
        # What has no business in a room's state changes nothing.
        {"type": "m.room.create", "state_key": "other", "sender": BOB, "content": {}},
        {"type": "m.room.power_levels", "state_key": "", "sender": BOB, "content": "no object"},
        {"type": "m.room.topic", "state_key": "", "sender": BOB, "content": {"topic": "x"}},
    ]
    if levels is not None:
        state.append({"type": "m.room.power_levels", "state_key": "", "sender": CREATOR, "content": levels})
    return RoomPower.of(state)


def test_without_power_levels_only_the_creator_decides() -> None:
    room = power(room_version="10")
    assert (room.level(CREATOR), room.level(ALICE)) == (100, 0)
    assert room.may_bridge(CREATOR)
    assert not room.may_bridge(ALICE)
    assert room.may_set(ALICE, "m.room.topic")
    assert room.may(CREATOR, "kick")
    assert not room.may(ALICE, "kick")


def test_nobody_gives_more_power_than_they_have_or_than_can_be_written_down() -> None:
    assert power({"users": {ALICE: 60, BOB: 150}}).given(ALICE) == 60
    above = power({"users": {BOB: 150}}, room_version="12")
    assert above.level(CREATOR) == ABOVE_ALL
    assert above.given(CREATOR) == 150
    assert power({"users": "none"}, room_version="12").given(CREATOR) == 100


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"users": {ALICE: 60}}, 60),
        ({"users": {ALICE: "60"}}, 60),
        ({"users": {ALICE: " -5 "}}, -5),
        ({"users": {ALICE: True}, "users_default": 7}, 7),
        ({"users": {ALICE: None}, "users_default": "no number"}, 0),
        ({"users": "no object", "users_default": 3}, 3),
        ({}, 0),
    ],
)
def test_a_level_is_read_as_rooms_have_it(levels: Any, expected: int) -> None:
    assert power(levels).level(ALICE) == expected


@pytest.mark.parametrize(
    ("levels", "may"),
    [
        ({"users": {ALICE: 50}}, True),
        ({"users": {ALICE: 49}}, False),
        ({"users": {ALICE: 60}, "state_default": 61}, False),
        ({"users": {ALICE: 60}, "events": {"m.room.power_levels": 100}}, False),
        ({"users": {ALICE: 100}, "events": {"m.room.power_levels": 100}}, True),
        ({"users": {ALICE: 10}, "events": {"m.room.power_levels": 0}}, True),
        ({"users": {ALICE: 50}, "events": "no object"}, True),
    ],
)
def test_bridging_takes_the_power_to_change_power_levels(levels: Any, may: bool) -> None:
    assert power(levels).may_bridge(ALICE) is may


def test_inviting_takes_nothing_unless_the_room_says_so() -> None:
    assert power({}).may(ALICE, "invite")
    assert not power({"invite": 50}).may(ALICE, "invite")


def test_creators_stand_above_all_levels_from_room_version_12() -> None:
    room = power({"users": {BOB: 100}}, room_version="12", additional_creators=[ALICE, 7])
    assert (room.level(CREATOR), room.level(ALICE), room.level(BOB)) == (ABOVE_ALL, ABOVE_ALL, 100)
    old = power({"users": {BOB: 100}}, room_version="11", additional_creators=[ALICE])
    assert (old.level(CREATOR), old.level(ALICE)) == (0, 0)
    ours = power({"users": {BOB: 100}}, room_version="dev.linearized.1")
    assert ours.level(CREATOR) == 0
