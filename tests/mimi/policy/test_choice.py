"""The choice of a policy in a create event."""

from __future__ import annotations

import pytest

from linearized.mimi.policy.choice import MAX_ORGANIZATIONS, chosen_policy
from linearized.mimi.policy.components import decode_policy
from linearized.mimi.policy.presets import PRESETS, multi_organization


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_stands_for_a_ready_made_policy(name: str) -> None:
    assert chosen_policy(name) is PRESETS[name]


def test_organizations_are_named_host_first() -> None:
    assert chosen_policy({"organizations": ["north", "south"]}) == multi_organization(["north", "south"])


def test_the_most_and_the_longest_organizations_make_a_policy() -> None:
    names = [f"{number:03}".ljust(249, "x") for number in range(MAX_ORGANIZATIONS)]
    assert decode_policy(chosen_policy({"organizations": names}).components())


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("anarchy", "one of open, moderated, announcement, direct"),
        (7, "one of"),
        ({}, "one of"),
        ({"organizations": "north"}, "one of"),
        ({"organizations": ["north"]}, "two at least"),
        ({"organizations": ["north", "north"]}, "different names"),
        ({"organizations": ["north", ""]}, "different names"),
        ({"organizations": ["north", 1]}, "different names"),
        ({"organizations": ["north", "x" * 250]}, "too long"),
        ({"organizations": [str(number) for number in range(MAX_ORGANIZATIONS + 1)]}, "32 organizations"),
    ],
)
def test_another_choice_is_none(choice: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        chosen_policy(choice)


def test_the_policy_of_a_minimal_metadata_room_allows_pseudonyms_and_is_the_same_otherwise() -> None:
    plain, minimal = chosen_policy("moderated"), chosen_policy("moderated", pseudonyms=True)
    assert (plain.base.pseudonyms_allowed, minimal.base.pseudonyms_allowed) == (False, True)
    assert minimal.roles == plain.roles
