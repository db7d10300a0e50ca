"""Which entries of a room a user may read.

"Servers MUST only return events the user could see" by the room's history visibility and the user's
membership when each event was sent (Client-Server API, Room History Visibility). The rules are
``linearized.protocol.visibility``'s, as for other servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from linearized.protocol.visibility import (
    ALWAYS_VISIBLE,
    END,
    Run,
    commit_runs,
    in_runs,
    known_until,
    visible_runs,
)
from linearized.server.histories import membership_changes, visibility_changes
from linearized.server.http import HttpError
from linearized.store.base import EntryRow, MembershipRow, Role, RoomRow, Store
from linearized.store.ways_in import READING

_PUBLIC: Final = {"shared", "world_readable"}  # to whoever is joined


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one user may read of one room.

    ``until`` is the last entry the user may know of (``END`` while joined): state and counts are told as of
    there. In ``commits`` the user may also read what is always visible to members.
    """

    room: RoomRow
    runs: tuple[Run, ...]
    until: int
    commits: tuple[Run, ...] = ()

    @property
    def head(self) -> int:
        """The last entry the user may know of that exists."""
        return min(self.until, self.room.head_seq)

    def sees(self, seq: int) -> bool:
        """Whether the user may read entry ``seq``."""
        return in_runs(self.runs, seq)

    def shows(self, entry: EntryRow) -> bool:
        """Whether the user may read an entry, by its place or as one that members always may."""
        return self.sees(entry.seq) or (entry.type in ALWAYS_VISIBLE and in_runs(self.commits, entry.seq))

    def before(self, store: Store, *, before: int, after: int, limit: int) -> list[EntryRow]:
        """At most ``limit`` visible entries with ``after < seq < before``, newest first."""
        found: list[EntryRow] = []
        for first, last in reversed(self.runs):
            start, stop = max(first - 1, after), min(before, last + 1)
            # Numbers have no gaps: what lies between bounds how much is read.
            wanted = min(limit - len(found), stop - 1 - start)
            if wanted > 0:
                page = store.entries_before(self.room.room_id, before=stop, limit=wanted)
                found.extend(entry for entry in page if entry.seq > start)
        return found

    def after(self, store: Store, *, after: int, before: int, limit: int) -> list[EntryRow]:
        """At most ``limit`` visible entries with ``after < seq < before``, oldest first."""
        found: list[EntryRow] = []
        for first, last in self.runs:
            start, stop = max(after, first - 1), min(before, last + 1)
            wanted = min(limit - len(found), stop - 1 - start)
            if wanted > 0:
                page = store.entries(self.room.room_id, after=start, limit=wanted)
                found.extend(entry for entry in page if entry.seq < stop)
        return found


def fitting(entries: Sequence[EntryRow], budget: int) -> list[EntryRow]:
    """As many of the first entries as fit into ``budget`` bytes, but at least one."""
    size = 0
    for index, entry in enumerate(entries):
        size += len(entry.pdu)
        if size > budget and index:
            return list(entries[:index])
    return list(entries)


class Views:
    """Works out views."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def membership_row(self, room_id: str, user_id: str) -> MembershipRow | None:
        """The user's current membership in the room, if they ever had one that they did not forget."""
        row = self._store.membership(room_id, user_id)
        return None if row is None or self.forgotten(row) else row

    def forgotten(self, row: MembershipRow) -> bool:
        """Whether a user has forgotten a room since they left it."""
        if row.membership not in {"leave", "ban"}:
            return False
        seq = self._store.forgotten(row.user_id, row.room_id)
        return seq is not None and seq >= row.seq

    def require(self, room_id: str, user_id: str, *, joined: bool = False) -> View:
        """What the user may read of the room; of a world-readable room, everybody.

        Args:
            joined: refuse users who are not joined now.

        Raises:
            HttpError: 403 ``M_FORBIDDEN``, whether or not the room exists and after asking the store the
                same, so that rooms cannot be probed for.
        """
        row = self.membership_row(room_id, user_id)
        if row is None and (joined or (READING, "") not in self._store.ways_in(room_id)):
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
        room = self._store.room(room_id)
        view = self.view(room, row) if room is not None and row is not None else None
        if view is None or view.until != END:
            open_view = self._open_view(room, row) if room is not None and not joined else None
            view = open_view or (None if joined else view)
        if view is None:
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
        return view

    def view(self, room: RoomRow, row: MembershipRow) -> View | None:
        """What a user with this membership may read as a member, or None if they never joined."""
        if room.role is Role.FOLLOWER:
            # The hub decides what it sends us, and sends it only while one of our users is in the group.
            until = END if row.membership == "join" else row.seq
            return View(room=room, runs=((1, until),), until=until)
        visibility = visibility_changes(self._store, room.room_id, room.head_seq)
        if row.membership == "join" and all(value in _PUBLIC for _, value in visibility):
            return View(room=room, runs=((1, END),), until=END)
        memberships = membership_changes(self._store, row)
        known = known_until(memberships)
        if known is None:
            return None
        runs = visible_runs(visibility, memberships)
        return View(
            room=room,
            runs=tuple((first, min(last, known)) for first, last in runs if first <= known),
            until=known,
            commits=commit_runs(memberships),
        )

    def _open_view(self, room: RoomRow, row: MembershipRow | None) -> View | None:
        """What somebody who is not in the room may read of it: nothing unless it is world-readable now."""
        if room.role is Role.FOLLOWER:
            return None
        visibility = visibility_changes(self._store, room.room_id, room.head_seq)
        if visibility[-1][1] != "world_readable":
            return None
        memberships = membership_changes(self._store, row) if row is not None else ()
        return View(
            room=room,
            runs=visible_runs(visibility, memberships),
            until=END,
            commits=commit_runs(memberships),
        )
