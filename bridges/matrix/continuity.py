"""Whether a transaction can be the next after the last one, and in which rooms something may be missing
since one could not.

A homeserver that restarts forgets what it had queued, and goes on with what comes then. What it forgot is
found by an audit, but after that, out of order. So each room is read once after such a break, before the next
of its events is handed out. The transaction that shows the break need not have events of every room that
lacks some; often it brings keys alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

# Host and port of the other end of a connection.
Peer: TypeAlias = tuple[str, int]

# A homeserver has a few connections at once, for transactions and questions. An old one costs nothing; one
# that is not known any more costs a look at the rooms.
MAX_PEERS = 64


class Continuity:
    """Knows the connections that transactions came by, the number of the last, how often something may have
    been forgotten (``breaks``), and the rooms that were read since. A start is such a break.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[Peer, None] = OrderedDict()
        self._last: str | None = None
        self.breaks = 1
        self._read: set[str] = set()

    def comes_again(self, txn_id: str) -> bool:
        """Whether it is the last transaction again: the homeserver saw us fail, and is trying again."""
        return self._last == txn_id

    def note(self, txn_id: str, peer: Peer | None) -> None:
        """A transaction came; it is the last from now on.

        A new process has new connections. Where something stands between us and the homeserver, its numbers
        tell: they begin anew when nothing waits.
        """
        known = peer is None or peer in self._peers
        follows = self._last is not None and _follows(self._last, txn_id)
        if peer is not None:
            self._peers[peer] = None
            self._peers.move_to_end(peer)
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
        self._last = txn_id
        if not (known and follows):
            self.breaks += 1
            self._read.clear()

    def is_whole(self, room_id: str) -> bool:
        """Whether the room was read since something may have been forgotten."""
        return room_id in self._read

    def was_read(self, room_id: str, breaks: int) -> None:
        """The room was read, beginning when there had been so many ``breaks``."""
        if breaks == self.breaks:
            self._read.add(room_id)


def _follows(last: str, txn_id: str) -> bool:
    """Whether one is the other or the number after it; of IDs that are no numbers nothing is known."""
    if not (last.isdecimal() and txn_id.isdecimal()):
        return True
    return int(txn_id) - int(last) in (0, 1)
