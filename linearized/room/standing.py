"""A room's state that knows who is joined, so that no commit has to ask about every member."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Set
from sys import intern

from linearized.protocol.events import Event
from linearized.protocol.state import StateMap, membership

MEMBER = "m.room.member"
Key = tuple[str, str]


class RoomState(dict[Key, Event]):
    """Current state, by (type, state_key). Only ``take`` changes it.

    Attributes:
        joined: the users whose membership is ``join``.
    """

    def __init__(self, state: StateMap) -> None:
        super().__init__(state)
        # Interned, as the names in a group are (``protocol.identifiers``).
        self.joined = {
            intern(key) for kind, key in self if kind == MEMBER and membership(self, key) == "join"
        }

    def take(self, changes: Mapping[Key, Event]) -> None:
        """Put events in the place of those before them."""
        self.update(changes)
        for kind, key in changes:
            if kind == MEMBER:
                (self.joined.add if membership(self, key) == "join" else self.joined.discard)(intern(key))


class DraftState(ChainMap[Key, Event]):
    """State with changes on top, which only their owner writes to."""

    def __init__(self, changes: dict[Key, Event], before: RoomState) -> None:
        super().__init__(changes, before)
        self._before = before

    @property
    def joined(self) -> Set[str]:
        """The users whose membership is ``join``."""
        return _joined_after(self._before.joined, self.maps[0])


def joined_users(state: StateMap) -> Set[str]:
    """The users whose membership is ``join``."""
    if isinstance(state, RoomState | DraftState):
        return state.joined
    return RoomState(state).joined


def beyond(users: Set[str], known: Set[str]) -> Set[str]:
    """The users who are not among ``known``. Nearly always there is none; to find that out copies nothing."""
    return frozenset() if users <= known else users - known


def _joined_after(joined: set[str], changes: Mapping[Key, Event]) -> set[str]:
    moved = {key for kind, key in changes if kind == MEMBER}
    if not moved:
        return joined
    return (joined - moved) | {user for user in moved if membership(changes, user) == "join"}
