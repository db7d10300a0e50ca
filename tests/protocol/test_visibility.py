"""Who may see what: the cases of ``fixtures/visibility.json``, and the rule entry by entry as the oracle.

Each case is a log of a.example's room, told from Bob's side (b.example's, as Bill). ``sees`` is what Bob's
membership and the visibility allow, ``until`` the last entry he knows of as a member, ``commits`` the commits
members always see. The faces' tests read ``reads``, ``served`` and ``redacted`` of the same cases.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.visibility import (
    ALWAYS_VISIBLE,
    DEFAULT,
    END,
    Change,
    commit_runs,
    in_runs,
    is_world_readable,
    known_until,
    merged,
    value_at,
    visibility_of,
    visible_runs,
)
from tests.protocol.support import local_event, quick

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parent / "fixtures" / "visibility.json").read_text(encoding="utf-8")
)


def changes(log: list[str], user: str = "bob") -> tuple[list[Change], list[Change]]:
    """The visibility and one user's membership as they change in a case's log."""
    visibility: list[Change] = []
    memberships: list[Change] = []
    for seq, step in enumerate(log, 1):
        name, _, value = step.partition(" ")
        if name == "visibility":
            visibility.append((seq, visibility_of({"history_visibility": value})))
        elif name == user:
            memberships.append((seq, value))
    return visibility, memberships


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_a_user_sees_what_the_case_says(case: dict[str, Any]) -> None:
    visibility, memberships = changes(case["log"])
    runs = visible_runs(visibility, memberships)
    everything = range(1, len(case["log"]) + 1)
    assert [seq for seq in everything if in_runs(runs, seq)] == case["sees"]
    until = known_until(memberships)
    assert until == (END if case["until"] == "end" else case["until"])
    found = [seq for seq in everything if in_runs(commit_runs(memberships), seq)]
    commits = [seq for seq in found if case["log"][seq - 1] == "commit"]
    assert commits == case.get("commits", [seq for seq in case["sees"] if case["log"][seq - 1] == "commit"])


VISIBILITIES = ["world_readable", "shared", "invited", "joined"]
MEMBERSHIPS = ["invite", "join", "leave", "ban", "knock"]


def allowed(visibility: str, membership: str, *, joined_after: bool) -> bool:
    """Matrix's rule for one event, as its text has it."""
    if visibility == "world_readable":
        return True
    if membership == "join":
        return True
    if visibility == "shared" and joined_after:
        return True
    return membership == "invite" and visibility == "invited"


@quick
@given(st.lists(st.sampled_from([*VISIBILITIES, *MEMBERSHIPS, "message"]), max_size=14))
def test_runs_are_what_the_rule_says_event_by_event(steps: list[str]) -> None:
    log = [
        f"visibility {step}" if step in VISIBILITIES else f"bob {step}" if step in MEMBERSHIPS else step
        for step in steps
    ]
    runs = visible_runs(*changes(log))
    visibility, membership = DEFAULT, "leave"
    last_join = max((seq for seq, step in enumerate(steps, 1) if step == "join"), default=0)
    for seq, step in enumerate(steps, 1):
        before = (visibility, membership)
        visibility = step if step in VISIBILITIES else visibility
        membership = step if step in MEMBERSHIPS else membership
        # The leave or ban that ends the last stay is told by the membership before it.
        expected = any(
            allowed(*values, joined_after=last_join >= seq) for values in ((visibility, membership), before)
        )
        assert in_runs(runs, seq) == expected, (log, seq)
    assert list(runs) == sorted(runs)
    assert all(first <= last for first, last in runs)
    assert all(earlier[1] + 1 < later[0] for earlier, later in pairwise(runs))


def test_an_unknown_value_is_the_default() -> None:
    for content in ({}, {"history_visibility": None}, {"history_visibility": ["joined"]}):
        assert visibility_of(content) == DEFAULT == "shared"
    assert visibility_of({"history_visibility": "invited"}) == "invited"


def test_a_room_is_world_readable_by_its_current_state() -> None:
    def state(value: str) -> Any:
        event = local_event(
            type="m.room.history_visibility", state_key="", content={"history_visibility": value}
        )
        return {("m.room.history_visibility", ""): event}

    assert is_world_readable(state("world_readable"))
    assert not is_world_readable(state("shared"))
    assert not is_world_readable({})


def test_runs_that_touch_become_one() -> None:
    assert merged([(5, 6), (1, 2), (3, 3), (8, 9), (5, 7)]) == ((1, 3), (5, 9))
    assert merged([(1, 9), (2, 3), (20, 25), (21, 22)]) == ((1, 9), (20, 25))
    assert merged([]) == ()


def test_who_was_a_member_sees_commits_from_the_first_entry_to_their_last_leave() -> None:
    assert commit_runs([(3, "join"), (7, "leave"), (9, "invite")]) == ((1, 7),)
    assert commit_runs([(3, "join")]) == ((1, END),)
    assert commit_runs([(3, "invite"), (4, "leave")]) == ()


def test_a_value_holds_from_its_change_on() -> None:
    listed = ((2, "a"), (5, "b"))
    assert [value_at(listed, seq, "none") for seq in (0, 1, 2, 4, 5, 9)] == [
        "none",
        "none",
        "a",
        "a",
        "b",
        "b",
    ]


def test_commits_and_their_parts_are_what_members_always_see() -> None:
    assert {"m.mls.commit", "dev.linearized.mls.commit_part"} == ALWAYS_VISIBLE
