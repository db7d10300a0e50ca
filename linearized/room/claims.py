"""What a client's credential claims, as preauthorization asks for it (draft-ietf-mimi-room-policy,
"Preauthorized Users").

Of a basic credential it only says that there is an identity. That, its user and its provider are the claims
here; the latter two are met by the client of a user with certificates as well. Of X.509 it names the claim by
the OID: the attributes of the subject and the extensions that are nobody's standard (``mimi.certificates``).
A claim of any other credential type is met by nobody.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from linearized.mimi.certificates import is_certified, read_certified
from linearized.mimi.key_material import basic_identity
from linearized.mimi.policy.preauth import PreAuthData
from linearized.protocol.identifiers import user_domain, user_uri

BASIC: Final = 1
"""CredentialType (RFC 9420, section 17.5)."""
CERTIFIED: Final = 2
"""CredentialType x509."""
IDENTITY: Final = b""
"""The whole content of the credential; there is nothing else in it to name."""
USER: Final = b"user"
"""The user URI."""
PROVIDER: Final = b"provider"
"""The domain of the user's provider."""

Claims = Set[tuple[int, bytes, bytes]]


def claims_of(user_id: str, credential: bytes | None = None) -> Claims:
    """The claims of a user: credential type, claim ID, value; a certificate may have several of one ID.

    Args:
        credential: the TLS-encoded Credential of a client of theirs that ``client_of`` has read; None before
            one is known.
    """
    claims = {
        (BASIC, USER, user_uri(user_id).encode()),
        (BASIC, PROVIDER, user_domain(user_id).encode()),
    }
    if credential is None:
        return claims
    if is_certified(credential):
        return claims | {(CERTIFIED, oid, value) for oid, value in read_certified(credential).claims}
    return claims | {(BASIC, IDENTITY, basic_identity(credential))}


def preauthorized_role(preauth: PreAuthData, claims: Claims) -> int | None:
    """The role that claims give; None if none.

    "A PreAuthRoleEntry matches for a requester when every Claim.claim_id has a corresponding claim in the
    requester's MLS Credential which exactly matches the corresponding claim_value." Of several, "the
    requesting client receives the first role which matches its claims."
    """
    for entry in preauth.preauthorized_entries:
        if all(
            (claim.claim_id.credential_type, claim.claim_id.id, claim.claim_value) in claims
            for claim in entry.claimset
        ):
            return entry.target_role.role_index
    return None
