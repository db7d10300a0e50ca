"""What credentials claim, and the role that gives."""

from __future__ import annotations

import pytest

from linearized.mimi.key_material import basic_credential
from linearized.mimi.policy.preauth import Claim, ClaimId, PreAuthData, PreAuthRoleEntry
from linearized.mimi.policy.roles import Role
from linearized.room.claims import BASIC, IDENTITY, PROVIDER, USER, claims_of, preauthorized_role
from tests.room.support import ALICE, BOB

DEVICE = b"mimi://a.example/d/alice/ABC"


def claim(name: bytes, value: bytes, *, credential_type: int = BASIC) -> Claim:
    return Claim(claim_id=ClaimId(credential_type=credential_type, id=name), claim_value=value)


def rules(*entries: tuple[int, list[Claim]]) -> PreAuthData:
    return PreAuthData(
        preauthorized_entries=tuple(
            PreAuthRoleEntry(claimset=tuple(claims), target_role=Role(role_index=index, role_name="role"))
            for index, claims in entries
        )
    )


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ([claim(PROVIDER, b"a.example")], 2),
        ([claim(USER, b"mimi://a.example/u/alice")], 2),
        ([claim(IDENTITY, DEVICE)], 2),
        ([claim(PROVIDER, b"a.example"), claim(IDENTITY, DEVICE)], 2),
        ([claim(PROVIDER, b"a.example"), claim(IDENTITY, b"other")], None),
        ([claim(PROVIDER, b"A.EXAMPLE")], None),
        ([claim(b"unknown", b"")], None),
        ([claim(PROVIDER, b"a.example", credential_type=2)], None),
    ],
)
def test_every_claim_has_to_match_exactly(claims: list[Claim], role: int | None) -> None:
    assert preauthorized_role(rules((2, claims)), claims_of(ALICE, basic_credential(DEVICE))) == role


def test_the_first_entry_that_matches_counts() -> None:
    data = rules(
        (4, [claim(USER, b"mimi://a.example/u/boss")]),
        (3, [claim(PROVIDER, b"a.example")]),
        (2, [claim(PROVIDER, b"a.example")]),
    )
    assert preauthorized_role(data, claims_of(ALICE)) == 3
    assert preauthorized_role(data, claims_of(BOB)) is None


def test_without_a_client_nobody_claims_an_identity() -> None:
    assert not any(claim[:2] == (BASIC, IDENTITY) for claim in claims_of(ALICE))
