"""What both faces answer about a room's verifiable log: checkpoints, inclusion and consistency.

As hub we sign and prove. As participant we pass on the hub's latest checkpoint that we found right: comparing
those is how participants find out that a hub tells them different things.
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import read_checkpoint
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.store.base import EntryRow, Role, RoomRow
from linearized.store.history import AuditRow

# Digits of a sequence number in a query: 2^53 has sixteen.
MAX_DIGITS: Final = 16


def number(name: str, value: str | None) -> int | None:
    """A sequence number or size from a query; None if it is not there.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``.
    """
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or len(value) > MAX_DIGITS:
        raise HttpError(400, "M_INVALID_PARAM", f"{name} must be a whole number")
    return int(value)


async def checkpoint(node: Node, row: RoomRow, *, size: int | None, until: int) -> JsonObject:
    """A signed checkpoint and the ID of the key it is signed with.

    Args:
        size: entries it is to be about; None for all that the caller may know of.
        until: the last entry the caller may know of.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` past the log's end, ``M_WRONG_SERVER`` for a size we, not being the
            hub, do not have; 404 ``M_NOT_FOUND`` if we have none, or one of more than the
            caller may know of.
    """
    if row.role is Role.HUB:
        wanted = _within("size", until if size is None else size, until)
        signed = await node.trees.checkpoint(row.room_id, wanted)
        return {"checkpoint": signed.note, "key_id": node.identity.key.key_id}
    if size is not None:
        raise _wrong_server()
    held = node.store.audit(row.room_id)
    if held is None or held.hub != row.hub or not _may_know(row, held, until):
        raise HttpError(404, "M_NOT_FOUND", "This server holds no checkpoint of that room for you")
    return {"checkpoint": held.checkpoint, "key_id": held.key_id}


async def consistency(node: Node, row: RoomRow, *, old: int, new: int, until: int) -> JsonObject:
    """The proof that the log of ``old`` entries is the beginning of that of ``new``.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` if it has no such beginnings, ``M_WRONG_SERVER`` if we are not the
            hub.
    """
    _require_hub(row)
    _within("from", old, _within("to", new, until))
    hashes = await node.trees.consistency(row.room_id, old, new)
    return {"from": old, "to": new, "hashes": [encode_base64(found) for found in hashes]}


async def inclusion(node: Node, row: RoomRow, entry: EntryRow, *, size: int, until: int) -> JsonObject:
    """The proof that an entry is in the log of ``size`` entries.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` if it is not, ``M_WRONG_SERVER`` if we are not the hub.
    """
    _require_hub(row)
    _within("seq", entry.seq, _within("size", size, until))
    hashes = await node.trees.inclusion(row.room_id, entry.seq, size)
    return {
        "event_id": entry.event_id,
        "seq": entry.seq,
        "size": size,
        "hashes": [encode_base64(found) for found in hashes],
    }


def find_entry(node: Node, row: RoomRow, *, event_id: str | None, seq: int | None) -> EntryRow | None:
    """The entry a query names by one of the two; None if the room has none.

    Raises:
        HttpError: 400 ``M_MISSING_PARAM`` with neither, ``M_INVALID_PARAM`` with both.
    """
    if event_id is None and seq is None:
        raise HttpError(400, "M_MISSING_PARAM", "Name an entry by event_id or by seq")
    if event_id is not None and seq is not None:
        raise HttpError(400, "M_INVALID_PARAM", "Name an entry by event_id or by seq, not by both")
    if event_id is not None:
        found = node.store.entry_by_id(event_id)
        return found if found is not None and found.room_id == row.room_id else None
    at = seq or 0
    entries = node.store.entries(row.room_id, after=at - 1, limit=1) if at else []
    return entries[0] if entries else None


def _may_know(row: RoomRow, held: AuditRow, until: int) -> bool:
    """Whether all that a checkpoint is about is before the end of what the caller may know of.

    Of more than that the hub would rightly prove nothing to the caller, who would doubt it. To who is still
    in the room, as far as we know, we tell it also when it is ahead of our copy: a hub that sends less than
    it signs would otherwise never be compared.
    """
    # Our copy and the hub's log count alike from the anchor on.
    known = until - held.anchor_seq + held.anchor_size
    return until >= row.head_seq or read_checkpoint(held.checkpoint).size <= known


def _within(name: str, value: int, limit: int) -> int:
    if value > limit:
        raise HttpError(400, "M_INVALID_PARAM", f"{name} is past the end of what it is to be in")
    return value


def _require_hub(row: RoomRow) -> None:
    if row.role is not Role.HUB:
        raise _wrong_server()


def _wrong_server() -> HttpError:
    return HttpError(400, "M_WRONG_SERVER", "This server is not the room's hub")
