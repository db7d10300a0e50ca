from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import AuthorizationError
from linearized.protocol.power_levels import level_to, level_to_send, user_level
from linearized.protocol.state import (
    HUB,
    PARENT_ROOM,
    StateMap,
    create_event,
    creator,
    encryption_algorithm,
    hub_of,
    join_rule,
    membership,
    parent_room,
)
from tests.protocol.support import ALICE, BOB, I_1, local_event, participant_event


def state_of(*events: tuple[str, str, dict[str, Any]]) -> StateMap:
    return {
        (kind, state_key): local_event(type=kind, state_key=state_key, content=content)
        for kind, state_key, content in events
    }


CREATED = state_of(("m.room.create", "", {}))


def test_the_creator_and_the_hub_are_the_create_event_s() -> None:
    assert create_event(CREATED) is CREATED[("m.room.create", "")]
    assert creator(CREATED) == ALICE
    assert hub_of(CREATED) == "a.example"


@pytest.mark.parametrize(
    ("version", "hub"),
    [
        ("dev.linearized.1", "b.example"),
        ("I.1", "a.example"),
        ("org.matrix.msc3995", "a.example"),
        ("nobody.knows.this", "a.example"),
        (["dev.linearized.1"], "a.example"),
    ],
)
def test_a_transfer_makes_another_hub_in_rooms_whose_version_has_them(version: object, hub: str) -> None:
    created = state_of(("m.room.create", "", {"room_version": version}))
    assert hub_of({**created, HUB: participant_event(type="m.room.hub", state_key="")}) == hub


def test_a_parent_room_is_one_that_the_create_event_names() -> None:
    for named, parent in (("!p:a.example", "!p:a.example"), (["!p:a.example"], None), (None, None)):
        assert parent_room(state_of(("m.room.create", "", {PARENT_ROOM: named}))) == parent
    assert parent_room(CREATED) is None


@pytest.mark.parametrize("function", [create_event, creator, hub_of, encryption_algorithm])
def test_a_room_without_a_create_event_is_no_room(function: Any) -> None:
    with pytest.raises(AuthorizationError, match=r"rule 4\.3"):
        function({})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"membership": "join"}, "join"),
        ({"membership": "ban"}, "ban"),
        ({"membership": "knock"}, "knock"),
        ({"membership": "invite"}, "invite"),
        ({"membership": "leave"}, "leave"),
        ({"membership": "lurk"}, "leave"),
        ({"membership": ["join"]}, "leave"),
        ({}, "leave"),
    ],
)
def test_a_membership_is_one_of_five(content: dict[str, Any], expected: str) -> None:
    assert membership(state_of(("m.room.member", BOB, content)), BOB) == expected


def test_who_has_no_membership_event_has_left() -> None:
    assert membership({}, BOB) == "leave"


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"join_rule": "public"}, "public"), ({"join_rule": 1}, "invite"), ({}, "invite")],
)
def test_the_join_rule_is_invite_unless_it_says_otherwise(content: dict[str, Any], expected: str) -> None:
    assert join_rule(state_of(("m.room.join_rules", "", content))) == expected
    assert join_rule({}) == "invite"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"encryption": {"algorithm": "m.mls.v1.x"}}, "m.mls.v1.x"),
        ({"encryption": {"algorithm": 1}}, None),
        ({"encryption": {}}, None),
        ({"encryption": "yes"}, None),
        ({}, None),
    ],
)
def test_a_room_is_encrypted_if_its_create_event_names_an_algorithm(
    content: dict[str, Any], expected: str | None
) -> None:
    assert encryption_algorithm(state_of(("m.room.create", "", content))) == expected


def test_without_power_levels_the_creator_has_100_and_defaults_hold() -> None:
    assert (user_level(CREATED, ALICE), user_level(CREATED, BOB)) == (100, 0)
    assert [level_to(CREATED, action) for action in ("ban", "kick", "redact", "invite")] == [50, 50, 50, 0]
    assert (level_to_send(CREATED, "x", True, I_1), level_to_send(CREATED, "x", False, I_1)) == (50, 0)


def test_power_levels_are_read_entry_first_then_default() -> None:
    state = state_of(
        (
            "m.room.power_levels",
            "",
            {
                "users": {ALICE: 7},
                "users_default": 3,
                "events": {"x": 9},
                "events_default": 1,
                "state_default": 2,
                "ban": 11,
                "kick": 12,
                "redact": 13,
                "invite": 14,
            },
        )
    )
    assert (user_level(state, ALICE), user_level(state, BOB)) == (7, 3)
    assert [level_to(state, action) for action in ("ban", "kick", "redact", "invite")] == [11, 12, 13, 14]
    assert (level_to_send(state, "x", True, I_1), level_to_send(state, "x", False, I_1)) == (9, 9)
    assert (level_to_send(state, "y", True, I_1), level_to_send(state, "y", False, I_1)) == (2, 1)


def test_what_power_levels_leave_out_has_its_default() -> None:
    state = state_of(("m.room.power_levels", "", {"users": {BOB: 7}}))
    assert (user_level(state, ALICE), user_level(state, BOB)) == (0, 7)
    assert [level_to(state, action) for action in ("ban", "kick", "redact", "invite")] == [50, 50, 50, 0]
    assert (level_to_send(state, "x", True, I_1), level_to_send(state, "x", False, I_1)) == (50, 0)


def test_a_value_that_is_no_integer_counts_as_absent() -> None:
    state = state_of(
        (
            "m.room.power_levels",
            "",
            {"users": {ALICE: "100"}, "users_default": True, "events": [], "ban": None, "state_default": "0"},
        )
    )
    assert user_level(state, ALICE) == 0
    assert level_to(state, "ban") == 50
    assert level_to_send(state, "x", True, I_1) == 50


def test_join_rules_and_power_levels_under_another_state_key_mean_nothing() -> None:
    rules = local_event(type="m.room.join_rules", state_key="x", content={"join_rule": "public"})
    levels = local_event(type="m.room.power_levels", state_key="x", content={"users": {BOB: 100}})
    state = {**CREATED, ("m.room.join_rules", "x"): rules, ("m.room.power_levels", "x"): levels}
    assert join_rule(state) == "invite"
    assert user_level(state, BOB) == 0
