"""Who may see which events of a room, by history visibility and membership.

The draft leaves this to do ("Describe. (when can a server see an event?). Mention that m.mls.commit is
exempt", Calculating Event Visibility); these are Matrix's rules (Client-Server API, Room History Visibility).
Both the visibility and a membership change rarely, so what may be seen is a short list of runs of sequence
numbers: it is worked out once from the changes, and no event is looked at.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import StateMap

VISIBILITY: Final = ("m.room.history_visibility", "")

ALWAYS_VISIBLE: Final = frozenset({"m.mls.commit", "dev.linearized.mls.commit_part"})
"""Draft, Updating Group State: "a client *always* has access to m.mls.commit events, even when hidden by
history visibility"; the authors' notes: they "should be treated as shared history"."""

DEFAULT: Final = "shared"
"""Matrix: "By default if no history_visibility is set, or if the value is not understood, the visibility is
assumed to be shared"."""

_VALUES: Final = frozenset({"world_readable", "shared", "invited", "joined"})

END: Final = 2**53 - 1
"""The last sequence number of a run that has not ended."""

Change: TypeAlias = tuple[int, str]
"""A sequence number, and what holds from that entry on."""

Run: TypeAlias = tuple[int, int]
"""First and last sequence number of neighbouring entries, both included."""


def visibility_of(content: JsonObject) -> str:
    """Give the history visibility that an ``m.room.history_visibility`` content sets."""
    value = content.get("history_visibility")
    return value if isinstance(value, str) and value in _VALUES else DEFAULT


def is_world_readable(state: StateMap) -> bool:
    """Whether everybody may read what is said in a room now."""
    event = state.get(VISIBILITY)
    return event is not None and visibility_of(event.content) == "world_readable"


def visible_runs(visibility: Sequence[Change], memberships: Sequence[Change]) -> tuple[Run, ...]:
    """The runs of entries that a user may see.

    An entry that changes one of the two may be seen if either value allows it: "For m.room.history_visibility
    events themselves, the user should be allowed to see the event if the history_visibility before or after
    the event would allow them to see it. Likewise, for the user's own m.room.member events".

    Args:
        visibility: the changes of history visibility, ascending; before the first it is the default.
        memberships: the changes of the user's membership, ascending; before the first it is ``leave``.
    """
    joined_until = known_until(memberships) or 0
    points = sorted({0, *(seq for seq, _ in (*visibility, *memberships))})
    runs: list[Run] = []
    for index, point in enumerate(points):
        # The run up to and with the next change, which this value may show, too.
        last = points[index + 1] if index + 1 < len(points) else END
        value = value_at(visibility, point, DEFAULT)
        if _sees(value, value_at(memberships, point, "leave")):
            runs.append((max(point, 1), last))
        # "If history_visibility was set to shared, and the user joined the room at any point after the event
        # was sent, allow."
        elif value == "shared" and max(point, 1) <= joined_until:
            runs.append((max(point, 1), min(last, joined_until)))
    return merged(runs)


def commit_runs(memberships: Sequence[Change]) -> tuple[Run, ...]:
    """The runs in which a user may see what is ``ALWAYS_VISIBLE``: all there was up to their last leave."""
    until = known_until(memberships)
    return () if until is None else ((1, until),)


def known_until(memberships: Sequence[Change]) -> int | None:
    """The last entry a user knows of as a member: ``END`` while joined, else their last leave, None if they
    never were joined.
    """
    until: int | None = None
    for index, (_, membership) in enumerate(memberships):
        if membership == "join":
            until = memberships[index + 1][0] if index + 1 < len(memberships) else END
    return until


def merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs as few runs in ascending order: those that touch become one."""
    result: list[Run] = []
    for first, last in sorted(runs):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return tuple(result)


def in_runs(runs: Sequence[Run], seq: int) -> bool:
    """Whether an entry lies in one of ``merged`` runs."""
    index = bisect_right(runs, (seq, END)) - 1
    return index >= 0 and seq <= runs[index][1]


def value_at(changes: Sequence[Change], seq: int, default: str) -> str:
    """What holds after entry ``seq``."""
    index = bisect_right(changes, seq, key=lambda change: change[0]) - 1
    return changes[index][1] if index >= 0 else default


def _sees(visibility: str, membership: str) -> bool:
    # "If the history_visibility was set to world_readable, allow. If the user's membership was join, allow. …
    # If the user's membership was invite, and the history_visibility was set to invited, allow. Otherwise,
    # deny."
    return (
        visibility == "world_readable"
        or membership == "join"
        or (visibility == "invited" and membership == "invite")
    )
