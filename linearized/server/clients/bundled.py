"""Bundled aggregations: what relates to an event, summed up in its ``unsigned`` (Client-Server API, Forming
relationships between events): the latest edit, the thread that starts with it, and what refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.ignoring import heard, ignored_by
from linearized.server.clients.views import View
from linearized.server.redactions import redactions_of
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, Store
from linearized.store.relations import REFERENCE, REPLACE, THREAD, relation_of

RELATIONS: Final = "m.relations"
# Entries that relate to one event looked at, the latest: enough for the latest edit and answer.
MAX_LOOKED_AT: Final = 50

Render = Callable[[EntryRow], JsonObject]


def bundle(
    store: Store, view: View, user_id: str, events: Sequence[tuple[EntryRow, JsonObject]], *, render: Render
) -> None:
    """Put what the user may see of it into the client events of ``events``, which are of one room.

    Args:
        render: makes a client event of an entry.
    """
    for entry, event in events:
        found = _relations(store, view, user_id, entry, render)
        if found:
            event["unsigned"][RELATIONS] = found


def _relations(store: Store, view: View, user_id: str, entry: EntryRow, render: Render) -> JsonObject:
    room_id, last = view.room.room_id, view.head
    rows = store.related(
        room_id, entry.event_id, after=0, before=last + 1, newest_first=True, limit=MAX_LOOKED_AT
    )
    visible = shown(store, [row for row in rows if view.shows(row)])
    children = heard(visible, ignored_by(store, user_id))
    redacted = redactions_of(store, [*children, entry])  # what is redacted relates to nothing any more
    children = [row for row in children if row.event_id not in redacted]
    kinds = {
        kind: [row for row in children if _relates(row) == kind] for kind in (THREAD, REPLACE, REFERENCE)
    }
    found: JsonObject = {}
    edits = [row for row in kinds[REPLACE] if _edits(row, entry)]
    if edits and entry.event_id not in redacted:
        found[REPLACE] = render(edits[0])
    if kinds[REFERENCE]:
        found[REFERENCE] = {"chunk": [{"event_id": row.event_id} for row in kinds[REFERENCE]]}
    if kinds[THREAD]:
        count = len(kinds[THREAD])
        if len(rows) == MAX_LOOKED_AT:
            count = store.relation_count(room_id, entry.event_id, THREAD, last=last)
        found[THREAD] = {
            "latest_event": render(kinds[THREAD][0]),
            "count": count,
            "current_user_participated": user_id in {row.sender for row in (entry, *kinds[THREAD])},
        }
    return found


def _relates(entry: EntryRow) -> str:
    relation = relation_of(entry.pdu)
    return relation[1] if relation is not None else ""


def _edits(edit: EntryRow, original: EntryRow) -> bool:
    """Whether an edit counts ("Validity of replacement events"): of the same sender and type, neither state
    nor the edit of an edit.
    """
    return (
        edit.sender == original.sender
        and edit.type == original.type
        and edit.state_key is None
        and original.state_key is None
        and _relates(original) != REPLACE
    )
