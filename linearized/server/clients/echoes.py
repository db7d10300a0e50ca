"""Which of a device's entries came of which transaction ID, so that a client recognises what it sent itself.

Kept in memory only: "transaction_id" is a convenience for local echo, and a client that never hears it falls
back to the event ID that its send returned. What may never be forgotten, that a transaction is not sent
twice, is stored with the entry (see ``sending``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.store.base import EntryRow

# Sends remembered over all devices: minutes of traffic on a busy server, at about 300 bytes each.
MAX_SENT: Final = 20_000


class Echoes:
    """Sends on their way and sends done."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str], str] = (
            OrderedDict()
        )  # (device scope, event ID) -> transaction ID
        self._sending: dict[tuple[str, str, str], list[tuple[JsonObject, str]]] = {}

    @contextmanager
    def sending(
        self, scope: str, *, room_id: str, event_type: str, content: JsonObject, transaction_id: str
    ) -> Iterator[None]:
        """While this lasts, an entry with just this content is taken for what the device sends.

        An entry can be read by a sync before its send has returned and its event ID is known here.
        """
        key, value = (scope, room_id, event_type), (content, transaction_id)
        self._sending.setdefault(key, []).append(value)
        try:
            yield
        finally:
            self._sending[key].remove(value)
            if not self._sending[key]:
                del self._sending[key]

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
        return next((transaction for sent, transaction in waiting if sent == content), None)
