"""Group information for clients that join by themselves: a new device, a rejoin, an open room."""

from __future__ import annotations

from collections.abc import Collection

import openmls

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.group_info import (
    ENCRYPTION_LABEL,
    ExternalSender,
    GroupInfoCode,
    GroupInfoRatchetTreeTBE,
    GroupInfoRequest,
    GroupInfoResponse,
    GroupInfoResponseTBS,
    HPKECiphertext,
    PendingProposal,
)
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.key_material import basic_credential
from linearized.protocol.identifiers import room_uri, user_domain
from linearized.protocol.state import transfer_of
from linearized.room.credentials import client_of
from linearized.server import hub_chain
from linearized.server.exchange import wrong_server
from linearized.server.invited import has_copy
from linearized.server.loading import pending_proposals, was_deleted
from linearized.server.node import Node
from linearized.server.providers.key_material import BadRequest
from linearized.store.base import Role, RoomRow

SIGNATURE_LABEL = "GroupInfoResponseTBS"


async def answer(node: Node, room_id: str, body: bytes, *, domains: Collection[str]) -> bytes:
    """As the hub, answer a GroupInfoRequest; both are TLS-encoded.

    Whoever may not have it is answered like somebody who asks for a room that is not there: "If the hub does
    not want to reveal if a room ID does not exist it can use notAuthorized instead" (Claim group key
    information).

    Args:
        domains: those whose users the caller speaks for. The request's signature proves a key and no more;
            that the user in its credential asks is the caller's word.

    Raises:
        BadRequest: the request is malformed, or its signature or its encryption key is not valid.
        HttpError: 429, too many joining codes were shown; 400 ``M_WRONG_SERVER`` for who shows one of a room
            that has moved, with what shows where.
    """
    try:
        request = GroupInfoRequest.decode(body)
        openmls.verify_with_label(
            ciphersuite=request.cipher_suite,
            public_key=request.signature_key,
            label="GroupInfoRequestTBS",
            content=request.tbs(),
            signature=request.signature,
        )
        requester = client_of(request.credential, signature_key=request.signature_key)
    except (MimiDecodeError, IdentifierError) as error:
        raise BadRequest(str(error)) from error
    except openmls.MlsError as error:
        raise BadRequest("the request's signature is not valid") from error
    honest = user_domain(requester.user_id) in domains and node.holds(request.credential)
    row = node.store.room(room_id)
    if honest and request.joining_code is not None and row is not None:
        _require_present(node, row, requester.user_id)
    entitled = honest and await _entitled(node, room_id, requester.user_id, request.joining_code)
    group = node.groups.row(room_id)
    if (
        row is None
        or row.role is not Role.HUB
        or group is None
        or not entitled
        or was_deleted(node.store, group.commit_event_id)  # nobody can join it any more
    ):
        return GroupInfoResponse(room_id=room_uri(room_id), status=GroupInfoCode.NOT_AUTHORIZED).encode()
    secret = GroupInfoRatchetTreeTBE(
        group_info=group.group_info,
        ratchet_tree=RatchetTreeOption.full(group.ratchet_tree),
        # "the DS SHOULD attach any SelfRemove proposals known to the DS to the GroupInfo object" (draft-ietf-
        # mls-extensions, SelfRemove); the structure is for all that are pending.
        pending_proposals=tuple(
            PendingProposal(proposal=message, hub_accepted_time=accepted_at)
            for message, accepted_at in pending_proposals(node.store, room_id, group.commit_event_id)
        ),
    )
    try:
        sealed = openmls.encrypt_with_label(
            ciphersuite=request.cipher_suite,
            public_key=request.group_info_public_key,
            label=ENCRYPTION_LABEL,
            context=room_uri(room_id).encode(),
            plaintext=secret.encode(),
        )
    except openmls.MlsError as error:
        raise BadRequest("nothing can be encrypted to group_info_public_key") from error
    unsigned = GroupInfoResponseTBS(
        room_id=room_uri(room_id),
        status=GroupInfoCode.SUCCESS,
        cipher_suite=request.cipher_suite,
        hub_sender=hub_sender(node),
        encrypted_groupinfo_and_tree=HPKECiphertext.decode(sealed),
    )
    signature = node.mls_signer.sign_with_label(label=SIGNATURE_LABEL, content=unsigned.encode())
    return GroupInfoResponse(
        room_id=unsigned.room_id,
        status=unsigned.status,
        cipher_suite=unsigned.cipher_suite,
        hub_sender=unsigned.hub_sender,
        encrypted_groupinfo_and_tree=unsigned.encrypted_groupinfo_and_tree,
        signature=signature,
    ).encode()


def _require_present(node: Node, row: RoomRow, user_id: str) -> None:
    """Tell who shows a joining code of a room that has moved where it is: the room's ID names its first hub,
    and nothing else says. Whether the code is good only the present hub knows.

    Raises:
        HttpError: 400 ``M_WRONG_SERVER``; 429, as for a code that is shown here.
    """
    if row.role is not Role.PARTICIPANT or not has_copy(row):
        return
    state = node.rooms.state(row.room_id)
    if transfer_of(state) is None:
        return
    node.join_codes.shown_elsewhere(row.room_id, user_id=user_id)
    raise wrong_server(row.hub, hub_chain.hub_events_of(node.store, state))


async def _entitled(node: Node, room_id: str, user_id: str, code: bytes | None) -> bool:
    """Whether a user is joined, or shows a code that lets them join."""
    member = node.store.membership(room_id, user_id)
    if member is not None and member.membership == "join":
        return True
    return code is not None and await node.join_codes.show(room_id, user_id=user_id, code=code)


def hub_sender(node: Node) -> ExternalSender:
    """The key and name this hub signs MIMI responses with."""
    return ExternalSender(
        signature_key=node.mls_signer.public_key,
        credential=basic_credential(f"mimi://{node.identity.name}".encode()),
    )
