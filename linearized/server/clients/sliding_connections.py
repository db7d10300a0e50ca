"""What was told over each connection of sliding sync, by position (MSC4186, Connection management).

It is kept in memory, for the last two positions: the one that went out last, and the one before, with which a
client asks again if it did not get the answer. To any other, ``M_UNKNOWN_POS`` says: begin anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from linearized.server.clients.sliding_wishes import RoomWish

# Connections remembered, each with some hundred bytes for every room it was told of.
MAX_CONNECTIONS: Final = 2_000
# Of one device, so that none takes the place of the others': clients have one or two.
MAX_OF_DEVICE: Final = 10
_KEPT: Final = 2  # positions of one connection


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTold:
    """How far a room was told.

    Attributes:
        seq: the last entry.
        start: the first of the entries up to there that were told without a gap.
        membership: the user's, as it was told.
        wish: what of its state was told, and how much of its timeline was wanted the last time.
        direct: whether it was told to be for talking to one person.
    """

    seq: int
    start: int
    membership: str
    wish: RoomWish
    direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Everything that was told up to a position of a connection: rooms, and how far in the store, in account
    data, receipts, typing, changes of devices, and members of rooms.
    """

    rooms: Mapping[str, RoomTold] = field(default_factory=dict)
    lists: Mapping[str, int] = field(default_factory=dict)
    # For each extension the rooms of which it has told everything.
    heard_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    position: int | None = None  # of the store; None before the first answer
    account_data: int = 0
    receipts: int = 0
    typing: int = 0
    devices: int = 0
    members: int | None = None


class Connections:
    """By the device and the name it gives a connection."""

    def __init__(self) -> None:
        self._connections: OrderedDict[tuple[str, str], OrderedDict[str, Told]] = OrderedDict()

    def told(self, scope: str, connection: str, position: str) -> Told | None:
        """What was told up to a position, or None if that is not known (any more). Older positions are
        forgotten: who asks with one has got its answer.
        """
        positions = self._connections.get((scope, connection), OrderedDict())
        found = positions.get(position)
        if found is not None:
            while next(iter(positions)) != position:
                positions.popitem(last=False)
        return found

    def keep(self, scope: str, connection: str, position: str, told: Told) -> None:
        """Remember what is told up to a new position."""
        key = (scope, connection)
        if key not in self._connections:
            self._make_room(scope)
        positions = self._connections.setdefault(key, OrderedDict())
        positions[position] = told
        while len(positions) > _KEPT:
            # The oldest is the one asked with; the others' answers the client did not get.
            del positions[list(positions)[1]]
        self._connections.move_to_end(key)

    def _make_room(self, scope: str) -> None:
        """Forget the connection used longest ago, of the device if it has too many, else of anybody."""
        own = [key for key in self._connections if key[0] == scope]
        if len(own) >= MAX_OF_DEVICE:
            del self._connections[own[0]]
        elif len(self._connections) >= MAX_CONNECTIONS:
            self._connections.popitem(last=False)

    def restart(self, scope: str, connection: str) -> None:
        """Forget what was told: the client begins anew."""
        self._connections.pop((scope, connection), None)
