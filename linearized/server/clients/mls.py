"""The MLS additions: handshakes, key material and group state, as MIMI structures in unpadded base64."""

from __future__ import annotations

from typing import Final

import openmls

from linearized.exceptions import InvalidInput
from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.group_info import GroupInfoCode, GroupInfoRequest, GroupInfoResponse
from linearized.mimi.handshake import HandshakeBundle
from linearized.mimi.key_material import KeyMaterialRequest, basic_identity
from linearized.mimi.metadata_policy import MetadataPolicyError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_server_name, user_uri
from linearized.room.credentials import client_of
from linearized.room.submissions import Rejected
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.faces import may_know_of
from linearized.server.clients.fields import binary, invalid, required_object, texts
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.server.joining_by_code import MAX_VIA
from linearized.server.providers.group_info import hub_sender as hub_external_sender
from linearized.server.providers.key_material import BadRequest, verify_request
from linearized.store.base import Reply, Role

# Who was shown a room's group by its hub for a code, and is about to join.
_LET_IN: Final = "let in by a code"


async def update(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/mls/update``: a HandshakeBundle for an UpdateRoomResponse.

    A refusal by the group's rules is a 200 with the code inside, as on the MIMI face; ``event_id`` is there
    on success if this server is the hub.
    """
    room_id = request.params["room_id"]
    body = await request.json()
    bundle = binary(body, "bundle")
    initial: tuple[bytes, bytes] | None = None
    if body.get("initial_group") is not None:
        group = required_object(body, "initial_group")
        initial = (binary(group, "group_info"), binary(group, "ratchet_tree"))
    _require_room(context, room_id, caller, bundle)
    response, event_id = await context.node.rooms.update(
        room_id, bundle=bundle, user_id=caller.user_id, initial_group=initial
    )
    answer: JsonObject = {"response": encode_base64(response)}
    if event_id is not None:
        answer["event_id"] = event_id
    return json_response(answer)


async def key_material(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/mls/key_material``: a KeyMaterialRequest for a KeyMaterialResponse.

    Every answer uses key packages up, so the request must be signed by the caller and name them.
    """
    room_id = request.params["room_id"]
    encoded = binary(await request.json(), "request")
    context.views.require(room_id, caller.user_id, joined=True)
    try:
        asked = verify_request(context.node, encoded, target=KeyMaterialRequest.decode(encoded).target_user)
        if asked.requesting_user != user_uri(caller.user_id):
            raise HttpError(403, "M_FORBIDDEN", "The request is another user's")
        return _answer(await context.node.rooms.key_material(room_id, request=encoded))
    except (BadRequest, InvalidInput) as error:
        raise invalid(f"request: {error}") from error


async def group_info(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/mls/group_info``: a GroupInfoRequest for a GroupInfoResponse.

    The request proves a key; that it is this user's client which asks, the session proves.
    """
    room_id = request.params["room_id"]
    body = await request.json()
    encoded, via = binary(body, "request"), texts(body, "via", limit=MAX_VIA)
    if not all(map(is_server_name, via)):
        raise invalid("via is a list of servers")
    shows_code = _shows_code(encoded)
    if shows_code:  # the hub decides
        context.node.join_codes.tried_by(request)
    else:
        context.views.require(room_id, caller.user_id, joined=True)
    try:
        asked = client_of(GroupInfoRequest.decode(encoded).credential)
        if asked.user_id != caller.user_id:
            raise HttpError(403, "M_FORBIDDEN", "The request is another user's")
        answer = await context.node.rooms.group_info(room_id, request=encoded, via=via)
        if shows_code and GroupInfoResponse.decode(answer).status is GroupInfoCode.SUCCESS:
            let_in = Reply(scope=_LET_IN, key=f"{room_id} {caller.user_id}", value="")
            await context.node.store.put_reply(let_in)
        return _answer(answer)
    except (Rejected, MetadataPolicyError):
        raise
    except (BadRequest, InvalidInput) as error:
        raise invalid(f"request: {error}") from error


async def hub_sender(context: Context, request: Request, caller: Caller) -> Response:
    """``GET rooms/{roomId}/mls/hub_sender``: the external sender by which we propose to the room's group as
    its hub, for whoever creates that group.
    """
    room_id = request.params["room_id"]
    context.views.require(room_id, caller.user_id, joined=True)
    row = context.node.rooms.row(room_id)
    if row is None or row.role is not Role.HUB:
        raise HttpError(404, "M_NOT_FOUND", "This server is not the room's hub")
    sender = hub_external_sender(context.node)
    return json_response(
        {
            "signature_key": encode_base64(sender.signature_key),
            "identity": encode_base64(basic_identity(sender.credential)),
        }
    )


def _shows_code(encoded: bytes) -> bool:
    try:
        return GroupInfoRequest.decode(encoded).joining_code is not None
    except InvalidInput:
        return False


def _require_room(context: Context, room_id: str, caller: Caller, bundle: bytes) -> None:
    """Refuse who is not joined, but for an external commit of somebody who may know of the room: whether that
    may join, its hub decides.
    """
    try:
        joins = commit_parts(HandshakeBundle.decode(bundle).message).joiner is not None
    except (InvalidInput, openmls.MlsError):
        joins = False
    if not joins or not _may_know(context, room_id, caller):
        context.views.require(room_id, caller.user_id, joined=True)


def _may_know(context: Context, room_id: str, caller: Caller) -> bool:
    """By a membership, by a code, also one that another hub took, or as anybody may know of it."""
    store = context.node.store
    return (
        store.membership(room_id, caller.user_id) is not None
        or store.admission(room_id, caller.user_id) is not None
        or store.reply(_LET_IN, f"{room_id} {caller.user_id}") is not None
        or may_know_of(context, caller, room_id)
    )


def _answer(response: bytes) -> Response:
    return json_response({"response": encode_base64(response)})
