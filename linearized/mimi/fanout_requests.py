"""The fan-out of draft-robert-mimi-delivery-service: structures, and the tokens that authorise it.

"The FanoutAuthToken is included in DSFanoutRequests and allows the receiving DS to check whether the sender
is authorized to enqueue messages for the recipient" (Enqueue authorization). How a token is made is left
open. Here the recipient's own provider makes it, and can check it without having kept it: it is a MAC of the
client's identifier (HMAC-SHA256, RFC 2104) under a secret of that provider. A client puts it into its key
packages, so whoever can add the client to a group can reach it there, and nobody else can.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.exceptions import SignatureError
from linearized.mimi.delivery_service import ClientID, DSErrorCode, DSProtocolVersion
from linearized.mimi.messages import walk_fanned_out
from linearized.mimi.tls import Bytes, Enumeration, Raw, String, Struct, UnknownValue, Vector, When

FANOUT_AUTH_COMPONENT = 0xF0A7
"""Where a key package carries its token: a component of its ``app_data_dictionary`` (draft-ietf-mls-
extensions), from the range for private use. The draft's KeyPackage extension has no number.
"""


class DSFanoutResponseType(IntEnum):
    """What became of a fan-out, in the draft's order."""

    OK = 0
    ERROR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutAuthToken(Struct):
    """A token; also what a key package's ``FANOUT_AUTH_COMPONENT`` holds."""

    token: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DSFanoutRequest(Struct):
    """A message for clients of one provider, with a token for each of them, in the same order."""

    protocol_version: Annotated[DSProtocolVersion, Enumeration(DSProtocolVersion)] = DSProtocolVersion.DS10
    recipient_ids: Annotated[tuple[ClientID, ...], Vector(ClientID, min_items=1)]
    fanout_auth_tokens: Annotated[tuple[FanoutAuthToken, ...], Vector(FanoutAuthToken, min_items=1)]
    mls_message: Annotated[bytes, Raw(walk_fanned_out)]

    def __post_init__(self) -> None:
        if len(self.recipient_ids) != len(self.fanout_auth_tokens):
            raise ValueError("there is a FanoutAuthToken for each recipient")


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


def issue_token(secret: bytes, client: str) -> FanoutAuthToken:
    """The token of one of our clients.

    Args:
        secret: ours alone.
        client: the client's URI.
    """
    return FanoutAuthToken(token=hmac.digest(secret, client.encode(), "sha256"))


def verify_token(secret: bytes, client: str, token: FanoutAuthToken) -> None:
    """Check that a token is one that we issued for this client.

    Raises:
        SignatureError: it is not.
    """
    if not hmac.compare_digest(issue_token(secret, client).token, token.token):
        raise SignatureError("the FanoutAuthToken is not one of this client")
