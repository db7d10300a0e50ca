"""The components of a group, and what must hold between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.bots import Bot, BotPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.components import (
    BASE_ROOM_POLICY,
    BOT_POLICY,
    CHAT_HISTORY_POLICY,
    POLICY_COMPONENTS,
    PREAUTH_LIST,
    ROLES_LIST,
    decode_policy,
)
from linearized.mimi.policy.preauth import Claim, ClaimId, PreAuthData, PreAuthRoleEntry
from linearized.mimi.policy.retention import HistoryPolicy
from linearized.mimi.policy.roles import Role, RoleData
from linearized.mimi.tls import Struct

USER = Role(role_index=2, role_name="user")
SILENT = Role(role_index=3, role_name="silent", maximum_active_participants_constraint=0)
ROLES = RoleData(roles=(USER, SILENT))
CLAIM = Claim(claim_id=ClaimId(credential_type=1, id=b""), claim_value=b"x")


def bots(role: int) -> BotPolicy:
    bot = Bot(
        name="b",
        local_client_bot=False,
        bot_role_index=role,
        can_target_message_in_group=False,
        per_user_content=False,
    )
    return BotPolicy(allowed_bots=(bot,))


def history(role: int) -> HistoryPolicy:
    return HistoryPolicy(history_sharing=Optionality.OPTIONAL, roles_that_can_share=(role,))


def preauth(role: int) -> PreAuthData:
    entry = PreAuthRoleEntry(claimset=(CLAIM,), target_role=replace(USER, role_index=role))
    return PreAuthData(preauthorized_entries=(entry,))


def encode(**parts: Struct) -> dict[int, bytes]:
    numbers = {kind: component for component, kind in POLICY_COMPONENTS.items()}
    return {numbers[type(part)]: part.encode() for part in parts.values()}


def test_component_numbers_are_the_ones_the_draft_suggests() -> None:
    assert list(POLICY_COMPONENTS) == list(range(0x24, 0x31))
    assert (ROLES_LIST, PREAUTH_LIST, BASE_ROOM_POLICY) == (0x25, 0x26, 0x27)
    assert (CHAT_HISTORY_POLICY, BOT_POLICY) == (0x2E, 0x2F)


def test_a_policy_is_read_from_the_groups_application_data() -> None:
    data = encode(roles=ROLES, base=BaseRoomPolicy(), history=history(2), bots=bots(2), preauth=preauth(2))
    found = decode_policy({**data, PARTICIPANT_LIST: b"not a policy"})
    assert found.keys() == data.keys()
    assert found[ROLES_LIST] == ROLES
    assert decode_policy({}) == {}


def test_policies_without_roles_have_nothing_to_contradict() -> None:
    assert decode_policy(encode(bots=bots(9))).keys() == {BOT_POLICY}


def test_bots_without_a_role_need_none() -> None:
    assert decode_policy(encode(roles=ROLES, bots=bots(0)))


@pytest.mark.parametrize("part", [history(9), bots(9), preauth(9)])
def test_a_policy_refers_to_roles_that_are_there(part: Struct) -> None:
    with pytest.raises(ValueError, match="role 9, which is none"):
        decode_policy(encode(roles=ROLES, part=part))


def test_history_is_shared_by_roles_that_have_clients() -> None:
    with pytest.raises(ValueError, match="role 3 has no clients"):
        decode_policy(encode(roles=ROLES, part=history(3)))


def test_nobody_adds_participants_to_a_fixed_membership() -> None:
    adding = RoleData(roles=(replace(USER, role_capabilities=(Capability.ADD_PARTICIPANT,)),))
    assert decode_policy(encode(roles=adding, base=BaseRoomPolicy()))
    with pytest.raises(ValueError, match="fixed membership"):
        decode_policy(encode(roles=adding, base=BaseRoomPolicy(fixed_membership=True)))
    assert decode_policy(encode(roles=ROLES, base=BaseRoomPolicy(fixed_membership=True)))


def test_a_malformed_component_is_a_decoding_error() -> None:
    with pytest.raises(MimiDecodeError):
        decode_policy({ROLES_LIST: b"\xff"})
