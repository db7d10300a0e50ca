"""Making events, hashed and signed, by a hub or a participant (draft, Signing Events; Linearized PDU)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from linearized.exceptions import EventFormatError
from linearized.protocol.canonical import JsonObject, check_json
from linearized.protocol.events import (
    MAX_EVENT_DEPTH,
    Event,
    event_of,
    format_errors,
    parse_lpdu,
)
from linearized.protocol.hashing import content_hash, lpdu_hash, signed_bytes
from linearized.protocol.identifiers import is_user_id, user_domain
from linearized.protocol.schema import check_hub_fields, check_pdu_schema
from linearized.protocol.signing import ServerIdentity, add_signature
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import RoomVersion


def build_event(
    *,
    identity: ServerIdentity,
    version: RoomVersion,
    room_id: str,
    type: str,  # noqa: A002 - the field's name on the wire
    sender: str,
    content: JsonObject,
    origin_server_ts: int,
    auth_events: Sequence[str],
    prev_events: Sequence[str],
    state_key: str | None = None,
    provenance: JsonObject | None = None,
) -> Event:
    """Make an event of one of the hub's own users, or, with ``provenance``, of a user it vouches for.

    ``origin_server_ts`` is in milliseconds since the Unix epoch. ``provenance`` is the object described in
    ``schemas/events/provenance.json`` and makes this an event with ``hub_server`` and ``hashes.lpdu``.

    Raises:
        EventFormatError: the event does not match the schema or is too large; or the sender is neither ours
            nor vouched for; or ``version`` has no vouched events.
    """
    pdu = _base(
        room_id=room_id,
        kind=type,
        sender=sender,
        content=content,
        origin_server_ts=origin_server_ts,
        state_key=state_key,
    )
    if provenance is None:
        if not is_user_id(sender) or user_domain(sender) != identity.name:
            raise EventFormatError("the sender is not one of this server's users")
        if version.hub_server_always:
            pdu["hub_server"] = identity.name
    else:
        pdu |= {"hub_server": identity.name, "provenance": provenance}
    with format_errors():
        plain = check_json(pdu, max_depth=MAX_EVENT_DEPTH)
        if provenance is not None:
            pdu["hashes"] = {"lpdu": {"sha256": lpdu_hash(pdu, version, plain=plain)}}
    return _finish(pdu, identity, version, auth_events, prev_events, plain=plain, check=check_pdu_schema)


def build_lpdu(
    *,
    identity: ServerIdentity,
    version: RoomVersion,
    room_id: str,
    type: str,  # noqa: A002 - the field's name on the wire
    sender: str,
    content: JsonObject,
    origin_server_ts: int,
    hub_server: str,
    state_key: str | None = None,
) -> JsonObject:
    """Make the LPDU a participant sends its hub: hashed over the partial event, where the room version has
    such a hash, and signed by the participant.

    ``origin_server_ts`` is in milliseconds since the Unix epoch.

    Raises:
        EventFormatError: it does not match the schema or is too large.
    """
    lpdu = _base(
        room_id=room_id,
        kind=type,
        sender=sender,
        content=content,
        origin_server_ts=origin_server_ts,
        state_key=state_key,
    )
    lpdu["hub_server"] = hub_server
    with format_errors():
        if version.lpdu_hashes:
            lpdu["hashes"] = {"lpdu": {"sha256": lpdu_hash(lpdu, version)}}
        lpdu = _signed(lpdu, identity, signed_bytes(lpdu, version))
    parse_lpdu(lpdu, version)
    return lpdu


def complete_lpdu(
    verified: VerifiedLpdu,
    *,
    identity: ServerIdentity,
    version: RoomVersion,
    auth_events: Sequence[str],
    prev_events: Sequence[str],
) -> Event:
    """Make the hub's event of an LPDU.

    Raises:
        EventFormatError: the complete event does not match the schema or is too large; or the LPDU is for
            another hub.
    """
    lpdu = verified.lpdu
    # "When a hub server is converting an LPDU to a formal event, it MUST specify its own server name here."
    # The participant has signed the field, so the hub cannot.
    if lpdu.pdu["hub_server"] != identity.name:
        raise EventFormatError("the LPDU is for another hub")
    return _finish(
        lpdu.pdu, identity, version, auth_events, prev_events, plain=lpdu.plain, check=check_hub_fields
    )


def _base(
    *,
    room_id: str,
    kind: str,
    sender: str,
    content: JsonObject,
    origin_server_ts: int,
    state_key: str | None,
) -> JsonObject:
    pdu: JsonObject = {
        "room_id": room_id,
        "type": kind,
        "sender": sender,
        "content": content,
        "origin_server_ts": origin_server_ts,
    }
    if state_key is not None:
        pdu["state_key"] = state_key
    return pdu


def _finish(
    pdu: JsonObject,
    identity: ServerIdentity,
    version: RoomVersion,
    auth_events: Sequence[str],
    prev_events: Sequence[str],
    *,
    plain: bool,
    check: Callable[[JsonObject, RoomVersion], None],
) -> Event:
    """Complete, hash, sign and check. What is added nests no deeper and sorts no differently, so the walk
    that gave ``plain`` is the only one.
    """
    pdu = {**pdu, "auth_events": list(auth_events), "prev_events": list(prev_events)}
    with format_errors():
        pdu["hashes"] = {**pdu.get("hashes", {}), "sha256": content_hash(pdu, version, plain=plain)}
        signed = signed_bytes(pdu, version, plain=plain)
        pdu = _signed(pdu, identity, signed)
        check(pdu, version)
        return event_of(pdu, version, signed=signed, plain=plain)


def _signed(pdu: JsonObject, identity: ServerIdentity, message: bytes) -> JsonObject:
    signature = identity.key.sign(message)
    return add_signature(pdu, name=identity.name, key_id=identity.key.key_id, signature=signature)
