"""Claiming KeyPackages (draft-ietf-mimi-protocol-06, "Fetch Key Material")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.exceptions import MimiDecodeError
from linearized.mimi.messages import Protocol
from linearized.mimi.mls_framing import walk_credential, walk_key_package
from linearized.mimi.tls import (
    Bytes,
    Enumeration,
    Maybe,
    Raw,
    Reader,
    Struct,
    Uint,
    UnknownValue,
    Uri,
    Vector,
    When,
    encode_vector,
)

REQUEST_LABEL = "KeyMaterialRequestTBS"
"""Label of ``SignWithLabel`` for requests."""

_BASIC_CREDENTIAL = bytes([0, 1])  # CredentialType basic (RFC 9420, Section 5.3)

# "The extension types … defined in this document" and its proposal types "are considered "default" and MUST
# NOT be listed" (RFC 9420, Section 7.2): application_id to external_senders, add to group_context_extensions.
_DEFAULT_EXTENSIONS = frozenset(range(1, 6))
_DEFAULT_PROPOSALS = frozenset(range(1, 8))


class KeyMaterialUserCode(IntEnum):
    """How the claim went for the user as a whole."""

    SUCCESS = 0
    PARTIAL_SUCCESS = 1
    INCOMPATIBLE_PROTOCOL = 2
    NO_COMPATIBLE_MATERIAL = 3
    USER_UNKNOWN = 4
    NO_CONSENT = 5
    NO_CONSENT_FOR_THIS_ROOM = 6
    USER_DELETED = 7


class KeyMaterialClientCode(IntEnum):
    """How it went for one client; the select has no default, so no other can be read."""

    SUCCESS = 0
    KEY_MATERIAL_EXHAUSTED = 1
    NOTHING_COMPATIBLE = 2


# "If the *user* code is `noCompatibleMaterial`, the provider MAY populate the `clients` list. For any other
# user code [than success and partialSuccess], the provider MUST NOT populate the `clients` list."
_CODES_WITH_CLIENTS = frozenset(
    {
        KeyMaterialUserCode.SUCCESS,
        KeyMaterialUserCode.PARTIAL_SUCCESS,
        KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredCapabilities(Struct):
    """What a KeyPackage must support (RFC 9420, Section 11.1); 16-bit registry values."""

    extension_types: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    proposal_types: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    credential_types: Annotated[tuple[int, ...], Vector(Uint(2))] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Struct):
    """What a client supports (RFC 9420, Section 7.2); 16-bit registry values."""

    versions: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    cipher_suites: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    extensions: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    proposals: Annotated[tuple[int, ...], Vector(Uint(2))] = ()
    credentials: Annotated[tuple[int, ...], Vector(Uint(2))] = ()


class Requirements:
    """What a client has to support to be in a group with these ``RequiredCapabilities``, ready to be compared
    with many clients' capabilities at the cost of theirs.
    """

    def __init__(self, required: RequiredCapabilities) -> None:
        self._extensions = frozenset(required.extension_types) - _DEFAULT_EXTENSIONS
        self._proposals = frozenset(required.proposal_types) - _DEFAULT_PROPOSALS
        self._credentials = frozenset(required.credential_types)

    def met_by(self, capabilities: Capabilities) -> bool:
        """Whether a client with these capabilities can be in the group (RFC 9420, Section 11.1)."""
        return (
            self._extensions <= {*capabilities.extensions}
            and self._proposals <= {*capabilities.proposals}
            and self._credentials <= {*capabilities.credentials}
        )


def capabilities_of(key_package: bytes) -> Capabilities:
    """The capabilities of the leaf in a key package (without MLSMessage header).

    Raises:
        MimiDecodeError: it is malformed up to there.
    """
    reader = Reader(key_package)
    reader.skip(4)  # version, cipher suite
    reader.skip_vectors(3)  # init_key, then the leaf's encryption_key and signature_key
    walk_credential(reader)
    return Capabilities.read_from(reader)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaterialRequestTBS(Struct):
    """What the requester signs, with ``REQUEST_LABEL``.

    ``room_id`` is empty if the request is not made for a room. ``requester_credential`` is a TLS-encoded
    Credential, ``requester_signature_key`` a raw public key of the scheme of the requester's cipher suite.
    """

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    requesting_user: Uri
    target_user: Uri
    room_id: Uri = ""
    # "For MLS, the request includes a non-empty list of acceptable MLS ciphersuites."
    acceptable_ciphersuites: Annotated[tuple[int, ...], Vector(Uint(2), min_items=1)]
    required_capabilities: RequiredCapabilities = RequiredCapabilities()
    requester_signature_key: Bytes
    requester_credential: Annotated[bytes, Raw(walk_credential)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaterialRequest(KeyMaterialRequestTBS):
    """The body of ``POST /keyMaterial/{targetUser}``."""

    signature: Bytes

    def tbs(self) -> bytes:
        """The ``KeyMaterialRequestTBS`` that ``signature`` covers, with ``REQUEST_LABEL``."""
        out = bytearray()
        KeyMaterialRequestTBS.write_fields(self, out)
        return bytes(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeyMaterial(Struct):
    """One client of the user: its KeyPackage (without MLSMessage header), or why there is none."""

    status: Annotated[KeyMaterialClientCode, Enumeration(KeyMaterialClientCode)]
    client_uri: Uri
    key_package: Annotated[
        bytes | None, When("status", (KeyMaterialClientCode.SUCCESS,), Raw(walk_key_package))
    ] = None
    capabilities: Annotated[
        Capabilities | None, When("status", (KeyMaterialClientCode.NOTHING_COMPATIBLE,), Maybe(Capabilities))
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaterialResponse(Struct):
    """The target provider's answer; ``clients`` is empty unless the user code allows it."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    user_status: Annotated[
        KeyMaterialUserCode | UnknownValue, Enumeration(KeyMaterialUserCode, extensible=True)
    ]
    user_uri: Uri
    clients: Annotated[tuple[ClientKeyMaterial, ...], Vector(ClientKeyMaterial)] = ()

    def __post_init__(self) -> None:
        if self.clients and self.user_status not in _CODES_WITH_CLIENTS:
            raise ValueError(f"clients are listed with user status {self.user_status!r}")


def is_of_another_protocol(request: bytes) -> bool:
    """Whether a ``KeyMaterialRequest`` is for a protocol that is not MLS 1.0. Whom it is for stands before
    the select on the protocol; what comes after cannot be read.

    Raises:
        MimiDecodeError: it is malformed up to there.
    """
    reader = Reader(request)
    protocol = reader.uint(1)
    if protocol in {0, Protocol.MLS10}:  # 0 is reserved
        return False
    reader.skip_vectors(3)  # requestingUser, targetUser, roomId
    return True


def basic_credential(identity: bytes) -> bytes:
    """The TLS encoding of a basic Credential."""
    return _BASIC_CREDENTIAL + encode_vector(identity)


def basic_identity(credential: bytes) -> bytes:
    """The identity in a basic Credential; ``MimiDecodeError`` if it is another kind or malformed."""
    reader = Reader(credential)
    if reader.take(2) != _BASIC_CREDENTIAL:
        raise MimiDecodeError("a basic credential was expected")
    identity = reader.vector()
    reader.finish()
    return identity
