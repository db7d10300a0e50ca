"""What a client of sliding sync wants of a room (MSC4186, room configs), in both shapes that clients write.

The proposal says ``{"include": [{"type", "state_key"}], "exclude": […], "lazy_members"}``; clients that were
made for its experiments say pairs with ``*``, ``$ME`` and ``$LAZY``, and are read as meaning the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.fields import bad_json, boolean, integer, objects, optional_text
from linearized.server.histories import MEMBER_TYPE

MAX_REQUIRED: Final = 100  # pairs of event type and state key, of one room config
MAX_TIMELINE: Final = 100  # entries of a room; the rest is paged
# Room configs that are remembered as told, for one room: a list and a subscription or two.
MAX_REMEMBERED: Final = 4

ANY, LAZY, ME = "*", "$LAZY", "$ME"
Pair = tuple[str, str]


def _covers(pairs: frozenset[Pair], kind: str, key: str) -> bool:
    return not pairs.isdisjoint({(kind, key), (kind, ANY), (ANY, key), (ANY, ANY)})


@dataclass(frozen=True)
class StateWish:
    """Which state is wanted, by type and key; either may be ``ANY``, and a key ``ME``.

    Attributes:
        lazy: "retrieve all state events except for m.room.member events which you want to lazily load": of
            the members those whom the timeline is about, and those who are named.
    """

    include: frozenset[Pair] = frozenset()
    exclude: frozenset[Pair] = frozenset()
    lazy: bool = False

    def wants(self, kind: str, key: str, me: str) -> bool:
        """Whether this state is wanted whatever is in the timeline."""
        keys = {key, ME} if key == me else {key}
        if any(_covers(self.exclude, kind, each) for each in keys):
            return False
        if self.lazy and kind == MEMBER_TYPE:
            named = {(kind, ANY), *((kind, each) for each in keys)}
            return not self.include.isdisjoint(named)
        return any(_covers(self.include, kind, each) for each in keys)


@dataclass(frozen=True)
class RoomWish:
    """What is wanted of a room: state, and how many entries of its end."""

    states: frozenset[StateWish] = frozenset()
    timeline_limit: int = 0

    def joined(self, other: RoomWish) -> RoomWish:
        """What either of two wants: "the superset"."""
        return RoomWish(self.states | other.states, max(self.timeline_limit, other.timeline_limit))

    def wants(self, kind: str, key: str, me: str) -> bool:
        """Whether this state is wanted whatever is in the timeline."""
        return any(state.wants(kind, key, me) for state in self.states)

    def remembered_after(self, before: RoomWish) -> RoomWish:
        """What counts as told after this wish: its timeline, and the state that was wanted before, too, as
        long as that is not too much to remember.
        """
        states = self.states | before.states
        return RoomWish(states if len(states) <= MAX_REMEMBERED else self.states, self.timeline_limit)

    @cached_property
    def lazy(self) -> bool:
        """Whether members are wanted whom the timeline is about."""
        return any(state.lazy for state in self.states)

    @cached_property
    def pairs(self) -> frozenset[Pair]:
        """Everything that is included somewhere."""
        return frozenset[Pair]().union(*(state.include for state in self.states))

    @cached_property
    def wide(self) -> bool:
        """Whether more is wanted than can be looked up piece by piece."""
        return any(ANY in pair for pair in self.pairs)


def parse_wish(body: JsonObject) -> RoomWish:
    """Read a list's or a subscription's room config.

    Raises:
        HttpError: 400 ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
    """
    required = body.get("required_state", [])
    if isinstance(required, dict):
        state = StateWish(
            include=_elements(required, "include"),
            exclude=_elements(required, "exclude"),
            lazy=boolean(required, "lazy_members"),
        )
    else:
        state = _of_pairs(required)
    limit = integer(body, "timeline_limit") if "timeline_limit" in body else 0
    return RoomWish(frozenset({state}), min(limit, MAX_TIMELINE))


def _elements(body: JsonObject, name: str) -> frozenset[Pair]:
    found = objects(body, name, limit=MAX_REQUIRED)
    return frozenset((_part(each, "type"), _part(each, "state_key")) for each in found)


def _part(element: JsonObject, name: str) -> str:
    value = optional_text(element, name)
    return value if value is not None else ANY


def _of_pairs(required: Any) -> StateWish:
    if not isinstance(required, list) or len(required) > MAX_REQUIRED:
        raise bad_json(f"required_state must be an object, or a list of at most {MAX_REQUIRED}")
    pairs = frozenset(_pair(each) for each in required)
    lazy = frozenset(pair for pair in pairs if pair[1] == LAZY)
    return StateWish(include=pairs - lazy, lazy=(MEMBER_TYPE, LAZY) in lazy)


def _pair(value: Any) -> Pair:
    match value:
        case [str(kind), str(key)]:
            return kind, key
    raise bad_json("required_state holds pairs of an event type and a state key")
