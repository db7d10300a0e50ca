"""What one transaction to a Linearized Matrix server holds: events of all its rooms, and ephemeral units.

"There MUST NOT be more than 50 entries in pdus", "There MUST NOT be more than 100 entries in edus" (send).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, FollowerRow, NewToDevice, Store, ToDeviceRow

MAX_PDUS: Final = 50
MAX_EDUS: Final = 100
# Bytes of events in one transaction; fifty of the largest come to three megabytes, and peers take four.
MAX_BATCH_BYTES: Final = 3 * 1024 * 1024
# Units waiting for one server; past it their senders are refused, so that a dead server costs a bounded disk.
MAX_WAITING_EDUS: Final = 1_000

# Where a server's ephemeral units wait: to-device messages to the server itself, in a device of this name (no
# room ID is one).
EDUS: Final = "edus"

# In UTF-8, how the characters from U+E000 on begin: some room versions sort names with them in another order
# than X-Matrix does. (Between that and U+D800 there are none.)
_AMBIGUOUS: Final = re.compile(rb"[\xee-\xff]")


@dataclass(slots=True)
class Batch:
    """One transaction. ``reached`` says by room how far each cursor gets with it, and ``more`` in which rooms
    there may be more to send.
    """

    events: list[EntryRow] = field(default_factory=list)
    reached: dict[str, tuple[FollowerRow, int]] = field(default_factory=dict)
    more: set[str] = field(default_factory=set)
    units: list[ToDeviceRow] = field(default_factory=list)
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.events or self.units)

    @property
    def keys(self) -> list[str]:
        """The rooms in it, and ``EDUS`` if it holds any."""
        return [*self.reached, *([EDUS] if self.units else [])]

    @property
    def is_full(self) -> bool:
        """Whether no further event fits."""
        return len(self.events) >= MAX_PDUS or self.size >= MAX_BATCH_BYTES

    def take(self, follower: FollowerRow, entries: Iterable[EntryRow]) -> None:
        """Add a room's next entries, as many of them as fit."""
        for entry in entries:
            if self.is_full or (self.events and self.size + len(entry.pdu) > MAX_BATCH_BYTES):
                self.more.add(follower.room_id)
                break
            self.events.append(entry)
            self.size += len(entry.pdu)
            self.reached[follower.room_id] = (follower, entry.seq)

    def body(self) -> bytes:
        """The request, as canonical JSON: entries go out as they are stored."""
        pdus = b'"pdus":[' + b",".join(_canonical(entry.pdu) for entry in self.events) + b"]}"
        if not self.units:
            return b"{" + pdus
        edus = b",".join(canonical_json(orjson.loads(unit.content)) for unit in self.units)
        return b'{"edus":[' + edus + b"]," + pdus

    def transaction_id(self) -> str:
        """The same content is the same transaction, so a retry is recognised."""
        names = [entry.event_id for entry in self.events] + [f"#{unit.position}" for unit in self.units]
        return encode_base64url(hashlib.sha256("".join(names).encode()).digest())


def _canonical(pdu: bytes) -> bytes:
    """A stored event, which is canonical JSON in its room version's order, in the order of X-Matrix."""
    if pdu.isascii() or _AMBIGUOUS.search(pdu) is None:
        return pdu
    return canonical_json(orjson.loads(pdu))


def waiting_units(store: Store, server: str) -> list[ToDeviceRow]:
    """The next ephemeral units for a server, oldest first."""
    return store.to_device(provider_address(server), EDUS, after=0, limit=MAX_EDUS)


def has_place(store: Store, server: str, count: int) -> bool:
    """Whether ``count`` more ephemeral units may wait for a server."""
    limit = MAX_WAITING_EDUS - count + 1
    return limit > 0 and len(store.to_device(provider_address(server), EDUS, after=0, limit=limit)) < limit


def queued_units(server: str, units: Sequence[JsonObject]) -> list[NewToDevice]:
    """Ephemeral units for a server, as they wait in the store."""
    return [
        NewToDevice(
            user_id=provider_address(server),
            device_id=EDUS,
            type=str(unit["type"]),
            sender=str(unit.get("sender") or unit.get("sender_id")),
            content=orjson.dumps(unit),
        )
        for unit in units
    ]
