"""Who is in a room, as answers sum it up: its heroes, how many there are, and the memberships that belong to
events (Client-Server API, Syncing: RoomSummary, and Lazy-loading room members).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.histories import MEMBER_TYPE
from linearized.store.base import EntryRow, MembershipRow, Store

MAX_HEROES: Final = 5  # "the first 5 members of the room"
_HERE: Final = frozenset({"join", "invite"})
_GONE: Final = frozenset({"leave", "ban"})


def heroes_of(members: Iterable[MembershipRow], user_id: str) -> list[str]:
    """The other users that a room without a name is known by.

    "This should be the first 5 members of the room, ordered by stream ordering, which are joined or invited.
    … When no joined or invited members are available, this should consist of the banned and left users."
    """
    others = sorted(
        (row for row in members if row.user_id != user_id), key=lambda row: (row.seq, row.user_id)
    )
    here = [row.user_id for row in others if row.membership in _HERE]
    return (here or [row.user_id for row in others if row.membership in _GONE])[:MAX_HEROES]


def summary(store: Store, room_id: str, user_id: str) -> JsonObject:
    """The ``summary`` of a joined room in ``/sync``."""
    members = store.memberships(room_id)
    kinds = [row.membership for row in members]
    return {
        "m.heroes": heroes_of(members, user_id),
        "m.joined_member_count": kinds.count("join"),
        "m.invited_member_count": kinds.count("invite"),
    }


def only_of(state: Iterable[EntryRow], users: Collection[str | None]) -> list[EntryRow]:
    """State without the memberships of others than ``users``."""
    return [entry for entry in state if entry.type != MEMBER_TYPE or entry.state_key in users]


def senders_of(store: Store, entries: Sequence[EntryRow]) -> list[EntryRow]:
    """The membership each sender of entries of one room had when it sent the latest of them, in log order."""
    latest: dict[str, EntryRow] = {}
    for entry in entries:
        if entry.sender not in latest or latest[entry.sender].seq < entry.seq:
            latest[entry.sender] = entry
    found = [
        store.state_entry(entry.room_id, MEMBER_TYPE, sender, seq=entry.seq)
        for sender, entry in latest.items()
    ]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.seq)
