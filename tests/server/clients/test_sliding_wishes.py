"""Room configs of sliding sync: both shapes, what they want, and their bounds."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients.sliding_wishes import (
    MAX_REMEMBERED,
    MAX_REQUIRED,
    MAX_TIMELINE,
    RoomWish,
    StateWish,
    parse_wish,
)
from linearized.server.http import HttpError

ME, YOU = "@me:a.example", "@you:a.example"
MEMBER, NAME, TOPIC = "m.room.member", ("m.room.name", ""), ("m.room.topic", "")


def wish(required: Any, limit: int = 0) -> RoomWish:
    return parse_wish({"required_state": required, "timeline_limit": limit})


def wanted(found: RoomWish) -> set[tuple[str, str]]:
    """Of a room's state what is wanted."""
    state = {NAME, TOPIC, (MEMBER, ME), (MEMBER, YOU), ("org.example", ME)}
    return {pair for pair in state if found.wants(*pair, ME)}


@pytest.mark.parametrize(
    ("pairs", "proposed", "state"),
    [
        ([], {}, set()),
        ([["m.room.name", ""]], {"include": [{"type": "m.room.name", "state_key": ""}]}, {NAME}),
        (
            [["*", "*"]],
            {"include": [{}]},
            {NAME, TOPIC, (MEMBER, ME), (MEMBER, YOU), ("org.example", ME)},
        ),
        ([["*", ""]], {"include": [{"state_key": ""}]}, {NAME, TOPIC}),
        ([[MEMBER, "*"]], {"include": [{"type": MEMBER}]}, {(MEMBER, ME), (MEMBER, YOU)}),
        ([[MEMBER, "$LAZY"]], {"lazy_members": True}, set()),
        (
            [["*", "*"], [MEMBER, "$LAZY"]],
            {"include": [{}], "lazy_members": True},
            {NAME, TOPIC, ("org.example", ME)},
        ),
        (
            [["*", "*"], [MEMBER, "$LAZY"], [MEMBER, YOU]],
            {"include": [{}, {"type": MEMBER, "state_key": YOU}], "lazy_members": True},
            {NAME, TOPIC, ("org.example", ME), (MEMBER, YOU)},
        ),
        (
            [[MEMBER, "$LAZY"], [MEMBER, "*"]],
            {"include": [{"type": MEMBER}], "lazy_members": True},
            {(MEMBER, ME), (MEMBER, YOU)},
        ),
    ],
)
def test_both_shapes_mean_the_same(pairs: Any, proposed: Any, state: set[tuple[str, str]]) -> None:
    assert wish(pairs) == wish(proposed)
    assert wanted(wish(pairs)) == state


def test_me_is_the_user() -> None:
    assert wanted(wish([[MEMBER, "$ME"]])) == {(MEMBER, ME)}
    assert wanted(wish([[MEMBER, "$ME"], [MEMBER, "$LAZY"]])) == {(MEMBER, ME)}
    assert wanted(wish([["*", "$ME"]])) == {(MEMBER, ME), ("org.example", ME)}


def test_what_is_excluded_is_not_wanted_unless_another_config_wants_it() -> None:
    members = wish({"include": [{}], "exclude": [{"type": MEMBER}]})
    assert wanted(members) == {NAME, TOPIC, ("org.example", ME)}
    without_topic = wish({"include": [{}], "exclude": [{"type": "m.room.topic", "state_key": ""}]})
    assert TOPIC not in wanted(without_topic)
    joined = members.joined(without_topic)
    assert wanted(joined) == wanted(wish([["*", "*"]]))
    assert wanted(wish({"include": [{}], "exclude": [{}]})) == set()


def test_the_larger_timeline_of_two_is_wanted_and_no_more_than_the_most() -> None:
    assert wish([], 3).joined(wish([], 7)).timeline_limit == 7
    assert wish([], MAX_TIMELINE + 1).timeline_limit == MAX_TIMELINE


def test_state_is_looked_up_piece_by_piece_unless_it_is_wanted_widely() -> None:
    exact = wish([["m.room.name", ""], [MEMBER, "$ME"], [MEMBER, "$LAZY"]])
    assert (exact.wide, exact.lazy, set(exact.pairs)) == (False, True, {NAME, (MEMBER, "$ME")})
    assert (wish([["*", ""]]).wide, wish([[MEMBER, "*"]]).wide, wish([]).lazy) == (True, True, False)


def test_only_so_many_configs_are_remembered() -> None:
    told = RoomWish()
    for number in range(MAX_REMEMBERED):
        told = wish([[f"t{number}", ""]], number).remembered_after(told)
    assert len(told.states) == MAX_REMEMBERED
    assert told.timeline_limit == MAX_REMEMBERED - 1
    assert told.wants("t0", "", ME)
    last = wish([["last", ""]]).remembered_after(told)
    assert last.states == {StateWish(include=frozenset({("last", "")}))}


@pytest.mark.parametrize(
    ("required", "errcode"),
    [
        (7, "M_BAD_JSON"),
        ([["x"]], "M_BAD_JSON"),
        ([["x", "y"]] * (MAX_REQUIRED + 1), "M_BAD_JSON"),
        ({"include": 7}, "M_BAD_JSON"),
        ({"include": [7]}, "M_BAD_JSON"),
        ({"include": [{"type": 7}]}, "M_BAD_JSON"),
        ({"exclude": [{"state_key": []}]}, "M_BAD_JSON"),
        ({"lazy_members": "yes"}, "M_BAD_JSON"),
        ({"include": [{}] * (MAX_REQUIRED + 1)}, "M_INVALID_PARAM"),
        ({"exclude": [{}] * (MAX_REQUIRED + 1)}, "M_INVALID_PARAM"),
    ],
)
def test_what_is_no_room_config_is_refused(required: Any, errcode: str) -> None:
    with pytest.raises(HttpError) as refused:
        wish(required)
    assert (refused.value.status, refused.value.errcode) == (400, errcode)
