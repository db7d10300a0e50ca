"""Who may take a role by what their credential says (draft-ietf-mimi-room-policy, "Preauthorized Users")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS
from linearized.mimi.policy.roles import NO_ROLE, Role
from linearized.mimi.tls import Bytes, Struct, Uint16, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimId(Struct):
    """What a claim is about.

    ``id`` is by credential type: an X.509 OID in its binary form (DER, with tag and length), the name of a
    JWT claim, a CWT's key. See ``linearized.room.claims``.
    """

    credential_type: Uint16
    id: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Struct):
    """A claim and the value it has to have, compared as bytes."""

    claim_id: ClaimId
    claim_value: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PreAuthRoleEntry(Struct):
    """Who meets every claim may have the role."""

    claimset: Annotated[tuple[Claim, ...], Vector(Claim, max_items=MAX_ITEMS)]
    target_role: Role

    def __post_init__(self) -> None:
        # "authorization to adopt a role in a room by virtue of certain credential claims or properties"
        if not self.claimset:
            raise ValueError("a preauthorization without a claim would be everybody's")
        if self.target_role.role_index == NO_ROLE:
            raise ValueError("nobody is preauthorized for no role")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreAuthData(Struct):
    """Data and update of the ``preauth_list`` component; an update replaces the data as a whole."""

    preauthorized_entries: Annotated[
        tuple[PreAuthRoleEntry, ...], Vector(PreAuthRoleEntry, max_items=MAX_ITEMS)
    ] = ()
