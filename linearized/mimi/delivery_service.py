"""The delivery service operations (draft-robert-mimi-delivery-service): requests of clients to a hub.

The draft is unfinished: enumerations have no numbers, errors no content, two structures the names of others.
What was chosen is in ``docs/divergence.md``. The structures of the fan-out are in ``fanout_requests``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from linearized.exceptions import MimiDecodeError
from linearized.mimi.messages import walk_application
from linearized.mimi.mls_framing import (
    walk_extensions,
    walk_key_package,
    walk_mls_message,
    walk_public_commit,
    walk_public_proposal,
    walk_ratchet_tree,
)
from linearized.mimi.tls import (
    Bytes,
    Codec,
    Enumeration,
    Raw,
    Reader,
    String,
    Struct,
    Uint,
    Uint32,
    Uint64,
    UnknownValue,
    Uri,
    Vector,
    When,
)

SIGNATURE_LABEL = "ClientSignatureTBS"
"""Label of ``SignWithLabel`` for requests. The draft names none; MLS takes the name of what is signed."""

MAX_SHORT_BYTES = 255  # what the one octet of a length says at most


class DSProtocolVersion(IntEnum):
    """Everything after it depends on it, so no other version can be read."""

    DS10 = 1


class DSRequestType(IntEnum):
    """The operations, numbered in the draft's order; the last one is ours."""

    DELETE_GROUP = 0
    PROPOSALS = 1
    COMMITS = 2
    SEND_MESSAGE = 3
    KEY_PACKAGES = 4
    GROUP_INFO = 5
    WELCOME_INFO = 6


class DSAuthType(IntEnum):
    """How a request is authenticated, in the draft's order."""

    UNAUTHENTICATED = 0
    CLIENT_SIGNATURE = 1


class DSResponseType(IntEnum):
    """What a response holds, in the draft's order."""

    OK = 0
    ERROR = 1
    WELCOME_INFO = 2
    EXTERNAL_COMMIT_INFO = 3
    KEY_PACKAGES = 4


class DSErrorCode(IntEnum):
    """Why a request was refused. "TODO: Operation specific errors", so all of these are ours."""

    NOT_ALLOWED = 1
    WRONG_EPOCH = 2
    INVALID_PROPOSAL = 3
    INVALID_COMMIT = 4
    UNKNOWN_CLIENT = 5
    NO_KEY_PACKAGE = 6
    UNKNOWN_EPOCH = 7
    MALFORMED = 8
    TOO_LARGE = 9


class ShortOpaque(Codec):
    """``opaque name<0..255>`` as RFC 8446 has it: a length of one octet."""

    def write(self, value: Any, out: bytearray, seen: Any) -> None:
        """Append length and bytes; ``ValueError`` for more than 255."""
        if len(value) > MAX_SHORT_BYTES:
            raise ValueError(f"{len(value)} bytes have no length of one octet")
        out.append(len(value))
        out += value

    def read(self, reader: Reader, seen: Any) -> bytes:
        """The bytes, without their length."""
        return reader.take(reader.uint(1))


def _walk_message(reader: Reader, wire_format: str) -> None:
    if walk_mls_message(reader).wire_format != wire_format:
        raise MimiDecodeError(f"an MLSMessage with a {wire_format} was expected")


def walk_welcome_message(reader: Reader) -> None:
    """Pass one MLSMessage that is a Welcome."""
    _walk_message(reader, "welcome")


def walk_group_info_message(reader: Reader) -> None:
    """Pass one MLSMessage that is a GroupInfo."""
    _walk_message(reader, "group_info")


