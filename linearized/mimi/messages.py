"""Application messages to the hub and everything from it (draft-ietf-mimi-protocol-06).

Sections "Submit a Message", "Message Franking" and "Fanout Messages and Room Events".
All times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.exceptions import MimiDecodeError
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.mls_framing import MessageKind, message_kind, walk_mls_message, walk_public_proposal
from linearized.mimi.tls import (
    Bytes,
    Enumeration,
    Fixed,
    Maybe,
    Raw,
    Reader,
    Struct,
    Uint,
    Uint16,
    Uint64,
    Uri,
    Vector,
    When,
)

SERVER_FRANK_BYTES = 32  # HMAC-SHA256


class Protocol(IntEnum):
    """The end-to-end protocol; everything after it on the wire depends on it, so no other can be read."""

    MLS10 = 1


class SubmitResponseCode(IntEnum):
    """What the hub did with an application message; the select calls the first one ``success``."""

    ACCEPTED = 0
    NOT_ALLOWED = 1
    EPOCH_TOO_OLD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frank(Struct):
    """The hub's stamp on a message ("Message Franking")."""

    server_frank: Annotated[bytes, Fixed(SERVER_FRANK_BYTES)]
    franking_signature_ciphersuite: Uint16
    franking_integrity_signature: Bytes


def message_role(message: bytes) -> str:
    """What a fanned-out MLSMessage is: ``application``, ``proposal``, ``commit`` or ``welcome``.

    Raises:
        MimiDecodeError: it is none of them. "A PrivateMessage containing an application message, a
            SemiPrivateMessage or PublicMessage containing a proposal or commit, or a Welcome message."
    """
    return _role(message_kind(message))


def _role(kind: MessageKind) -> str:
    if kind not in _ROLES:
        raise MimiDecodeError(f"{kind} is not fanned out")
    return _ROLES[kind]


_ROLES = {
    ("private", "application"): "application",
    ("public", "proposal"): "proposal",
    ("public", "commit"): "commit",
    ("welcome", None): "welcome",
}


def walk_fanned_out(reader: Reader) -> None:
    """Pass one MLSMessage that is fanned out (see ``message_role``)."""
    _role(walk_mls_message(reader))


def walk_application(reader: Reader) -> None:
    """Pass one MLSMessage that is a PrivateMessage with an application message."""
    if _role(walk_mls_message(reader)) != "application":
        raise MimiDecodeError("a PrivateMessage with an application message was expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitMessageRequest(Struct):
    """The body of ``POST /submitMessage/{roomId}``: a PrivateMessage and its sender's user URI."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    message: Annotated[bytes, Raw(walk_application)]
    sending_uri: Uri


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitMessageResponse(Struct):
    """The hub's answer to a SubmitMessageRequest."""

    protocol: Annotated[Protocol, Enumeration(Protocol)] = Protocol.MLS10
    code: Annotated[SubmitResponseCode, Enumeration(SubmitResponseCode)]
    accepted_timestamp: Annotated[int | None, When("code", (SubmitResponseCode.ACCEPTED,), Uint(8))] = None
    frank: Annotated[Frank | None, When("code", (SubmitResponseCode.ACCEPTED,), Maybe(Frank))] = None
    current_epoch: Annotated[int | None, When("code", (SubmitResponseCode.EPOCH_TOO_OLD,), Uint(8))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutMessage(Struct):
    """One message the hub accepted, on its way to the other providers: ``POST /notify/{roomId}``.

    ``message`` is an MLSMessage; ``message_role`` of it says which of the fields after it are on the wire:
    ``frank`` with an application message, ``ratchet_tree_option`` with a Welcome (always), ``more_proposals``
    with a proposal, ``external_proposals`` with a commit.
    """

    timestamp: Uint64
    message: Annotated[bytes, Raw(walk_fanned_out)]
    frank: Annotated[Frank | None, When("message", ("application",), Maybe(Frank), message_role)] = None
    ratchet_tree_option: Annotated[
        RatchetTreeOption | None, When("message", ("welcome",), RatchetTreeOption, message_role)
    ] = None
    more_proposals: Annotated[
        tuple[bytes, ...], When("message", ("proposal",), Vector(Raw(walk_public_proposal)), message_role, ())
    ] = ()
    external_proposals: Annotated[
        tuple[bytes, ...], When("message", ("commit",), Vector(Raw(walk_public_proposal)), message_role, ())
    ] = ()


def decode_fanout_stream(data: bytes) -> list[FanoutMessage]:
    """Read the concatenated FanoutMessages of one notification, in order; there is at least one.

    Raises:
        MimiDecodeError: any of them is malformed, or there is none; a notification is taken as a whole.
    """
    reader = Reader(data)
    messages = [FanoutMessage.read_from(reader)]
    while reader.remaining:
        messages.append(FanoutMessage.read_from(reader))
    return messages
