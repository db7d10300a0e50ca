"""The integer keys that entries are stored under."""

from __future__ import annotations

import hashlib

# Sequence numbers share a 64-bit key with the room's number: four thousand million entries per room, and half
# as many rooms.
SEQ_BITS = 32
MAX_SEQ = 2**SEQ_BITS - 1
# SQLite stores an integer of six bytes in six bytes. Two IDs that share 48 bits are told apart by the full
# ID.
_EVENT_KEY_BYTES = 6


def event_key(event_id: str) -> int:
    """The indexed stand-in for an event ID: 48 bits of its hash, so no form of ID makes runs of equals."""
    digest = hashlib.blake2b(event_id.encode(errors="surrogatepass"), digest_size=_EVENT_KEY_BYTES).digest()
    return int.from_bytes(digest, "big", signed=True)
