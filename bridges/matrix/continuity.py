"""Whether a transaction can be the next after the last one.

A homeserver that restarts forgets what it had queued, and goes on with what comes then. What it forgot is
found by an audit, but after that, out of order. So it matters to notice before anything of the transaction is
taken.
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
    """Knows the connections that transactions came by, and the number of the last."""

    def __init__(self) -> None:
        self._peers: OrderedDict[Peer, None] = OrderedDict()
        self._last: str | None = None

    def is_broken(self, txn_id: str, peer: Peer | None) -> bool:
        """Whether something may be missing before this transaction; it is the last from now on.

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
        return not (known and follows)


def _follows(last: str, txn_id: str) -> bool:
    """Whether one is the other or the number after it; of IDs that are no numbers nothing is known."""
    if not (last.isdecimal() and txn_id.isdecimal()):
        return True
    return int(txn_id) - int(last) in (0, 1)
