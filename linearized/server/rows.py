"""Events as the store's rows."""

from __future__ import annotations

from linearized.protocol.events import Event
from linearized.store.base import EntryRow


def entry_row(event: Event, *, seq: int, epoch: int | None) -> EntryRow:
    """An event at its place in a log, with the MLS epoch after it."""
    return EntryRow(
        room_id=event.room_id,
        seq=seq,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        origin_server_ts=event.origin_server_ts,
        epoch=epoch,
        pdu=event.raw,
    )
