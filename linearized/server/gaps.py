"""What is missing between our copy of a room and an event of its hub (draft, Backfilling)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import trio

from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.room.submissions import Reason, Rejected
from linearized.server.endpoints import UNSTABLE
from linearized.server.node import Node
from linearized.server.shown_rooms import Keys, verified_event
from linearized.store.base import RoomRow

# Events asked for at once when some are missing; the hub may send fewer.
BACKFILL_LIMIT: Final = 100
# Requests made to close one gap, 10,000 events: a longer outage is closed by several deliveries.
MAX_BACKFILLS: Final = 100
# Events kept in memory to close one gap, bytes: what 10,000 events of 6 KB come to.
MAX_GAP_BYTES: Final = 64 * 1024 * 1024


async def close_gap(node: Node, row: RoomRow, event: Event, *, after: str | None, hub: str) -> list[Event]:
    """Fetch what lies between the event ``after`` and ``event``, which comes last in what is returned, and
    verify each signature and hash; the rules are for the replica to hold it to.

    Args:
        after: the last event of our copy; None if it has none.
        hub: who is asked.

    Raises:
        Rejected: what came does not lead from the one to the other, or is more than we keep for a gap.
        InvalidInput: an event is malformed, or not what its signatures say.
        OutboundError: the hub does not answer.
    """
    chain = [event]
    size = len(event.raw)
    for _ in range(MAX_BACKFILLS):
        earliest = previous(chain[-1])
        query = f"v={quote(earliest, safe='')}&limit={BACKFILL_LIMIT}"
        answer = await node.federation.request(
            hub, "GET", f"{UNSTABLE}/backfill/{quote(row.room_id, safe='')}?{query}"
        )
        by_id = {found.event_id: found for found in await _page(node, answer, row)}
        while (missing := by_id.pop(previous(chain[-1]), None)) is not None:
            chain.append(missing)
            size += len(missing.raw)
            if previous(missing) == after:
                return chain[::-1]
        if previous(chain[-1]) == earliest or size > MAX_GAP_BYTES:
            break  # the hub gave us nothing new, or too much
    raise Rejected(Reason.FORBIDDEN, "The hub does not close the gap before its event")


def previous(event: Event) -> str:
    """The ID of the event before one; the first of a log follows nothing and so closes no gap.

    Raises:
        Rejected: ``FORBIDDEN`` unless it has exactly one.
    """
    if len(event.prev_events) != 1:
        raise Rejected(Reason.FORBIDDEN, "An event of a linear room has one predecessor")
    return event.prev_events[0]


async def _page(node: Node, answer: JsonObject, row: RoomRow) -> list[Event]:
    pdus = answer.get("pdus")
    if not isinstance(pdus, list):
        raise Rejected(Reason.MALFORMED, "The hub's answer has no events")
    events: list[Event] = []
    keys: Keys = {}
    for pdu in pdus[:BACKFILL_LIMIT]:
        events.append(await verified_event(node, pdu, row, keys))
        await trio.lowlevel.checkpoint()  # verifying a page takes a few dozen milliseconds
    return events
