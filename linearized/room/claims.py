"""What a client's credential claims, as preauthorization asks for it (draft-ietf-mimi-room-policy,
"Preauthorized Users").

The draft names claims of X.509 certificates and tokens; leaves of our rooms have basic credentials, of which
it only says that there is an identity. That, its user and its provider are the claims here; a claim of any
other credential type is met by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from linearized.mimi.policy.preauth import PreAuthData
from linearized.protocol.identifiers import user_domain, user_uri

BASIC: Final = 1
"""CredentialType (RFC 9420, section 17.5)."""
IDENTITY: Final = b""
"""The whole content of the credential; there is nothing else in it to name."""
USER: Final = b"user"
"""The user URI."""
PROVIDER: Final = b"provider"
"""The domain of the user's provider."""

Claims = Mapping[tuple[int, bytes], bytes]


def claims_of(user_id: str, identity: bytes | None = None) -> Claims:
    """The claims of a user, by credential type and claim ID.

    Args:
        identity: the content of the client's basic credential; None before a client of theirs is known.
    """
    claims = {(BASIC, USER): user_uri(user_id).encode(), (BASIC, PROVIDER): user_domain(user_id).encode()}
    return claims if identity is None else {**claims, (BASIC, IDENTITY): identity}


def preauthorized_role(preauth: PreAuthData, claims: Claims) -> int | None:
    """The role that claims give; None if none.

    "A PreAuthRoleEntry matches for a requester when every Claim.claim_id has a corresponding claim in the
    requester's MLS Credential which exactly matches the corresponding claim_value." Of several, "the
    requesting client receives the first role which matches its claims."
    """
    for entry in preauth.preauthorized_entries:
        if all(
            claims.get((claim.claim_id.credential_type, claim.claim_id.id)) == claim.claim_value
            for claim in entry.claimset
        ):
            return entry.target_role.role_index
    return None
