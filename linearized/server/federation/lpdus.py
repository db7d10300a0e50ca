"""An LPDU on its way into a room of ours: whoever sends it, and however often."""

from __future__ import annotations

from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import check_lpdu, strip_unhashed
from linearized.protocol.hashing import lpdu_hash
from linearized.protocol.signing import signatures_of
from linearized.protocol.versions import get_version
from linearized.room.submissions import LinearizedPdu
from linearized.server.hub import EVENT_ID, Repeated
from linearized.server.node import Node
from linearized.store.base import Reply, RoomRow

_COMPLETE = ("auth_events", "prev_events")


def is_lpdu(event: JsonObject) -> bool:
    """Whether an event lacks what only a hub adds."""
    return not any(field in event for field in _COMPLETE)


def remembered(node: Node, row: RoomRow, lpdu: JsonObject) -> str | None:
    """The ID of the event an LPDU became if it was accepted before.

    Raises:
        EventFormatError: it is not an LPDU.
    """
    check_lpdu(lpdu, get_version(row.version))
    return node.store.reply(_scope(row), _key(row, lpdu))


def reply_for(row: RoomRow, lpdu: JsonObject) -> Reply:
    """How to remember, with its entry, which event an LPDU becomes."""
    return Reply(scope=_scope(row), key=_key(row, lpdu), value=EVENT_ID)


async def signing_keys(node: Node, lpdu: JsonObject, origin: str) -> dict[str, bytes]:
    """The keys with which ``origin`` signed an LPDU, those of them that are known.

    Raises:
        SignatureError: it has no signature of ``origin``.
    """
    return dict(await node.keys.keys_for(origin, list(signatures_of(lpdu, origin))))


async def submit(node: Node, row: RoomRow, lpdu: JsonObject, origin: str) -> str:
    """Have a room of ours append an LPDU of ``origin``; the event ID it got, also when it has it already.

    The LPDU's hash is remembered in the same transaction as the entry, so a transaction that is repeated
    after we broke off half-way appends nothing twice.

    Raises:
        InvalidInput: it was refused.
    """
    known = remembered(node, row, lpdu)
    if known is not None:
        return known
    keys = await signing_keys(node, lpdu, origin)
    submission = LinearizedPdu(lpdu=lpdu, origin=origin, keys=keys)
    try:
        accepted = await node.rooms.submit(row.room_id, submission, reply=reply_for(row, lpdu))
    except Repeated as error:
        return error.value
    return accepted.event_id


def _key(row: RoomRow, lpdu: JsonObject) -> str:
    version = get_version(row.version)
    return lpdu_hash(strip_unhashed(lpdu, version), version)


def _scope(row: RoomRow) -> str:
    return f"lpdu {row.room_id}"
