"""GroupInfo for external joins (draft-ietf-mimi-protocol-06, "Claim group key information")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from linearized.mimi.app_data import AppDataDictionary
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.messages import Protocol
from linearized.mimi.mls_framing import walk_credential, walk_group_info, walk_public_proposal
from linearized.mimi.tls import (
    MAX_URI_BYTES,
    Bytes,
    Enumeration,
    Maybe,
    Opaque,
    Raw,
    Reader,
    Struct,
    Text,
    Uint,
    Uint16,
    Uint64,
    UnknownValue,
    Vector,
    When,
)

REQUEST_LABEL = "GroupInfoRequestTBS"
RESPONSE_LABEL = "GroupInfoResponseTBS"
"""Labels of ``SignWithLabel`` for requests and responses."""

ENCRYPTION_LABEL = "GroupInfo and ratchet_tree encryption"
"""Label of ``EncryptWithLabel`` for ``encrypted_groupinfo_and_tree``; its context is the room ID."""


APP_DATA_DICTIONARY: Final = 0x0006
"""Extension type of ``app_data_dictionary`` (draft-ietf-mls-extensions)."""


class GroupInfoCode(IntEnum):
    """What the hub answers; whatever is not ``SUCCESS`` has nothing after it (``default: struct{}``)."""

    SUCCESS = 1
    NOT_AUTHORIZED = 2
    NO_SUCH_ROOM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoRequestTBS(Struct):
    """What the client signs, with ``REQUEST_LABEL``; keys are raw, the credential is TLS-encoded."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    cipher_suite: Uint16
    signature_key: Bytes
    credential: Annotated[bytes, Raw(walk_credential)]
    group_info_public_key: Bytes
    joining_code: Annotated[bytes | None, Maybe(Opaque())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoRequest(GroupInfoRequestTBS):
    """The body of ``POST /groupInfo/{roomId}``."""

    signature: Bytes

    def tbs(self) -> bytes:
        """The ``GroupInfoRequestTBS`` that ``signature`` covers, with ``REQUEST_LABEL``."""
        out = bytearray()
        GroupInfoRequestTBS.write_fields(self, out)
        return bytes(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSender(Struct):
    """A sender outside the group (RFC 9420, Section 12.1.8.1): raw public key, TLS-encoded credential."""

    signature_key: Bytes
    credential: Annotated[bytes, Raw(walk_credential)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSenders(Struct):
    """The content of a group's ``external_senders`` extension (RFC 9420, Section 12.1.8.1)."""

    senders: Annotated[tuple[ExternalSender, ...], Vector(ExternalSender)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HPKECiphertext(Struct):
    """The output of ``EncryptWithLabel`` (RFC 9420, Section 5.1.3)."""

    kem_output: Bytes
    ciphertext: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingProposal(Struct):
    """A proposal the hub accepted in the current epoch, and when (milliseconds since the Unix epoch)."""

    proposal: Annotated[bytes, Raw(walk_public_proposal)]
    hub_accepted_time: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoRatchetTreeTBE(Struct):
    """What is encrypted to the requester: everything an external commit needs."""

    group_info: Annotated[bytes, Raw(walk_group_info)]
    ratchet_tree: RatchetTreeOption
    pending_proposals: Annotated[tuple[PendingProposal, ...], Vector(PendingProposal)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoResponseTBS(Struct):
    """What the hub signs with the key in ``hub_sender``, and ``RESPONSE_LABEL``."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    room_id: Annotated[str, Text("ascii", MAX_URI_BYTES)]
    status: Annotated[
        GroupInfoCode | UnknownValue, Enumeration(GroupInfoCode, extensible=True, reserved=(0,))
    ]
    cipher_suite: Uint16
    hub_sender: ExternalSender
    encrypted_groupinfo_and_tree: HPKECiphertext


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoResponse(Struct):
    """The hub's answer; the fields from ``cipher_suite`` on are there only if ``status`` is ``SUCCESS``."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    room_id: Annotated[str, Text("ascii", MAX_URI_BYTES)]
    status: Annotated[
        GroupInfoCode | UnknownValue, Enumeration(GroupInfoCode, extensible=True, reserved=(0,))
    ]
    cipher_suite: Annotated[int | None, When("status", (GroupInfoCode.SUCCESS,), Uint(2))] = None
    hub_sender: Annotated[ExternalSender | None, When("status", (GroupInfoCode.SUCCESS,), ExternalSender)] = (
        None
    )
    encrypted_groupinfo_and_tree: Annotated[
        HPKECiphertext | None, When("status", (GroupInfoCode.SUCCESS,), HPKECiphertext)
    ] = None
    signature: Annotated[bytes | None, When("status", (GroupInfoCode.SUCCESS,), Opaque())] = None

    def tbs(self) -> bytes:
        """The ``GroupInfoResponseTBS`` that ``signature`` covers; ``ValueError`` unless it is a success."""
        if self.cipher_suite is None or self.hub_sender is None or self.encrypted_groupinfo_and_tree is None:
            raise ValueError("only a successful response is signed")
        return GroupInfoResponseTBS(
            protocol=self.protocol,
            room_id=self.room_id,
            status=self.status,
            cipher_suite=self.cipher_suite,
            hub_sender=self.hub_sender,
            encrypted_groupinfo_and_tree=self.encrypted_groupinfo_and_tree,
        ).encode()


def app_data_of(group_info: bytes) -> dict[int, bytes]:
    """The application data in the context of a GroupInfo, by component; nothing is verified.

    Args:
        group_info: a GroupInfo (RFC 9420, 12.4.3), without MLSMessage header.

    Raises:
        MimiDecodeError: it is malformed.
    """
    reader = Reader(group_info)
    reader.skip(4)  # version, cipher suite
    reader.skip_vectors(1)  # group_id
    reader.skip(8)  # epoch
    reader.skip_vectors(2)  # tree_hash, confirmed_transcript_hash
    extensions = reader.sub()
    while extensions.remaining:
        kind, data = extensions.uint(2), extensions.vector()
        if kind == APP_DATA_DICTIONARY:
            return AppDataDictionary.decode(data).to_mapping()
    return {}


def cipher_suite_of(group_info: bytes) -> int:
    """The cipher suite of a GroupInfo; nothing is verified. Argument and error as for ``app_data_of``."""
    reader = Reader(group_info)
    reader.skip(2)  # version
    return reader.uint(2)
