"""Our users' invites to rooms of other hubs, and their knocks: of rooms that we have no copy of.

Such a room has a record and a membership and an empty log; the join fetches the rest.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import orjson

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hashing import event_id, lpdu_identity
from linearized.protocol.identifiers import is_user_id
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion, get_version
from linearized.room.submissions import Reason, Rejected
from linearized.server.endpoints import UNSTABLE
from linearized.server.node import Node
from linearized.store.base import MembershipRow, Reply, Role, RoomAppend, RoomRow

# The stripped state of an invite: a reply of this scope, keyed "<room ID> <user ID>", its value a JSON list.
INVITE_STATE: Final = "invite state"
# The same for what a hub showed of a room that one of our users knocked on, the knock last.
KNOCK_STATE: Final = "knock state"
# Six types are asked for; more than this is not "context", and every client of the user has to take it.
MAX_STRIPPED: Final = 50
# Bytes of it that are kept: a name, a topic and a picture's address take a few hundred.
MAX_STRIPPED_BYTES: Final = 64 * 1024
# Invites from one hub that may wait for an answer of one user: nobody reads more, and each is kept.
MAX_PENDING: Final = 500
# "Stripped state events MUST only have sender, type, state_key, and content" (Stripped State).
_STRIPPED_FIELDS: Final = ("sender", "type", "state_key", "content")


def has_copy(row: RoomRow) -> bool:
    """Whether we hold the room's log, or know it only from an invite.

    A room of a MIMI hub is there from its Welcome on, before anything was said in it.
    """
    return row.role is not Role.PARTICIPANT or row.head_seq > 0


async def note_invite(node: Node, event: Event, *, hub: str, version: str, stripped: object) -> None:
    """Keep a verified invite from a hub until its user answers it, and ``stripped`` state that came with it.

    In a room that we have a copy of, the invite arrives as an event of the log instead.

    Raises:
        Rejected: too many invites from that hub wait for the user's answer.
    """
    row = node.store.room(event.room_id)
    if row is not None and has_copy(row):
        return
    target = event.state_key or ""
    if _pending(node, target, hub, but=event.room_id) >= MAX_PENDING:
        raise Rejected(Reason.FORBIDDEN, f"{target} has answered none of {MAX_PENDING} invites from {hub}")
    await node.store.append(
        RoomAppend(
            room_id=event.room_id,
            room=_row(event.room_id, hub, version),
            memberships=(_membership(event.room_id, target, "invite"),),
            replies=(
                Reply(
                    scope=INVITE_STATE,
                    key=f"{event.room_id} {target}",
                    value=orjson.dumps([*_stripped(stripped), *_stripped([event.pdu])]).decode(),
                    lasting=True,
                    replacing=True,
                ),
            ),
        )
    )
    node.notifier.users_changed([target])


async def decline(node: Node, row: RoomRow, user_id: str) -> str:
    """Turn an invite down, or take a knock back, at the room's hub (make_leave, send_leave); the event ID of
    the LPDU that did it.

    Raises:
        EventFormatError: the hub names a room version that we do not know.
        OutboundError: the hub refused or did not answer.
    """
    template = await node.federation.request(row.hub, "GET", _make(row.room_id, user_id, "leave"))
    # "If the sending server does not recognize the returned room_version, it SHOULD NOT attempt to populate
    # the template or use the send_leave endpoint."
    get_version(template.get("room_version", row.version))
    lpdu = _lpdu(node, row, user_id, {"membership": "leave"})
    await node.federation.request(row.hub, "POST", _send(lpdu, "leave", get_version(row.version)), json=lpdu)
    await node.store.append(
        RoomAppend(room_id=row.room_id, memberships=(_membership(row.room_id, user_id, "leave"),))
    )
    node.notifier.users_changed([user_id])
    return event_id(lpdu, get_version(row.version))


async def knock(node: Node, room_id: str, user_id: str, *, hub: str, reason: str | None) -> str:
    """Ask to be invited to a room of another hub (make_knock, send_knock); the event ID of the LPDU that did
    it. What the hub shows of a room that we have no copy of is kept.

    Raises:
        EventFormatError: we do not know the room's version.
        OutboundError: the hub refused or did not answer.
    """
    versions = "&".join(f"ver={quote(name)}" for name in ROOM_VERSIONS)
    template = await node.federation.request(hub, "GET", f"{_make(room_id, user_id, 'knock')}?{versions}")
    known = node.store.room(room_id)
    # The draft shows the bare event, without the version; peers wrap it and say it.
    version = get_version(template.get("room_version", known.version if known is not None else "I.1"))
    row = _row(room_id, hub, version.name)
    content: JsonObject = {"membership": "knock"}
    if reason is not None:
        content["reason"] = reason
    lpdu = _lpdu(node, row, user_id, content)
    answer = await node.federation.request(hub, "POST", _send(lpdu, "knock", version), json=lpdu)
    if known is not None and has_copy(known):
        return event_id(lpdu, version)  # it comes to our copy with the log
    shown = [*_stripped(answer.get("stripped_state")), *_stripped([lpdu])]
    await node.store.append(
        RoomAppend(
            room_id=room_id,
            room=row,
            memberships=(_membership(room_id, user_id, "knock"),),
            replies=(
                Reply(
                    scope=KNOCK_STATE,
                    key=f"{room_id} {user_id}",
                    value=orjson.dumps(shown).decode(),
                    lasting=True,
                    replacing=True,
                ),
            ),
        )
    )
    node.notifier.users_changed([user_id])
    return event_id(lpdu, version)


def _make(room_id: str, user_id: str, change: str) -> str:
    target = f"{quote(room_id, safe='')}/{quote(user_id, safe='')}"
    return f"/_matrix/federation/v1/make_{change}/{target}"


def _send(lpdu: JsonObject, change: str, version: RoomVersion) -> str:
    return f"{UNSTABLE}/send_{change}/{encode_base64url(lpdu_identity(lpdu, version).encode())}"


def _lpdu(node: Node, row: RoomRow, user_id: str, content: JsonObject) -> JsonObject:
    """Our own event, not the hub's template: "The sending server SHOULD remove all other fields"."""
    return build_lpdu(
        identity=node.identity,
        version=get_version(row.version),
        room_id=row.room_id,
        type="m.room.member",
        sender=user_id,
        content=content,
        origin_server_ts=node.clock(),
        hub_server=row.hub,
        state_key=user_id,
    )


