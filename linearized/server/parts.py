"""Commits that are larger than an event, read back from a log (see ``room.parts``)."""

from __future__ import annotations

from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.room.admission import COMMIT, COMMIT_PART
from linearized.room.parts import MAX_PARTS, number_of_parts, whole_content
from linearized.store.base import EntryRow, Store

# Parts looked for at once at the end of a log: most commits that have any have two or three.
_LOOK: Final = 4


def content_of(store: Store, entry: EntryRow) -> JsonObject:
    """An entry's content; a commit's with what the parts before it hold.

    Raises:
        Rejected: ``MALFORMED`` for a commit with other parts than it says, which a hub never has in its log.
    """
    content: JsonObject = orjson.loads(entry.pdu)["content"]
    if entry.type != COMMIT or not (count := number_of_parts(content)):
        return content
    page = store.entries(entry.room_id, after=max(0, entry.seq - 1 - count), limit=count)
    before = [each for each in page if each.type == COMMIT_PART and each.seq < entry.seq]
    return whole_content(content, [_content(each) for each in before])


def parts_at(store: Store, room_id: str, last: EntryRow | None) -> list[JsonObject]:
    """The contents of the parts that a log ends with: their commit is still to come.

    Args:
        last: the log's last entry.
    """
    found: list[JsonObject] = []
    page = [last] if last is not None else []
    while page:
        for entry in page:
            if entry.type != COMMIT_PART or len(found) == MAX_PARTS:
                return found[::-1]
            found.append(_content(entry))
        page = store.entries_before(room_id, before=page[-1].seq, limit=_LOOK)
    return found[::-1]


def _content(entry: EntryRow) -> JsonObject:
    content: JsonObject = orjson.loads(entry.pdu)["content"]
    return content
