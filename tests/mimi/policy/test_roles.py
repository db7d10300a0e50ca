"""Roles on the wire, and the rules of their text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.roles import NOBODY, Role, RoleData, SingleSourceRoleChangeTargets
from linearized.mimi.tls import UnknownValue
from tests.mimi.support import u16, vec

USER = Role(
    role_index=2,
    role_name="user",
    role_capabilities=(Capability.ADD_PARTICIPANT, UnknownValue(0xF001)),
    maximum_participants_constraint=5,
    minimum_active_participants_constraint=1,
    authorized_role_changes=(SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(2, 0)),),
)
BANNED = Role(role_index=1, role_name="banned")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


ENCODED = (
    u32(2)
    + vec(b"user")
    + vec()
    + vec(u16(0), u16(0xF001))
    + u32(0)
    + b"\x01"
    + u32(5)
    + u32(1)
    + b"\x00"
    + vec(u32(0) + vec(u32(2), u32(0)))
)


def test_roles_are_written_as_the_draft_lays_them_out() -> None:
    data = RoleData(roles=(USER,))
    assert data.encode() == vec(ENCODED)
    assert RoleData.decode(vec(ENCODED)) == data


def test_a_capability_of_the_future_is_kept_and_allows_nothing() -> None:
    role = Role.decode(ENCODED)
    assert role.has(Capability.ADD_PARTICIPANT)
    assert not role.has(Capability.BAN)
    assert repr(role.role_capabilities[1]) == "UnknownValue(61441)"


def test_a_role_says_where_it_may_move_whom() -> None:
    assert USER.targets(0) == (2, 0)
    assert USER.targets(2) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role_name": ""}, "no name"),
        ({"role_name": "banned"}, "cannot be called banned"),
        ({"minimum_participants_constraint": 6}, "at least 6 and at most 5"),
        ({"maximum_active_participants_constraint": 0}, "at least 1 and at most 0"),
        ({"authorized_role_changes": USER.authorized_role_changes * 2}, "changes from one role twice"),
        ({"role_capabilities": (Capability.OPEN_JOIN,)}, "for those who have no role"),
        (
            {"role_index": 0, "role_capabilities": (Capability.OPEN_JOIN,), "authorized_role_changes": ()},
            "names no role",
        ),
    ],
)
def test_a_role_that_breaks_a_rule_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(USER, **change)  # type: ignore[arg-type]


def test_a_broken_rule_on_the_wire_is_a_decoding_error() -> None:
    nameless = ENCODED.replace(vec(b"user"), vec())
    with pytest.raises(MimiDecodeError, match="no name"):
        Role.decode(nameless)


def test_everybody_may_join_if_those_without_a_role_say_where() -> None:
    lobby = replace(USER, role_index=0, role_capabilities=(Capability.OPEN_JOIN,))
    assert lobby.targets(0) == (2, 0)


def test_role_indices_are_unique_and_refer_to_roles() -> None:
    with pytest.raises(ValueError, match="same index"):
        RoleData(roles=(USER, replace(USER, role_name="other")))
    stray = SingleSourceRoleChangeTargets(from_role_index=7)
    with pytest.raises(ValueError, match="role 7, which is none"):
        RoleData(roles=(replace(USER, authorized_role_changes=(stray,)),))


def test_who_has_no_role_may_nothing_unless_a_role_says_so() -> None:
    assert RoleData(roles=(USER,)).role(0) is NOBODY
    assert RoleData(roles=(USER,)).role(2) is USER
    lobby = replace(USER, role_index=0)
    assert RoleData(roles=(lobby, USER)).role(0) is lobby
    with pytest.raises(LookupError, match="role 3"):
        RoleData(roles=(USER,)).role(3)


def test_bans_need_the_banned_role_as_the_draft_names_it() -> None:
    assert RoleData(roles=(BANNED, USER)).bans
    assert not RoleData(roles=(replace(BANNED, role_name="regular"), USER)).bans
    assert list(RoleData(roles=(NOBODY, BANNED, USER)).non_banned()) == [USER]


def test_who_is_added_without_a_role_gets_the_lowest_that_the_adder_may_give() -> None:
    entry = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(1, 4, 3))
    admin = replace(USER, role_index=5, role_name="admin", authorized_role_changes=(entry,))
    others = [replace(USER, role_index=index, authorized_role_changes=()) for index in (2, 3, 4)]
    roles = RoleData(roles=(NOBODY, BANNED, *others, admin))
    assert roles.entry_role(5) == 3
    assert roles.entry_role(2) == 2
    assert RoleData().entry_role(0) == 0
