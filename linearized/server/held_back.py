"""Events that are nothing without the handshake they name, held back until that comes.

A hub appends what a handshake brings about together with it, and sends it in as many transactions as it
takes. Stored without the handshake it would be believed before anything bears it out, and a copy that ends
there could not be gone on from. What is held back is in memory alone: after a restart, and where there is too
much of it, the gap in front of the next event is closed from the hub.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from linearized.protocol.events import Event
from linearized.room.vouching import goes_with, named_handshake

# Events kept over all rooms, some 2 KB each: a commit that lets a thousand users in has 2,000 before it.
MAX_HELD: Final = 10_000


class HeldBack:
    """See the module."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, list[Event]] = OrderedDict()

    def joined(self, room_id: str, events: Sequence[Event]) -> list[Event]:
        """Events of a room, behind those that were held back before them, if they go on from those.

        Returns:
            What is to be looked at now: nothing, if all of it waits for the same handshake still.
        """
        held = self._held.get(room_id, [])
        known = {event.event_id for event in held}
        fresh = [event for event in events if event.event_id not in known]
        if not held or (fresh and fresh[0].prev_events != (held[-1].event_id,)):
            return fresh
        if all(goes_with(event, named_handshake(held[0])) for event in fresh):
            self.keep(room_id, [*held, *fresh])
            return []
        return [*held, *fresh]

    def keep(self, room_id: str, events: Sequence[Event]) -> None:
        """Hold events of a room back, of which the first names a handshake, and no others; none if there are
        none.
        """
        self._held.pop(room_id, None)
        if not events:
            return
        self._held[room_id] = list(events)
        while self._held and sum(map(len, self._held.values())) > MAX_HELD:
            self._held.popitem(last=False)
