"""Credentials of minimal metadata rooms (draft-ietf-mimi-protocol-06, "Credential encryption").

The structures, as far as the draft fixes them. Its key management is not specified, so nothing here encrypts
or decrypts, and rooms refuse these credentials (``docs/decisions/0017-minimal-metadata.md``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.mls_framing import walk_credential
from linearized.mimi.tls import Bytes, Raw, Struct, Uri

# "pseudonyms in the shape of random UUIDs qualified with the domain of the user's provider": version 4.
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_USER: Final = re.compile(rf"mimi://([^/]+)/u/{_UUID}")
_CLIENT: Final = re.compile(rf"mimi://([^/]+)/d/{_UUID}(?:/{_UUID})?")


def _check_pseudonyms(client: str, user: str) -> None:
    of_client, of_user = _CLIENT.fullmatch(client), _USER.fullmatch(user)
    if of_client is None or of_user is None:
        raise ValueError("a pseudonym is a random UUID at a provider")
    if of_client[1] != of_user[1]:
        raise ValueError("a client's pseudonym and its user's are of one provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymousCredential(Struct):
    """A leaf's credential; ``identity_link_ciphertext`` is an encrypted ``IdentityLinkTBE``."""

    client_pseudonym: Uri
    user_pseudonym: Uri
    signature_public_key: Bytes
    identity_link_ciphertext: Bytes

    def __post_init__(self) -> None:
        _check_pseudonyms(self.client_pseudonym, self.user_pseudonym)


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymousCredentialTBS(Struct):
    """What the client's real key signs, so that nobody takes over somebody else's pseudonym."""

    client_pseudonym: Uri
    user_pseudonym: Uri
    signature_public_key: Bytes

    def __post_init__(self) -> None:
        _check_pseudonyms(self.client_pseudonym, self.user_pseudonym)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityLinkTBE(Struct):
    """Who is behind a pseudonym: the signature, and the client's real Credential, TLS-encoded."""

    pseudonymous_credential_signature: Bytes
    client_credential: Annotated[bytes, Raw(walk_credential)]


def is_pseudonymous(identity: bytes) -> bool:
    """Whether the content of a basic credential is a ``PseudonymousCredential``."""
    try:
        PseudonymousCredential.decode(identity)
    except MimiDecodeError:  # that is the question
        return False
    return True
