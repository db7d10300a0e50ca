"""The ready-made roles against the draft's examples, value by value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import decode_policy
from linearized.mimi.policy.presets import PRESETS, Preset, multi_organization
from linearized.mimi.policy.roles import Role, RoleData
from tests.mimi.support import VECTORS

EXAMPLES: dict[str, list[dict[str, Any]]] = json.loads(
    (VECTORS / "mimi-room-policy" / "role_examples.json").read_text()
)
ORGANIZATIONS = ("org_a", "org_b", "org_c")
ROOMS = {
    "Cooperatively administered room": PRESETS["open"],
    "Strictly administered room": PRESETS["announcement"],
    "Moderated room": PRESETS["moderated"],
    "Multi-organization administered room": multi_organization(ORGANIZATIONS),
}
# Slips of the draft: a role that includes itself, one that the example does not have, and two capabilities
# that have no number.
MEANT = {("speaker", "speaker"): "attendee", ("moderator", "ordinary_user"): "speaker"}
WITHOUT_NUMBER = {"canRevokeVoice", "canGrantVoice"}
SPELLED = {"canUnban": "canUnBan"}
NAMED = {capability.label: capability for capability in Capability}


def capabilities(example: list[dict[str, Any]], name: str) -> set[Capability]:
    role = next(role for role in example if role["name"] == name)
    own = {NAMED[SPELLED.get(label, label)] for label in role["capabilities"] if label not in WITHOUT_NUMBER}
    included = role["include"]
    meant = MEANT.get((name, included), included)
    return own if meant is None else own | capabilities(example, meant)


def plain(role: Role) -> dict[str, Any]:
    return {
        "name": role.role_name,
        "index": role.role_index,
        "minimum_participants_constraint": role.minimum_participants_constraint,
        "maximum_participants_constraint": role.maximum_participants_constraint,
        "minimum_active_participants_constraint": role.minimum_active_participants_constraint,
        "maximum_active_participants_constraint": role.maximum_active_participants_constraint,
        "authorized_role_changes": [
            [change.from_role_index, list(change.target_role_indexes)]
            for change in role.authorized_role_changes
        ],
    }


def test_the_draft_has_four_examples() -> None:
    assert EXAMPLES.keys() == ROOMS.keys()


@pytest.mark.parametrize("room", EXAMPLES)
def test_a_set_of_roles_is_the_drafts_example(room: str) -> None:
    example, roles = EXAMPLES[room], ROOMS[room].roles.roles
    expected = [
        {key: value for key, value in role.items() if key not in {"capabilities", "include"}}
        for role in example
    ]
    assert [plain(role) for role in roles] == expected
    for role in roles:
        wanted = capabilities(example, role.role_name)
        assert set(role.role_capabilities) == wanted, role.role_name
        assert role.role_capabilities == tuple(sorted(wanted))


@pytest.mark.parametrize("preset", [*PRESETS.values(), ROOMS["Multi-organization administered room"]])
def test_a_preset_is_a_policy_that_holds_together(preset: Preset) -> None:
    assert list(decode_policy(preset.components()).values()) == [preset.roles, preset.base]
    for index in (preset.creator_role, preset.roles.entry_role(preset.creator_role)):
        assert preset.roles.role(index).maximum_active_participants_constraint is None


def test_a_direct_conversation_has_one_role_which_nobody_can_change_or_leave() -> None:
    roles = PRESETS["direct"].roles
    (user,) = roles.non_banned()
    assert user.role_index == 2
    assert not user.authorized_role_changes
    assert not roles.bans
    moving = {Capability.ADD_PARTICIPANT, Capability.REMOVE_PARTICIPANT, Capability.REMOVE_SELF}
    assert moving.isdisjoint(user.role_capabilities)
    assert PRESETS["direct"].base.fixed_membership


def test_the_host_of_two_organizations_comes_first() -> None:
    preset = multi_organization(["north", "south"])
    assert [role.role_name for role in preset.roles.roles] == [
        "no_role",
        "banned",
        "north_user",
        "south_user",
        "north_admin",
        "south_admin",
        "super_admin",
        "policy_enforcer",
    ]
    assert preset.roles.role(preset.creator_role).role_name == "super_admin"
    assert preset.roles.role(preset.roles.entry_role(preset.creator_role)).role_name == "north_user"


def test_one_organization_is_not_several() -> None:
    with pytest.raises(ValueError, match="two at least"):
        multi_organization(["alone"])
    with pytest.raises(ValueError, match="at most"):
        multi_organization([f"org_{number}" for number in range(130)]).roles.encode()


def test_roles_survive_the_wire() -> None:
    for preset in ROOMS.values():
        assert RoleData.decode(preset.roles.encode()) == preset.roles
