"""Which client signed a DSRequest (draft-robert-mimi-delivery-service, Client to server requests)."""

from __future__ import annotations

from dataclasses import dataclass

import openmls

from linearized.exceptions import IdentifierError, InvalidInput
from linearized.mimi.delivery_service import SIGNATURE_LABEL, DSErrorCode, DSRequest
from linearized.protocol.identifiers import user_domain
from linearized.room.credentials import ClientIdentity, client_of
from linearized.server.mls import OpenMls
from linearized.server.node import Node


class DSRefused(InvalidInput):
    """A request is refused; ``code`` says why."""

    def __init__(self, code: DSErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The client at a leaf of the group."""

    leaf_index: int
    client: ClientIdentity


def authenticate_sender(
    node: Node,
    room_id: str,
    request: DSRequest,
    provider: str,
    *,
    group: openmls.PublicGroup | None = None,
) -> Sender:
    """Verify a request's signature.

    "The DS uses the public signature key of the MLS client in leaf with the leaf index sender_index to verify
    the signature".

    Args:
        provider: who passes it on; the client has to be of one of its users.
        group: the group to look for the leaf in, if not the room's present one.

    Raises:
        DSRefused: it is not signed, or not by a client of that provider in the group.
    """
    index, signature = request.authentication_data.sender_index, request.authentication_data.signature
    if index is None or signature is None:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "this request has to be signed")
    group = group or _present_group(node, room_id)
    member = group.member(index)
    if member is None:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "there is no client at that leaf")
    try:
        openmls.verify_with_label(
            ciphersuite=group.ciphersuite,
            public_key=member.signature_key,
            label=SIGNATURE_LABEL,
            content=request.tbs(),
            signature=signature,
        )
        client = client_of(member.credential, signature_key=member.signature_key)
    except (openmls.MlsError, IdentifierError) as error:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "the request's signature is not valid") from error
    if user_domain(client.user_id) != provider:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "the client is of another provider")
    return Sender(leaf_index=index, client=client)


def require_signed_by(sender: Sender, message: bytes) -> None:
    """Hold a handshake message to the client that signed the request around it.

    Raises:
        DSRefused: it is of another member, or of none.
    """
    if inspect(message).sender_leaf_index != sender.leaf_index:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "a message is not of the client that signed the request")


def inspect(message: bytes) -> openmls.MessageInfo:
    """What a handshake message says of itself.

    Raises:
        DSRefused: it cannot be read.
    """
    try:
        return openmls.inspect_message(message)
    except openmls.MlsError as error:
        raise DSRefused(DSErrorCode.MALFORMED, "a message cannot be read") from error


def _present_group(node: Node, room_id: str) -> openmls.PublicGroup:
    kept = node.groups.row(room_id)
    if kept is None:
        raise DSRefused(DSErrorCode.NOT_ALLOWED, "there is no such group for you here")
    return OpenMls(node.clock).load(kept.snapshot, group_info=kept.group_info, ratchet_tree=kept.ratchet_tree)
