"""What the room uses of MLS: the binding's value types, its errors, and the few entry points as a Protocol.

The room is handed an ``Mls``; it never calls the binding's module functions itself, but for a hash, so that
the clock a lifetime is checked with comes from outside like every other time. All ``bytes`` are TLS-encoded.
Every method of the types below raises ``MlsError`` (or a subclass) and changes nothing on failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import openmls
from openmls import (
    AppDataUpdate,
    Member,
    MessageInfo,
    MlsError,
    ProposalInfo,
    PublicGroup,
    SignatureKeyPair,
    StagedCommit,
    WrongEpoch,
    proposal_reference,
)

__all__ = [
    "CIPHERSUITES",
    "AppDataUpdate",
    "Member",
    "MessageInfo",
    "Mls",
    "MlsError",
    "ProposalInfo",
    "PublicGroup",
    "SignatureKeyPair",
    "StagedCommit",
    "WrongEpoch",
    "proposal_reference",
]


CIPHERSUITES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519": openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519,
        "MLS_128_DHKEMP256_AES128GCM_SHA256_P256": openmls.CIPHERSUITE_P256_AES128GCM_SHA256_P256,
        "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519": (
            openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519
        ),
        "MLS_256_DHKEMP384_AES256GCM_SHA384_P384": openmls.CIPHERSUITE_P384_AES256GCM_SHA384_P384,
    }
)
"""The cipher suites of rooms, by their registered names (RFC 9420, section 17.1). The binding has X-Wing too,
whose number nobody has registered: a room of it could have members of one implementation only.
"""


class Mls(Protocol):
    """The implementation as the room sees it."""

    def inspect_message(self, data: bytes) -> MessageInfo:
        """Parse the outside of an MLSMessage strictly."""
        ...

    def welcome_references(self, welcome: bytes) -> Sequence[bytes]:
        """The KeyPackageRefs a Welcome (MLSMessage or bare) is for."""
        ...

    def observe(self, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """Start tracking a group from a signed GroupInfo and its tree, both verified."""
        ...

    def load(self, snapshot: bytes, *, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """Continue from a snapshot, or from GroupInfo and tree if another version wrote it."""
        ...
