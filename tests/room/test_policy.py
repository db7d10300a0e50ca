"""The policy that a group's components make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import BASE_ROOM_POLICY, PREAUTH_LIST, ROLES_LIST
from linearized.mimi.policy.roles import NOBODY, RoleData
from linearized.room.claims import PROVIDER
from linearized.room.policy import policy_of, require
from linearized.room.submissions import Reason, Rejected
from tests.room.policy_support import DORA, GOVERNOR, OPEN, policy
from tests.room.support import ALICE, participant_list
from tests.room.test_claims import claim, rules

LISTED = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR))}
DATA = {ROLES_LIST: OPEN.encode(), **LISTED}


def test_what_a_group_does_not_say_has_its_default() -> None:
    found = policy_of(DATA, {})
    assert found == policy({ALICE: GOVERNOR}, clients={})
    assert found.role_of(ALICE).role_name == "super_admin"
    assert found.role_of(DORA).role_name == "no_role"


def test_a_group_says_who_is_preauthorized_and_how_membership_works() -> None:
    preauth = rules((2, [claim(PROVIDER, b"d.example")]))
    base = BaseRoomPolicy(max_users=7)
    found = policy_of({**DATA, PREAUTH_LIST: preauth.encode(), BASE_ROOM_POLICY: base.encode()}, {})
    assert (found.preauth, found.base) == (preauth, base)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({ROLES_LIST: b"\xff"}, "does not hold"),
        ({ROLES_LIST: RoleData(roles=(NOBODY,)).encode()}, "role 4"),
        ({PREAUTH_LIST: rules((9, [claim(PROVIDER, b"x")])).encode()}, "role 9, which is none"),
    ],
)
def test_a_policy_that_does_not_hold_is_refused(change: dict[int, bytes], reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as raised:
        policy_of({**DATA, **change}, {})
    assert raised.value.code is Reason.INVALID_COMMIT


def test_a_missing_capability_is_named() -> None:
    require(policy(), ALICE, Capability.BAN)
    with pytest.raises(Rejected, match=r"@dora:d\.example does not have canBan"):
        require(policy(), DORA, Capability.BAN)


def test_nobody_enters_a_room_that_says_nothing_of_it() -> None:
    assert policy().entrances(DORA) == []
    assert not replace(policy(), roles=OPEN).may_enter(DORA, 2)
