"""The fan-out of draft-robert-mimi-delivery-service: structures, and the tokens that authorise it.

"The FanoutAuthToken is included in DSFanoutRequests and allows the receiving DS to check whether the sender
is authorized to enqueue messages for the recipient" (Enqueue authorization). How a token is made is left
open. Here the recipient's own provider makes it, for one hub and some time, and can check it without having
kept it: it is a MAC (HMAC-SHA256, RFC 2104) under a secret of that provider. The provider gives it to the hub
of a room its client is in (``FanoutRegistration``), and so asks for fan-out requests.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.exceptions import MimiDecodeError, SignatureError
from linearized.mimi.delivery_service import ClientID, DSErrorCode, DSProtocolVersion
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.messages import FanoutMessage, Frank, message_role, walk_fanned_out
from linearized.mimi.mls_framing import walk_public_proposal
from linearized.mimi.tls import (
    Bytes,
    Enumeration,
    Fixed,
    Maybe,
    Raw,
    String,
    Struct,
    Uint64,
    UnknownValue,
    Uri,
    Vector,
    When,
)

MAC_BYTES = 32  # HMAC-SHA256


class DSFanoutResponseType(IntEnum):
    """What became of a fan-out, in the draft's order."""

    OK = 0
    ERROR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutAuthToken(Struct):
    """A token; opaque to all but the provider that made it."""

    token: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DSFanoutRequest(Struct):
    """A message for clients of one provider, with a token for each of them, in the same order.

    The draft's structure ends with ``mls_message``. What MIMI has beside it in a FanoutMessage follows, in
    the same order and by the same rules: the hub's time, and what goes with a message of its kind.
    """

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    recipient_ids: Annotated[tuple[ClientID, ...], Vector(ClientID, min_items=1)]
    fanout_auth_tokens: Annotated[tuple[FanoutAuthToken, ...], Vector(FanoutAuthToken, min_items=1)]
    mls_message: Annotated[bytes, Raw(walk_fanned_out)]
    timestamp: Uint64
    frank: Annotated[Frank | None, When("mls_message", ("application",), Maybe(Frank), message_role)] = None
    ratchet_tree_option: Annotated[
        RatchetTreeOption | None, When("mls_message", ("welcome",), RatchetTreeOption, message_role)
    ] = None
    more_proposals: Annotated[
        tuple[bytes, ...],
        When("mls_message", ("proposal",), Vector(Raw(walk_public_proposal)), message_role, ()),
    ] = ()
    external_proposals: Annotated[
        tuple[bytes, ...],
        When("mls_message", ("commit",), Vector(Raw(walk_public_proposal)), message_role, ()),
    ] = ()

    def __post_init__(self) -> None:
        _require_pairs(self.recipient_ids, self.fanout_auth_tokens)

    @classmethod
    def of(
        cls,
        fanned_out: FanoutMessage,
        *,
        recipients: tuple[ClientID, ...],
        tokens: tuple[FanoutAuthToken, ...],
    ) -> DSFanoutRequest:
        """The request for what ``notify`` would bring."""
        return cls(
            recipient_ids=recipients,
            fanout_auth_tokens=tokens,
            mls_message=fanned_out.message,
            timestamp=fanned_out.timestamp,
            frank=fanned_out.frank,
            ratchet_tree_option=fanned_out.ratchet_tree_option,
            more_proposals=fanned_out.more_proposals,
            external_proposals=fanned_out.external_proposals,
        )

    def fanned_out(self) -> FanoutMessage:
        """What ``notify`` would have brought."""
        return FanoutMessage(
            timestamp=self.timestamp,
            message=self.mls_message,
            frank=self.frank,
            ratchet_tree_option=self.ratchet_tree_option,
            more_proposals=self.more_proposals,
            external_proposals=self.external_proposals,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutRegistration(Struct):
    """The clients of one provider in a room, with a token for each: all that the hub of the room may reach by
    fan-out request. With none, it notifies.

    The draft has tokens in key packages. But a client that joins by an external commit has used none, and a
    token that is to end has to be renewed.
    """

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    recipient_ids: Annotated[tuple[ClientID, ...], Vector(ClientID)] = ()
    fanout_auth_tokens: Annotated[tuple[FanoutAuthToken, ...], Vector(FanoutAuthToken)] = ()

    def __post_init__(self) -> None:
        _require_pairs(self.recipient_ids, self.fanout_auth_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DSFanoutError(Struct):
    """Why a fan-out was refused. "TODO: Fanout error types", so it is a DSError without an epoch."""

    code: Annotated[DSErrorCode | UnknownValue, Enumeration(DSErrorCode, extensible=True, reserved=(0,))]
    description: String = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DSFanoutResponseBody(Struct):
    """Taken, or not and why."""

    response_type: Annotated[DSFanoutResponseType, Enumeration(DSFanoutResponseType)]
    error: Annotated[
        DSFanoutError | None, When("response_type", (DSFanoutResponseType.ERROR,), DSFanoutError)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DSFanoutResponse(Struct):
    """The receiving provider's answer. (The draft gives it a DSResponseBody, which has no fan-out error.)"""

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    response_body: DSFanoutResponseBody


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutAuthTBM(Struct):
    """What the MAC in a token covers."""

    hub: String
    client: Uri
    expires: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutAuth(Struct):
    """What a token of ours holds: its end, in milliseconds since the Unix epoch, and a MAC."""

    expires: Uint64
    mac: Annotated[bytes, Fixed(MAC_BYTES)]


def issue_token(secret: bytes, *, hub: str, client: str, expires_ms: int) -> FanoutAuthToken:
    """A token of one of our clients.

    Args:
        secret: ours alone.
        hub: the provider that may use it.
        client: the client's URI.
        expires_ms: when it ends, milliseconds since the Unix epoch.
    """
    mac = hmac.digest(secret, FanoutAuthTBM(hub=hub, client=client, expires=expires_ms).encode(), "sha256")
    return FanoutAuthToken(token=FanoutAuth(expires=expires_ms, mac=mac).encode())


def verify_token(secret: bytes, token: FanoutAuthToken, *, hub: str, client: str, now_ms: int) -> None:
    """Check that a token is one that we issued to this hub for this client, and has not ended.

    Raises:
        SignatureError: it is not, or it has.
    """
    try:
        expires = FanoutAuth.decode(token.token).expires
    except MimiDecodeError as error:
        raise SignatureError("the FanoutAuthToken is none of ours") from error
    ours = issue_token(secret, hub=hub, client=client, expires_ms=expires)
    if not hmac.compare_digest(ours.token, token.token):
        raise SignatureError("the FanoutAuthToken is not one of this client for this hub")
    if expires <= now_ms:
        raise SignatureError("the FanoutAuthToken has expired")


def _require_pairs(recipients: tuple[ClientID, ...], tokens: tuple[FanoutAuthToken, ...]) -> None:
    if len(recipients) != len(tokens):
        raise ValueError("there is a FanoutAuthToken for each recipient")
