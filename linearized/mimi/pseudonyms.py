"""Credentials of minimal metadata rooms (draft-ietf-mimi-protocol-06, "Credential encryption").

The structures, as far as the draft fixes them; what is in ``identity_link_ciphertext``, and with which key it
is sealed, is in ``identity_links``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.mimi.mls_framing import walk_credential
from linearized.mimi.tls import Bytes, Raw, Struct, Uri

MINIMAL_METADATA: Final = "dev.linearized.minimal_metadata"
"""In a room's create event: true if this is a minimal metadata room."""

# An identity link: a signature, a credential and what a provider says of it have less than one KiB together;
# servers keep what they have read of credentials.
MAX_LINK_BYTES: Final = 4096

# "pseudonyms in the shape of random UUIDs qualified with the domain of the user's provider": version 4.
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_PSEUDONYM: Final = re.compile(_UUID)
_USER: Final = re.compile(rf"mimi://([^/]+)/u/({_UUID})")
_CLIENT: Final = re.compile(rf"mimi://([^/]+)/d/(?:({_UUID})/)?({_UUID})")


def is_pseudonym(name: str) -> bool:
    """Whether a user's or a client's name (without its domain) is a random UUID, as pseudonyms are."""
    return _PSEUDONYM.fullmatch(name) is not None


def device_id_of(client_pseudonym: str) -> str:
    """See ``PseudonymousCredential.device_id``."""
    return client_pseudonym.rpartition("/")[2].replace("-", "_")


def _check_pseudonyms(client: str, user: str) -> None:
    of_client, of_user = _CLIENT.fullmatch(client), _USER.fullmatch(user)
    if of_client is None or of_user is None:
        raise ValueError("a pseudonym is a random UUID at a provider")
    if of_client[1] != of_user[1]:
        raise ValueError("a client's pseudonym and its user's are of one provider")
    if of_client[2] not in (None, of_user[2]):
        raise ValueError("a client's pseudonym names another user's")


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymousCredential(Struct):
    """A leaf's credential; ``identity_link_ciphertext`` is an encrypted ``IdentityLinkTBE``."""

    client_pseudonym: Uri
    user_pseudonym: Uri
    signature_public_key: Bytes
    identity_link_ciphertext: Bytes

    def __post_init__(self) -> None:
        _check_pseudonyms(self.client_pseudonym, self.user_pseudonym)
        if len(self.identity_link_ciphertext) > MAX_LINK_BYTES:
            raise ValueError("the identity link is too long")

    @property
    def device_id(self) -> str:
        """The client's UUID in the form that Linearized Matrix has for device IDs, which hold no hyphens."""
        return device_id_of(self.client_pseudonym)

    def tbs(self) -> PseudonymousCredentialTBS:
        """What the client's real key has signed."""
        return PseudonymousCredentialTBS(
            client_pseudonym=self.client_pseudonym,
            user_pseudonym=self.user_pseudonym,
            signature_public_key=self.signature_public_key,
        )


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
