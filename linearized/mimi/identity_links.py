"""Who is behind a pseudonym: identity links sealed and opened (draft-ietf-mimi-protocol-06, "Credential
encryption").

The draft leaves the key of ``identity_link_ciphertext`` open. Here every link has a key of its own, which its
client draws; who is in the room gets it end to end (``docs/decisions/0024-identity-links.md``). The
structures that carry keys are ours.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Annotated, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linearized.exceptions import MimiDecodeError
from linearized.mimi.pseudonyms import IdentityLinkTBE, PseudonymousCredential, PseudonymousCredentialTBS
from linearized.mimi.tls import MAX_URI_BYTES, Bytes, Fixed, Struct, Uri, Vector

LINK_KEY_BYTES: Final = 32  # AES-256-GCM
# The label of the real client's signature over a PseudonymousCredentialTBS.
LINK_LABEL: Final = "PseudonymousCredentialTBS"
# A key seals one link and nothing else, ever; so its nonce need not differ from anything.
_NONCE: Final = bytes(12)
# Keys in one message: with URIs of an ordinary length some 30 KiB, which base64 brings to two thirds of what
# an event may have.
MAX_LINK_KEYS: Final = 160
LINK_KEYS_TYPE: Final = "application/vnd.dev.linearized.link-keys"
"""Content type of the message that carries link keys to the members of a room."""

_HANDLE: Final = re.compile(r"(mimi://[^#]+)#([A-Za-z0-9_-]{43})")  # 43 characters of base64 are 32 bytes


class IdentityLinkError(MimiDecodeError):
    """An identity link cannot be opened, or does not say what it must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedIdentityLink(Struct):
    """The plaintext: the draft's ``IdentityLinkTBE``, and the statement (canonical JSON, signed) by which the
    real user's provider says which signature key the client in it has.
    """

    link: IdentityLinkTBE
    statement: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKey(Struct):
    """What opens the link of one client."""

    client_pseudonym: Uri
    key: Annotated[bytes, Fixed(LINK_KEY_BYTES)]

    def handle(self) -> str:
        """As one text, which a user gives to whoever is to add them: it names the pseudonym and opens its
        link, and whoever has it can do both.
        """
        key = base64.urlsafe_b64encode(self.key).decode("ascii").rstrip("=")
        return f"{self.client_pseudonym}#{key}"

    @classmethod
    def parse(cls, handle: str) -> Self:
        """Read a handle.

        Raises:
            IdentityLinkError: it is none.
        """
        found = _HANDLE.fullmatch(handle)
        if found is None or len(found[1]) > MAX_URI_BYTES:
            raise IdentityLinkError("that is not the handle of a pseudonym")
        return cls(client_pseudonym=found[1], key=base64.urlsafe_b64decode(found[2] + "="))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKeys(Struct):
    """The content of a message of ``LINK_KEYS_TYPE``."""

    keys: Annotated[tuple[LinkKey, ...], Vector(LinkKey, max_items=MAX_LINK_KEYS)]


def seal_link(key: bytes, signed: PseudonymousCredentialTBS, link: AttestedIdentityLink) -> bytes:
    """The ``identity_link_ciphertext`` of a credential.

    Args:
        key: ``LINK_KEY_BYTES`` that have sealed nothing else and never will.
        signed: the credential without its link, to which the ciphertext is bound.
    """
    return AESGCM(key).encrypt(_NONCE, link.encode(), signed.encode())


def open_link(key: bytes, credential: PseudonymousCredential) -> AttestedIdentityLink:
    """What is in a credential's ``identity_link_ciphertext``; its signatures are not checked here.

    Raises:
        IdentityLinkError: the key is another link's, or the link is malformed.
    """
    try:
        opened = AESGCM(key).decrypt(_NONCE, credential.identity_link_ciphertext, credential.tbs().encode())
    except (InvalidTag, ValueError) as error:
        raise IdentityLinkError("the key does not open this identity link") from error
    try:
        return AttestedIdentityLink.decode(opened)
    except MimiDecodeError as error:
        raise IdentityLinkError(f"the identity link is malformed: {error}") from error
