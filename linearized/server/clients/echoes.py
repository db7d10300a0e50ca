"""Which of a device's entries came of which transaction ID, so that a client recognises what it sent itself.

Kept in memory only: "transaction_id" is a convenience for local echo, and a client that never hears it falls
back to the event ID that its send returned. What may never be forgotten, that a transaction is not sent
twice, is stored with the entry (see ``sending``).

A sync tells a device of what it sent only after the answer to its send, a moment at most: matrix-js-sdk fails
on an event of a thread that it hears of before it knows the event's ID.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from linearized.protocol.canonical import JsonObject
from linearized.store.base import EntryRow

# Sends remembered over all devices: minutes of traffic on a busy server, at about 300 bytes each.
MAX_SENT: Final = 20_000
# The longest a sync waits for the answers to sends: a client that does not take them hears of its own events
# all the same, and a second is what people take for slow.
MAX_HOLD_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Sending:
    """A send that was not answered yet."""

    content: JsonObject
    transaction_id: str
    answered: trio.Event = field(default_factory=trio.Event)


class Echoes:
    """Sends on their way and sends done."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str], str] = (
            OrderedDict()
        )  # (device scope, event ID) -> transaction ID
        self._sending: dict[tuple[str, str, str], list[Sending]] = {}

    def begin(
        self, scope: str, *, room_id: str, event_type: str, content: JsonObject, transaction_id: str
    ) -> Callable[[], None]:
        """Until what this gives is called, once, an entry with just this content is taken for what the device
        sends.

        An entry can be read by a sync before its send has returned and its event ID is known here.
        """
        key, value = (scope, room_id, event_type), Sending(content, transaction_id)
        self._sending.setdefault(key, []).append(value)

        def end() -> None:
            value.answered.set()
            self._sending[key].remove(value)
            if not self._sending[key]:
                del self._sending[key]

        return end

    async def answered(self, scope: str, told: Iterable[JsonObject]) -> None:
        """Wait until the device's sends that became some of these client events were answered; no longer than
        ``MAX_HOLD_SECONDS``.
        """
        with trio.move_on_after(MAX_HOLD_SECONDS):
            for event in told:
                for sending in tuple(self._sending.get((scope, event["room_id"], event["type"]), ())):
                    if sending.transaction_id == event["unsigned"].get("transaction_id"):
                        await sending.answered.wait()

    def sent(self, scope: str, event_id: str, transaction_id: str) -> None:
        """Remember what a send became."""
        self._sent[scope, event_id] = transaction_id
        while len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)

    def transaction_of(self, scope: str, entry: EntryRow, content: JsonObject) -> str | None:
        """The transaction ID the device sent an entry with, if it did."""
        known = self._sent.get((scope, entry.event_id))
        if known is not None:
            return known
        waiting = self._sending.get((scope, entry.room_id, entry.type), ())
        return next((sending.transaction_id for sending in waiting if sending.content == content), None)
