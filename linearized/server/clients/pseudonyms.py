"""A user's pseudonyms: made, listed and forgotten by the account they belong to, which then acts as them."""

from __future__ import annotations

from typing import Final

from linearized.mimi.pseudonyms import device_id_of, is_pseudonym
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import sign_json
from linearized.server.clients import archives
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import binary, invalid
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.pseudonyms import PseudonymRow

MAX_PSEUDONYMS: Final = 1000  # of one account at a time: a room each, with key packages of its own
MAX_DEVICES: Final = 100  # of one pseudonym, as of an account
STATEMENT_TYPE: Final = "dev.linearized.client_key"
"""``type`` of the statement, so that nothing else this server signs can be taken for one."""
_ED25519_BYTES: Final = 32
_GONE: Final = frozenset({"leave", "ban"})


async def make(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT pseudonyms/{user}/{client}``: make a pseudonym and a device of it, both random UUIDs the client
    drew; again is the same.

    The answer's ``statement`` is signed by this server: that the calling device, under its real name, has the
    signature key of the body. It goes into the pseudonym's identity link.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``; 403 ``M_FORBIDDEN`` for who is no account of ours, or acts as a
            pseudonym; 403 ``M_LIMIT_EXCEEDED``; 409 ``M_USER_IN_USE`` for a pseudonym of somebody else.
    """
    node = context.node
    device_id, name = caller.require_device(), request.params["user"]
    client = request.params["client"]
    if caller.owner is not None or caller.bridge is not None:
        raise HttpError(403, "M_FORBIDDEN", "Only an account of this server has pseudonyms")
    if not is_pseudonym(name) or not is_pseudonym(client):
        raise invalid("A pseudonym is a random UUID (version 4) in lower case")
    key = binary(await request.json(), "signature_key")
    if len(key) != _ED25519_BYTES:
        raise invalid("signature_key is not an Ed25519 key")
    user_id = f"@{name}:{node.identity.name}"
    devices = {device.device_id for device in node.store.devices(user_id)} | {device_id_of(client)}
    known = [row.user_id for row in node.store.pseudonyms_of(caller.user_id)]
    if len(devices) > MAX_DEVICES or (user_id not in known and len(known) >= MAX_PSEUDONYMS):
        raise HttpError(403, "M_LIMIT_EXCEEDED", f"An account may have {MAX_PSEUDONYMS} pseudonyms")
    row = PseudonymRow(user_id=user_id, owner=caller.user_id, created_ts=node.clock())
    if not await node.store.put_pseudonym(row, device_id_of(client)):
        raise HttpError(409, "M_USER_IN_USE", "That pseudonym is somebody else's")
    said: JsonObject = {
        "type": STATEMENT_TYPE,
        "user_id": caller.user_id,
        "device_id": device_id,
        "signature_key": encode_base64(key),
        "issued_ts": node.clock(),
    }
    return json_response(
        {
            "user_id": user_id,
            "device_id": device_id_of(client),
            "statement": sign_json(said, name=node.identity.name, key=node.identity.key),
        }
    )


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pseudonyms``: the caller's own, oldest first, each with its devices and the room it is for."""
    del request
    store = context.node.store
    found: list[JsonObject] = []
    for row in store.pseudonyms_of(caller.user_id):
        devices = [device.device_id for device in store.devices(row.user_id)]
        shown: JsonObject = {"user_id": row.user_id, "devices": devices}
        if row.room_id is not None:
            shown["room_id"] = row.room_id
        found.append(shown)
    return json_response({"pseudonyms": found})


async def forget(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE pseudonyms/{user}``: have this server forget whose a pseudonym is. It is gone then, for
    everybody, and what its devices archived.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for a pseudonym that is not the caller's; 403 ``M_FORBIDDEN`` for one
            that has not left its room, where nobody could speak or leave for it any more.
    """
    store, user_id = context.node.store, f"@{request.params['user']}:{context.node.identity.name}"
    row = store.pseudonym(user_id)
    if row is None or row.owner != caller.user_id:
        raise HttpError(404, "M_NOT_FOUND", "That is no pseudonym of this account")
    if any(member.membership not in _GONE for member in store.rooms_of(user_id)):
        raise HttpError(403, "M_FORBIDDEN", "Leave the room first")
    # Its archives first: without their owner nobody could ask for them, or have them gone.
    await archives.forget(context, user_id)
    await store.delete_pseudonym(user_id)
    context.node.notifier.users_changed([user_id])
    return json_response({})
