"""By what somebody who is not in a room may know of it, as its state says now.

It is kept beside the rooms so that one look-up answers for a room that is not to be known of as for one that
is not there: neither has any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, Protocol

READING: Final = "read"
"""Everybody may read it (``world_readable``)."""
ASKING: Final = "ask"
"""Everybody may join it, or knock."""
MEMBERSHIP: Final = "member"
"""Whoever is joined to another room may join it, or knock."""
STATE: Final = {"m.room.history_visibility": (READING,), "m.room.join_rules": (ASKING, MEMBERSHIP)}
"""The ways that each of these state events decides about."""
# Rooms in which membership lets one in, looked at for one room: lists of more than a few are unheard of.
MAX_ALLOWED: Final = 50

_OPEN: Final = frozenset({"public", "knock", "knock_restricted"})

Way = tuple[str, str]
"""One of the above, and for ``MEMBERSHIP`` the other room."""


def ways_of(event_type: str, pdu: bytes) -> Iterator[Way]:
    """The ways that a state event of one of the types opens; none if it says nothing that is understood."""
    try:
        content = json.loads(pdu)["content"]
        visibility, rule, allowed = (
            content.get(name) for name in ("history_visibility", "join_rule", "allow")
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return
    if event_type == "m.room.history_visibility" and visibility == "world_readable":
        yield READING, ""
    if event_type != "m.room.join_rules":
        return
    if isinstance(rule, str) and rule in _OPEN:
        yield ASKING, ""
    if rule == "restricted" and isinstance(allowed, list):
        rooms = [each.get("room_id") for each in allowed[:MAX_ALLOWED] if isinstance(each, dict)]
        yield from ((MEMBERSHIP, room) for room in dict.fromkeys(rooms) if isinstance(room, str))


class WayStore(Protocol):
    """The part of ``Store`` for these."""

    def ways_in(self, room_id: str) -> frozenset[Way]:
        """The ways into a room; none if there is no such room."""
        ...
