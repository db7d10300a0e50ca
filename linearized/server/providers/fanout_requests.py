"""Fan-out requests as they arrive: those of a hub for our clients, and those of a follower who wants them.

A fan-out request is ``notify`` for one message and named clients (draft-robert-mimi-delivery-service, Server
to server requests). It is checked as the draft says, and then goes where a notification goes.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError, SignatureError
from linearized.mimi.delivery_service import DSErrorCode
from linearized.mimi.fanout_requests import (
    DSFanoutError,
    DSFanoutRequest,
    DSFanoutResponse,
    DSFanoutResponseBody,
    DSFanoutResponseType,
    FanoutAuthToken,
    FanoutRegistration,
    verify_token,
)
from linearized.protocol.identifiers import client_from_uri, provider_of_uri, room_id_from_uri, user_domain
from linearized.server.fanout_authorization import MAX_RECIPIENTS, token_secret
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.ds_authentication import DSRefused
from linearized.server.taking import OutOfOrder
from linearized.store.base import Role
from linearized.store.pulling import FanoutTokenRow

# A token is the provider's own; ours have 40 bytes. What another makes has room for a signature.
MAX_TOKEN_BYTES: Final = 128


async def receive(node: Node, provider: str, target: str, body: bytes) -> bytes:
    """Take a DSFanoutRequest about a room from its hub, and answer with a DSFanoutResponse; both TLS-encoded.

    What is taken is durable once this returns, and taken once however often it is sent.

    Args:
        provider: the authenticated provider that sends it.
        target: the room's URI.

    Raises:
        MimiDecodeError: the body is no DSFanoutRequest.
    """
    request = DSFanoutRequest.decode(body)
    try:
        _authorize(node, provider, target, request)
        await node.rooms.following.receive(
            room_id_from_uri(target), provider, [request.fanned_out()], in_order=True
        )
    except DSRefused as error:
        answer = _error(error.code, str(error))
    except OutOfOrder as error:
        answer = _error(DSErrorCode.WRONG_EPOCH, str(error))
    except MimiDecodeError as error:
        answer = _error(DSErrorCode.MALFORMED, str(error))
    else:
        answer = DSFanoutResponseBody(response_type=DSFanoutResponseType.OK)
    return DSFanoutResponse(response_body=answer).encode()


async def register(node: Node, provider: str, room_id: str, body: bytes) -> None:
    """Reach a follower's clients in a room of ours by fan-out requests from now on, or no longer.

    Raises:
        MimiDecodeError: the body is no FanoutRegistration.
        HttpError: 403 if the provider is in no such room of ours, 400 for clients that are not its own, that
            come twice, or that are too many, and for tokens that are too long.
    """
    registration = FanoutRegistration.decode(body)
    row = node.rooms.row(room_id)
    hub = row is not None and row.role is Role.HUB and node.rooms.is_participant(room_id, provider)
    clients = [recipient.client_id for recipient in registration.recipient_ids]
    if clients and not hub:
        raise HttpError(403, "M_FORBIDDEN", "Only a provider with a user in a room of this hub follows it")
    if len(clients) > MAX_RECIPIENTS or len(set(clients)) < len(clients):
        raise HttpError(400, "M_INVALID_PARAM", f"At most {MAX_RECIPIENTS} clients, and each once")
    if any(provider_of_uri(client) != provider for client in clients):
        raise HttpError(400, "M_INVALID_PARAM", "A provider registers clients of its own")
    tokens = [token.token for token in registration.fanout_auth_tokens]
    if any(len(token) > MAX_TOKEN_BYTES for token in tokens):
        raise HttpError(400, "M_INVALID_PARAM", f"A token has at most {MAX_TOKEN_BYTES} bytes")
    rows = tuple(
        FanoutTokenRow(client=client, token=token) for client, token in zip(clients, tokens, strict=True)
    )
    await node.store.put_fanout_tokens(room_id, provider, rows)


def _authorize(node: Node, provider: str, target: str, request: DSFanoutRequest) -> None:
    """The draft's checks, before anything of the message is looked at.

    Raises:
        DSRefused: one of them fails.
    """
    # A room lives at the provider its URI names, or where we were shown that it moved; only that one may tell
    # us about it.
    if not node.rooms.following.is_hub(room_id_from_uri(target), provider):
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "only the hub of a room fans out its messages")
    if len(request.recipient_ids) > MAX_RECIPIENTS:
        raise DSRefused(DSErrorCode.TOO_LARGE, f"a request is for at most {MAX_RECIPIENTS} clients")
    secret, now = token_secret(node.identity.key), node.clock()
    for recipient, token in zip(request.recipient_ids, request.fanout_auth_tokens, strict=True):
        _require_client(node, recipient.client_id)
        _require_token(secret, provider, recipient.client_id, token, now)


def _require_client(node: Node, client: str) -> None:
    # "That the recipient_ids are all clients of this DS"
    try:
        user_id, device_id = client_from_uri(client)
    except IdentifierError as error:
        raise DSRefused(DSErrorCode.UNKNOWN_CLIENT, "a recipient is no client") from error
    devices = {device.device_id for device in node.store.devices(user_id)}
    if user_domain(user_id) not in node.served_domains or device_id not in devices:
        raise DSRefused(DSErrorCode.UNKNOWN_CLIENT, "a recipient is no client of this provider")


def _require_token(secret: bytes, provider: str, client: str, token: FanoutAuthToken, now_ms: int) -> None:
    # "The the fanout_auth_tokens are all valid tokens for the individual recipients"
    try:
        verify_token(secret, token, hub=provider, client=client, now_ms=now_ms)
    except SignatureError as error:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, str(error)) from error


def _error(code: DSErrorCode, text: str) -> DSFanoutResponseBody:
    return DSFanoutResponseBody(
        response_type=DSFanoutResponseType.ERROR, error=DSFanoutError(code=code, description=text)
    )
