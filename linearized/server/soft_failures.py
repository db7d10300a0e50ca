"""Entries of followed rooms that local clients are not shown: soft-failed ones (draft, Conventions and
Definitions).

Why an entry was soft-failed is remembered in one transaction with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from linearized.room.submissions import NewEntry
from linearized.store.base import EntryRow, Reply, Role, Store

_SCOPE: Final = "soft-failed"


def replies_for(entries: Sequence[NewEntry]) -> tuple[Reply, ...]:
    """What to remember with entries about to be appended."""
    return tuple(
        Reply(
            scope=_scope(entry.event.room_id),
            key=entry.event.event_id,
            value=entry.soft_failed,
            lasting=True,
        )
        for entry in entries
        if entry.soft_failed is not None
    )


def shown(store: Store, entries: Sequence[EntryRow]) -> list[EntryRow]:
    """Neighbouring entries of one room without those that were soft-failed; one look-up for all of them."""
    room = store.room(entries[0].room_id) if entries else None
    if room is None or room.role is not Role.PARTICIPANT:
        return list(entries)
    hidden = store.replies(_scope(room.room_id), [entry.event_id for entry in entries])
    return [entry for entry in entries if entry.event_id not in hidden]


def _scope(room_id: str) -> str:
    return f"{_SCOPE} {room_id}"