@dataclass(frozen=True, slots=True, kw_only=True)
class DSPartialGroupInfo(Struct):
    """What a hub cannot work out of the GroupInfo of the new epoch ("DS assisted joining").

    ``group_info_extensions`` is the ``Extension …<V>`` vector with its length. Unlike the structure MIMI
    uses, it does not say what became of the ratchet tree: there is none in it.
    """

    group_info_extensions: Annotated[bytes, Raw(walk_extensions)]
    signature: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MLSGroupUpdate(Struct):
    """A commit, an MLSMessage(PublicMessage), and what completes the GroupInfo of its epoch."""

    commit: Annotated[bytes, Raw(walk_public_commit)]
    partial_group_info: DSPartialGroupInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteGroupRequest(Struct):
    """A commit that removes everybody but its sender ("Delete group")."""

    group_update: MLSGroupUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRequest(Struct):
    """MLSMessages with public proposals ("Propose group state changes")."""

    proposals: Annotated[tuple[bytes, ...], Vector(Raw(walk_public_proposal), min_items=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest(Struct):
    """Commits, one after the other, and the Welcomes of those that add ("Commit group state changes")."""

    group_updates: Annotated[tuple[MLSGroupUpdate, ...], Vector(MLSGroupUpdate, min_items=1)]
    welcome_messages: Annotated[tuple[bytes, ...], Vector(Raw(walk_welcome_message))] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessageRequest(Struct):
    """MLSMessages with application messages ("Send application messages to a group")."""

    application_messages: Annotated[tuple[bytes, ...], Vector(Raw(walk_application), min_items=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientID(Struct):
    """A client identifier; here always the client's URI."""

    client_id: Uri


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackagesRequest(Struct):
    """The clients to have key packages of, which are all clients of this provider."""

    client_identifiers: Annotated[tuple[ClientID, ...], Vector(ClientID, min_items=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomeInfoRequest(Struct):
    """Asks for the ratchet tree that a Welcome goes with, or says that it is no longer needed.

    The draft has the answer, and says that the hub keeps such trees "until each client has successfully
    joined", but has no request for it and nothing that tells the hub.

    ``epoch`` is the one the Welcome leads to, ``key_package_ref`` the KeyPackageRef by which it names the
    joiner; ``joined`` is 1 to have the hub forget, 0 to have the tree.
    """

    epoch: Uint64
    key_package_ref: Bytes
    joined: Annotated[int, Uint(1)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DSRequestBody(Struct):
    """One operation; a GroupInfoRequest is empty."""

    request_type: Annotated[DSRequestType, Enumeration(DSRequestType)]
    delete_group: Annotated[
        DeleteGroupRequest | None, When("request_type", (DSRequestType.DELETE_GROUP,), DeleteGroupRequest)
    ] = None
    proposals: Annotated[
        ProposalRequest | None, When("request_type", (DSRequestType.PROPOSALS,), ProposalRequest)
    ] = None
    commits: Annotated[
        CommitRequest | None, When("request_type", (DSRequestType.COMMITS,), CommitRequest)
    ] = None
    send_message: Annotated[
        SendMessageRequest | None, When("request_type", (DSRequestType.SEND_MESSAGE,), SendMessageRequest)
    ] = None
    key_packages: Annotated[
        KeyPackagesRequest | None, When("request_type", (DSRequestType.KEY_PACKAGES,), KeyPackagesRequest)
    ] = None
    welcome_info: Annotated[
        WelcomeInfoRequest | None, When("request_type", (DSRequestType.WELCOME_INFO,), WelcomeInfoRequest)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DSAuthData(Struct):
    """Nothing, or the signature of the client at a leaf of the group."""

    auth_type: Annotated[DSAuthType, Enumeration(DSAuthType)] = DSAuthType.UNAUTHENTICATED
    sender_index: Annotated[int | None, When("auth_type", (DSAuthType.CLIENT_SIGNATURE,), Uint(4))] = None
    signature: Annotated[bytes | None, When("auth_type", (DSAuthType.CLIENT_SIGNATURE,), ShortOpaque())] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSignatureTBS(Struct):
    """What the client signs, with ``SIGNATURE_LABEL``."""

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    request_body: DSRequestBody
    sender_index: Uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class DSRequest(Struct):
    """A client's request, as its provider passes it on."""

    version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    request_body: DSRequestBody
    authentication_data: DSAuthData

    def tbs(self) -> bytes:
        """What the signature covers; ``ValueError`` for a request without one."""
        if self.authentication_data.sender_index is None:
            raise ValueError("the request is not signed")
        return ClientSignatureTBS(
            protocol_version=self.version,
            request_body=self.request_body,
            sender_index=self.authentication_data.sender_index,
        ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class DSError(Struct):
    """Why a request was refused, and with ``WRONG_EPOCH`` the group's epoch."""

    code: Annotated[DSErrorCode | UnknownValue, Enumeration(DSErrorCode, extensible=True, reserved=(0,))]
    description: String = ""
    current_epoch: Annotated[int | None, When("code", (DSErrorCode.WRONG_EPOCH,), Uint(8))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCommitInfo(Struct):
    """What an external commit needs: an MLSMessage(GroupInfo) and the tree of the current epoch."""

    group_info: Annotated[bytes, Raw(walk_group_info_message)]
    ratchet_tree: Annotated[bytes, Raw(walk_ratchet_tree)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DSResponseBody(Struct):
    """What became of a request. ``welcome_info`` is the ``optional<Node> ratchet_tree<V>``; ``key_packages``
    are KeyPackages without MLSMessage header.
    """

    response_type: Annotated[DSResponseType, Enumeration(DSResponseType)]
    error: Annotated[DSError | None, When("response_type", (DSResponseType.ERROR,), DSError)] = None
    welcome_info: Annotated[
        bytes | None, When("response_type", (DSResponseType.WELCOME_INFO,), Raw(walk_ratchet_tree))
    ] = None
    external_commit_info: Annotated[
        ExternalCommitInfo | None,
        When("response_type", (DSResponseType.EXTERNAL_COMMIT_INFO,), ExternalCommitInfo),
    ] = None
    key_packages: Annotated[
        tuple[bytes, ...],
        When("response_type", (DSResponseType.KEY_PACKAGES,), Vector(Raw(walk_key_package)), absent=()),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DSResponse(Struct):
    """The hub's answer."""

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    response_body: DSResponseBody
