"""Roles as power levels: the table, and what follows from it."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.presets import PRESETS, multi_organization
from linearized.mimi.policy.roles import Role, RoleData, SingleSourceRoleChangeTargets
from linearized.room.claims import PROVIDER
from linearized.room.roles import (
    ROLE_LEVELS,
    check_roles,
    has_policy,
    is_banned,
    level_of,
    power_levels_content,
    roles_of,
    rule_for,
)
from tests.room.policy_support import BANNED, OPEN, USER, changed, with_role
from tests.room.support import ALICE, ANNA, BOB
from tests.room.test_claims import claim, rules


def test_the_table_goes_down_and_holds_every_capability() -> None:
    levels = [level for level, _ in ROLE_LEVELS]
    assert levels == sorted(levels, reverse=True) == [100, 50, 0]
    assert frozenset.union(*(held for _, held in ROLE_LEVELS)) == frozenset(Capability)


@pytest.mark.parametrize(
    ("preset", "levels"),
    [
        ("open", [0, 0, 0, 50, 100, 100]),
        ("announcement", [0, 0, 0, 50, 100, 100]),
        ("moderated", [0, 0, 0, 0, 0, 50, 100, 100]),
        ("direct", [0, 0]),
    ],
)
def test_the_roles_of_a_preset_have_the_usual_levels(preset: str, levels: list[int]) -> None:
    assert [level_of(role) for role in PRESETS[preset].roles.roles] == levels


def test_admins_of_every_organization_are_moderators() -> None:
    roles = multi_organization(["x", "y"]).roles
    assert [level_of(role) for role in roles.roles] == [0, 0, 0, 0, 50, 50, 100, 100]


def test_a_role_without_capabilities_has_no_power() -> None:
    assert level_of(Role(role_index=9, role_name="nothing")) == 0


def test_power_levels_follow_from_roles_and_keep_what_roles_do_not_name() -> None:
    current = {
        "events": {"com.example": 7, "m.room.name": 100},
        "users": {BOB: 100},
        "notifications": {"room": 50},
    }
    content = power_levels_content(OPEN, {ALICE: 4, ANNA: 3, BOB: 2}, current)
    assert content["users"] == {ALICE: 100, ANNA: 50}
    assert content["notifications"] == {"room": 50}
    assert (content["invite"], content["kick"], content["ban"], content["redact"]) == (0, 0, 50, 50)
    assert content["events"]["com.example"] == 7
    assert content["events"]["m.room.name"] == 0
    assert content["events"]["m.room.power_levels"] == 50
    assert content["events"]["m.room.tombstone"] == 100
    assert power_levels_content(OPEN, {ALICE: 4, ANNA: 3, BOB: 2}, content) == content


def test_what_no_role_may_do_needs_the_highest_level() -> None:
    content = power_levels_content(PRESETS["direct"].roles, {ALICE: 2}, None)
    assert content["users"] == {}
    assert content["invite"] == content["events"]["m.room.power_levels"] == 100
    assert content["events"]["m.room.encrypted"] == 0


def test_malformed_levels_are_replaced() -> None:
    assert "x" not in power_levels_content(OPEN, {}, {"events": ["x"]})["events"]


def test_only_a_group_with_a_list_of_roles_has_a_policy() -> None:
    assert roles_of({}) is None
    assert not has_policy({})
    data = {ROLES_LIST: OPEN.encode()}
    assert roles_of(data) == OPEN
    assert has_policy(data)
    with pytest.raises(MimiDecodeError):
        roles_of({ROLES_LIST: b"\xff"})


def test_a_room_is_public_if_its_policy_lets_users_in_by_themselves() -> None:
    anybody = changed(
        0,
        role_capabilities=(Capability.OPEN_JOIN,),
        authorized_role_changes=(
            SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(USER,)),
        ),
    )
    preauth = rules((USER, [claim(PROVIDER, b"a.example")]))
    known = with_role(USER, Capability.JOIN_IF_PREAUTHORIZED)
    for roles, entries, current, rule in (
        (anybody, rules(), "invite", "public"),
        (known, preauth, "knock", "public"),
        (known, rules(), "public", "invite"),
        (OPEN, preauth, "public", "invite"),
        (OPEN, rules(), "knock", "knock"),
    ):
        assert rule_for(roles, entries, current) == rule


def test_participants_have_roles_of_their_room() -> None:
    check_roles(OPEN, [1, 2, 5])
    check_roles(None, [1, 2])
    for roles, index in ((OPEN, 0), (OPEN, 6), (None, 3)):
        with pytest.raises(MimiDecodeError, match=f"role {index}"):
            check_roles(roles, [index])


def test_role_one_is_the_banned_where_it_has_that_name() -> None:
    assert is_banned(OPEN, BANNED)
    assert not is_banned(OPEN, USER)
    assert not is_banned(None, BANNED)
    assert not is_banned(RoleData(roles=(Role(role_index=1, role_name="regular"),)), 1)