def _stripped(value: object) -> list[JsonObject]:
    """The stripped state in what another server sent as such; what is none is left out."""
    found: list[JsonObject] = []
    size = 0
    for item in value[:MAX_STRIPPED] if isinstance(value, list) else []:
        if not _is_stripped(item):
            continue
        event = {name: item[name] for name in _STRIPPED_FIELDS}
        length = len(orjson.dumps(event))
        if size + length <= MAX_STRIPPED_BYTES:  # what is smaller may still have a place
            found.append(event)
            size += length
    return found


def _pending(node: Node, user_id: str, hub: str, *, but: str) -> int:
    """How many invites from a hub wait for a user's answer, to other rooms than one."""
    found = (
        node.store.room(member.room_id)
        for member in node.store.rooms_of(user_id)
        if member.membership == "invite" and member.room_id != but
    )
    return sum(row is not None and row.hub == hub and not has_copy(row) for row in found)


def _is_stripped(item: object) -> bool:
    return (
        isinstance(item, dict)
        and all(isinstance(item.get(name), str) for name in ("type", "state_key"))
        and is_user_id(item.get("sender"))
        and isinstance(item.get("content"), dict)
    )


def _row(room_id: str, hub: str, version: str) -> RoomRow:
    return RoomRow(room_id=room_id, version=version, role=Role.PARTICIPANT, hub=hub, head_seq=0, epoch=None)


def _membership(room_id: str, user_id: str, membership: str) -> MembershipRow:
    return MembershipRow(room_id=room_id, user_id=user_id, membership=membership, seq=0)
