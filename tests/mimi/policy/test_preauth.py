"""Preauthorization on the wire, and the rules of its text."""

from __future__ import annotations

import pytest

from linearized.mimi.policy.preauth import Claim, ClaimId, PreAuthData, PreAuthRoleEntry
from linearized.mimi.policy.roles import Role
from tests.mimi.support import u16, vec

ROLE = Role(role_index=2, role_name="user")
CLAIM = Claim(claim_id=ClaimId(credential_type=2, id=bytes.fromhex("0603551d11")), claim_value=b"value")


def test_preauthorization_is_written_as_the_draft_lays_it_out() -> None:
    data = PreAuthData(preauthorized_entries=(PreAuthRoleEntry(claimset=(CLAIM,), target_role=ROLE),))
    claim = u16(2) + vec(bytes.fromhex("0603551d11")) + vec(b"value")
    encoded = vec(vec(claim) + ROLE.encode())
    assert data.encode() == encoded
    assert PreAuthData.decode(encoded) == data


def test_a_preauthorization_needs_a_claim_and_a_role() -> None:
    with pytest.raises(ValueError, match="everybody's"):
        PreAuthRoleEntry(claimset=(), target_role=ROLE)
    with pytest.raises(ValueError, match="no role"):
        PreAuthRoleEntry(claimset=(CLAIM,), target_role=Role(role_index=0, role_name="nobody"))
