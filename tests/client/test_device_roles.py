"""The roles a device gives to users whom it adds, or lists because they came by themselves."""

from __future__ import annotations

from dataclasses import replace

from linearized.client import ROLE_REGULAR, MemoryStorage, MlsDevice
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.presets import PRESETS, Preset
from linearized.mimi.policy.roles import RoleData, SingleSourceRoleChangeTargets
from tests.client.support import ALICE, ROOM


def device(policy: Preset | None) -> MlsDevice:
    made = MlsDevice.open(MemoryStorage(), user_id=ALICE, device_id="DEV")
    made.create_group(ROOM, policy=policy)
    return made


def test_without_a_policy_everybody_becomes_a_regular_participant() -> None:
    made = device(None)
    assert made.entry_role(ROOM) == made.arrival_role(ROOM) == ROLE_REGULAR


def test_with_a_policy_users_get_the_lowest_role_that_this_one_may_give() -> None:
    made = device(PRESETS["moderated"])
    assert made.entry_role(ROOM) == made.arrival_role(ROOM) == 2


def test_who_came_by_themselves_gets_the_role_that_the_room_gives_to_everybody() -> None:
    moderated = PRESETS["moderated"]
    lobby = replace(
        moderated.roles.role(0),
        role_capabilities=(Capability.OPEN_JOIN,),
        authorized_role_changes=(SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(3,)),),
    )
    made = device(replace(moderated, roles=RoleData(roles=(lobby, *moderated.roles.roles[1:]))))
    assert (made.entry_role(ROOM), made.arrival_role(ROOM)) == (2, 3)
