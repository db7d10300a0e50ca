"""``POST /invite/{txnId}``: as hub, invites by participants; as target, invites of our users."""

from __future__ import annotations

import orjson

from linearized.exceptions import EventFormatError, InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import parse_pdu
from linearized.protocol.hashing import signed_bytes
from linearized.protocol.identifiers import is_user_id, room_domain, user_domain
from linearized.protocol.signing import add_signature
from linearized.protocol.versions import RoomVersion, get_version
from linearized.server import hub_chain
from linearized.server.deciding import Repeated
from linearized.server.exchange import HUB_EVENTS
from linearized.server.federation import lpdus
from linearized.server.federation.calls import Call, not_found, require_admitted
from linearized.server.http import HttpError, Response, json_response
from linearized.server.invited import note_invite
from linearized.store.base import Role, RoomRow

MEMBER = "m.room.member"


async def invite(call: Call) -> Response:
    """Take an invite, from a participant for a room of ours, or from a hub for a user of ours.

    Raises:
        HttpError: 400 ``M_INCOMPATIBLE_ROOM_VERSION``, 403 ``M_FORBIDDEN``.
        InvalidInput: the event is malformed, unsigned or not allowed.
        OutboundError: the target's server refused or did not answer.
    """
    event = call.body.get("event")
    if not isinstance(event, dict) or not _is_invite(event):
        raise HttpError(400, "M_BAD_JSON", "event must be the invite of a user")
    row = call.node.rooms.row(str(event.get("room_id")))
    if row is not None:
        require_admitted(call.node, row, call.origin)
    if row is not None and row.role is Role.HUB:
        return _answer(await _as_hub(call, row, event))
    return _answer(await _as_target(call, event))


def _is_invite(event: JsonObject) -> bool:
    # "type MUST be m.room.member. membership in content MUST be invite."
    content = event.get("content")
    return (
        event.get("type") == MEMBER
        and isinstance(content, dict)
        and content.get("membership") == "invite"
        and is_user_id(event.get("state_key"))
    )


def _answer(pdu: JsonObject) -> Response:
    # The draft calls it pdu, an existing peer event.
    return json_response({"pdu": pdu, "event": pdu})


async def _as_hub(call: Call, row: RoomRow, lpdu: JsonObject) -> JsonObject:
    (checked,) = await lpdus.check_all(call.node, row, [lpdu], call.origin)
    if isinstance(checked, InvalidInput):
        raise checked
    submission, reply = checked
    known = call.node.store.reply(reply.scope, reply.key)
    if known is None:
        try:
            accepted = await call.node.rooms.invite_lpdu(row.room_id, submission, reply=reply)
        except Repeated as error:
            known = error.value
        else:
            return accepted.entry.event.pdu
    stored = call.node.store.entry_by_id(known)
    if stored is None:
        raise not_found()
    pdu: JsonObject = orjson.loads(stored.pdu)
    return pdu


async def _as_target(call: Call, pdu: JsonObject) -> JsonObject:
    version = _version(call.body.get("room_version"))
    event = parse_pdu(pdu, version)
    # Whoever hands us the invite must be the hub that vouches for it.
    if call.origin != (event.hub_server or user_domain(event.sender)):
        raise HttpError(403, "M_FORBIDDEN", "The invite is another hub's")
    # A room's hub is its creator's server, and rule 3.2 puts the room ID in that server's namespace; or whom
    # that server handed it over to. Anybody else could take the room's ID away from its hub here.
    if room_domain(event.room_id) != call.origin:
        shown = call.body.get(HUB_EVENTS)
        await hub_chain.verified(call.node, event.room_id, shown, version, hub=call.origin)
    await hub_chain.verify_sent(call.node, event, version)
    target = event.state_key or ""
    node = call.node
    # What makes a user ineligible "is left as an implementation detail"; ours must exist.
    if user_domain(target) not in node.served_domains or node.store.user(target) is None:
        raise HttpError(403, "M_FORBIDDEN", "This user cannot be invited")
    stripped = _list(call.body.get("invite_room_state"))
    await note_invite(node, event, hub=call.origin, version=version.name, stripped=stripped)
    # The draft: "Finally, the target server signs the event and returns it to the hub."
    signature = node.identity.key.sign(signed_bytes(event.pdu, version))
    return add_signature(
        event.pdu, name=node.identity.name, key_id=node.identity.key.key_id, signature=signature
    )


def _list(value: object) -> list[object]:
    # "invite_room_state MAY be excluded from the request body."
    if value is None:
        return []
    if not isinstance(value, list):
        raise HttpError(400, "M_BAD_JSON", "invite_room_state must be an array")
    return value


def _version(name: object) -> RoomVersion:
    try:
        return get_version(name)
    except EventFormatError as error:
        # "The target server then ensures it can support the room version."
        raise HttpError(
            400, "M_INCOMPATIBLE_ROOM_VERSION", "This server does not know that room version"
        ) from error
