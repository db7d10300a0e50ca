"""Requests of draft-robert-mimi-delivery-service, as clients make them, and what is answered."""

from __future__ import annotations

from typing import Any

import openmls

from linearized.mimi.delivery_service import (
    SIGNATURE_LABEL,
    ClientID,
    ClientSignatureTBS,
    CommitRequest,
    DSAuthData,
    DSAuthType,
    DSErrorCode,
    DSPartialGroupInfo,
    DSRequest,
    DSRequestBody,
    DSRequestType,
    DSResponse,
    DSResponseBody,
    KeyPackagesRequest,
    MLSGroupUpdate,
    SendMessageRequest,
)
from linearized.mimi.handshake import (
    welcome_message,
)
from linearized.room.submissions import Handshake
from tests.room.support import ALICE, BOB, Member, state_event

from .support import Provider, World

Type = DSRequestType


async def let_bob_remove(w: World) -> None:
    levels = {"users": {ALICE: 50, BOB: 100}}
    await w.server.node.rooms.submit(w.room_id, state_event(ALICE, "m.room.power_levels", levels))


def signed(member: Member, body: DSRequestBody, *, index: int | None = None, **changes: Any) -> DSRequest:
    """A request as the member's client makes it."""
    leaf = member.joined().own_leaf_index if index is None else index
    content = ClientSignatureTBS(request_body=body, sender_index=leaf).encode()
    signature = member.client.sign_with_label(label=SIGNATURE_LABEL, content=content)
    values: dict[str, Any] = {"sender_index": leaf, "signature": signature} | changes
    return DSRequest(
        request_body=body,
        authentication_data=DSAuthData(auth_type=DSAuthType.CLIENT_SIGNATURE, **values),
    )


def unsigned(body: DSRequestBody) -> DSRequest:
    return DSRequest(request_body=body, authentication_data=DSAuthData())


async def ask(
    w: World, request: DSRequest, *, provider: Provider | None = None, room: str | None = None
) -> DSResponseBody:
    answer = await (provider or w.other).ask("deliveryService", room or w.uri, request.encode())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return DSResponse.decode(answer.content).response_body


async def refused(w: World, request: DSRequest, code: DSErrorCode, **more: Any) -> DSResponseBody:
    before = w.head()
    body = await ask(w, request, **more)
    assert body.error is not None, body
    assert body.error.code is code, body.error
    assert w.head() == before
    return body


def update_of(submission: Handshake) -> MLSGroupUpdate:
    """A commit in the shape of this draft."""
    assert submission.bundle.group_info is not None
    assert submission.bundle.group_info.full is not None
    details = openmls.group_info_details(submission.bundle.group_info.full)
    partial = DSPartialGroupInfo(group_info_extensions=details.extensions, signature=details.signature)
    return MLSGroupUpdate(commit=submission.bundle.message, partial_group_info=partial)


def commits(*submissions: Handshake, welcomes: tuple[bytes, ...] | None = None) -> DSRequestBody:
    if welcomes is None:
        welcomes = tuple(
            welcome_message(one.bundle.welcome) for one in submissions if one.bundle.welcome is not None
        )
    return DSRequestBody(
        request_type=Type.COMMITS,
        commits=CommitRequest(
            group_updates=tuple(update_of(one) for one in submissions), welcome_messages=welcomes
        ),
    )


def messages(*texts: bytes) -> DSRequestBody:
    return DSRequestBody(
        request_type=Type.SEND_MESSAGE, send_message=SendMessageRequest(application_messages=texts)
    )


def packages(*clients: str) -> DSRequestBody:
    return DSRequestBody(
        request_type=Type.KEY_PACKAGES,
        key_packages=KeyPackagesRequest(
            client_identifiers=tuple(ClientID(client_id=client) for client in clients)
        ),
    )


MEMBERSHIP_TAG_BYTES = 33  # HMAC-SHA256 and its length
GROUP_INFO = DSRequestBody(request_type=Type.GROUP_INFO)
