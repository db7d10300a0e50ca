"""Which entries of a room a user may read.

"Servers MUST only return events the user could see" by the room's history visibility and the user's
membership when each event was sent (Client-Server API, Room History Visibility). Both change rarely, so a
view is a short list of runs of sequence numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from linearized.server.http import HttpError
from linearized.store.base import EntryRow, MembershipRow, Role, RoomRow, Store

END: Final = 2**53 - 1  # the last sequence number of a run that has not ended
# Changes looked back for; what lies before more changes than this is treated as not visible.
MAX_CHANGES: Final = 200
# Rooms whose visibility changes are remembered; each is a few numbers.
MAX_ROOMS: Final = 10_000
# Entries looked at per read while catching up with a room's visibility.
_PAGE: Final = 500
# A room that grew by more than this since its visibility was last looked at is looked up anew, by its state.
_MAX_CATCH_UP: Final = 5_000

_PUBLIC: Final = {"shared", "world_readable"}
_DEFAULT_VISIBILITY: Final = "shared"  # "If no history_visibility event exists, shared"
VISIBILITY_TYPE: Final = "m.room.history_visibility"
MEMBER_TYPE: Final = "m.room.member"

Change = tuple[int, str]  # (seq, what holds from that entry on)
Run = tuple[int, int]  # first and last seq, both included


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one user may read of one room.

    ``until`` is the last entry the user may know of (``END`` while joined): state and counts are told as of
    there.
    """

    room: RoomRow
    runs: tuple[Run, ...]
    until: int

    @property
    def head(self) -> int:
        """The last entry the user may know of that exists."""
        return min(self.until, self.room.head_seq)

    def sees(self, seq: int) -> bool:
        """Whether the user may read entry ``seq``."""
        return any(first <= seq <= last for first, last in self.runs)

    def before(self, store: Store, *, before: int, after: int, limit: int) -> list[EntryRow]:
        """At most ``limit`` visible entries with ``after < seq < before``, newest first."""
        found: list[EntryRow] = []
        for first, last in reversed(self.runs):
            stop = min(before, last + 1)
            if len(found) == limit or stop <= first:
                continue
            page = store.entries_before(self.room.room_id, before=stop, limit=limit - len(found))
            found.extend(entry for entry in page if entry.seq >= first and entry.seq > after)
        return found

    def after(self, store: Store, *, after: int, before: int, limit: int) -> list[EntryRow]:
        """At most ``limit`` visible entries with ``after < seq < before``, oldest first."""
        found: list[EntryRow] = []
        for first, last in self.runs:
            start = max(after, first - 1)
            if len(found) == limit or last <= start:
                continue
            page = store.entries(self.room.room_id, after=start, limit=limit - len(found))
            found.extend(entry for entry in page if entry.seq <= last and entry.seq < before)
        return found


def fitting(entries: Sequence[EntryRow], budget: int) -> list[EntryRow]:
    """As many of the first entries as fit into ``budget`` bytes, but at least one."""
    size = 0
    for index, entry in enumerate(entries):
        size += len(entry.pdu)
        if size > budget and index:
            return list(entries[:index])
    return list(entries)


def history_of(store: Store, room_id: str, event_type: str, state_key: str, seq: int) -> Iterator[EntryRow]:
    """What was in force after entry ``seq``, then before that, and so on; at most ``MAX_CHANGES`` entries."""
    for _ in range(MAX_CHANGES):
        entry = store.state_entry(room_id, event_type, state_key, seq=seq)
        if entry is None:
            return
        yield entry
        seq = entry.seq - 1


def _content_of(entry: EntryRow, key: str, default: str) -> str:
    value = orjson.loads(entry.pdu)["content"].get(key)
    return value if isinstance(value, str) else default


def membership_of(entry: EntryRow) -> str:
    """The membership an ``m.room.member`` entry sets."""
    return _content_of(entry, "membership", "leave")


class Views:
    """Works out views; remembers each room's visibility changes and reads on from where it left off."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._visibility: OrderedDict[str, tuple[int, tuple[Change, ...]]] = OrderedDict()

    def forget(self, room_id: str) -> None:
        """Drop what is remembered of a room: its sequence numbers have changed."""
        self._visibility.pop(room_id, None)

    def membership_row(self, room_id: str, user_id: str) -> MembershipRow | None:
        """The user's current membership in the room, if they ever had one."""
        return next((row for row in self._store.rooms_of(user_id) if row.room_id == room_id), None)

    def require(self, room_id: str, user_id: str, *, joined: bool = False) -> View:
        """What the user may read of the room.

        Args:
            joined: refuse users who have left, too.

        Raises:
            HttpError: 403 ``M_FORBIDDEN``, whether or not the room exists, so that rooms cannot be probed
                for.
        """
        room = self._store.room(room_id)
        row = self.membership_row(room_id, user_id)
        view = self.view(room, row) if room is not None and row is not None else None
        if view is None or (joined and view.until != END):
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
        return view

    def view(self, room: RoomRow, row: MembershipRow) -> View | None:
        """What a user with this membership may read, or None if they never joined."""
        if room.role is Role.FOLLOWER:
            # The hub decides what it sends us, and sends it only while one of our users is in the group.
            until = END if row.membership == "join" else row.seq
            return View(room=room, runs=((1, until),), until=until)
        changes = [(row.seq, row.membership)] if row.membership == "join" else self._member_history(row)
        last = _last_known(changes)
        if last is None:
            return None
        visibility = self._visibility_of(room)
        if all(value in _PUBLIC for _, value in visibility):
            return View(room=room, runs=((1, last),), until=last)
        if row.membership == "join":
            changes = self._member_history(row)
        return View(room=room, runs=tuple(_runs(visibility, changes, last)), until=last)

    def _member_history(self, row: MembershipRow) -> list[Change]:
        entries = history_of(self._store, row.room_id, MEMBER_TYPE, row.user_id, row.seq)
        changes = [(entry.seq, membership_of(entry)) for entry in entries]
        # A membership without an event (an invitation from another server) is known by its row only.
        return changes[::-1] or [(row.seq, row.membership)]

    def _visibility_of(self, room: RoomRow) -> tuple[Change, ...]:
        """The room's visibility changes, ascending, starting with the default."""
        seen, changes = self._visibility.get(room.room_id, (0, ()))
        if not seen or room.head_seq - seen > _MAX_CATCH_UP:
            seen = room.head_seq
            found = history_of(self._store, room.room_id, VISIBILITY_TYPE, "", room.head_seq)
            listed = [
                (entry.seq, _content_of(entry, "history_visibility", _DEFAULT_VISIBILITY)) for entry in found
            ]
            oldest = _DEFAULT_VISIBILITY if len(listed) < MAX_CHANGES else "joined"
            changes = ((0, oldest), *listed[::-1])
        while seen < room.head_seq:
            page = self._store.entries(room.room_id, after=seen, limit=min(_PAGE, room.head_seq - seen))
            for entry in page:
                if entry.type == VISIBILITY_TYPE and entry.state_key == "":
                    value = _content_of(entry, "history_visibility", _DEFAULT_VISIBILITY)
                    changes = (*changes, (entry.seq, value))
            seen = page[-1].seq
        self._visibility[room.room_id] = (max(seen, room.head_seq), changes)
        self._visibility.move_to_end(room.room_id)
        while len(self._visibility) > MAX_ROOMS:
            self._visibility.popitem(last=False)
        return changes


def _last_known(changes: list[Change]) -> int | None:
    """The last entry a user may know of: ``END`` while joined, else where they last left, None if never
    joined.
    """
    if changes[-1][1] == "join":
        return END
    for (_, before), (seq, _) in zip(reversed(changes[:-1]), reversed(changes), strict=False):
        if before == "join":
            return seq
    return None


def _runs(visibility: tuple[Change, ...], memberships: list[Change], until: int) -> Iterator[Run]:
    """The runs of entries one may read. An entry that changes one of the two may be read by either value."""
    points = sorted({seq for seq, _ in (*visibility, *memberships)} | {0})
    start: int | None = None
    for point in points:
        readable = _readable(_at(visibility, point, _DEFAULT_VISIBILITY), _at(memberships, point, "leave"))
        if readable and start is None:
            start = max(point, 1)
        elif not readable and start is not None:
            if start <= until:
                yield start, min(point, until)
            start = None
    if start is not None and start <= until:
        yield start, until


def _at(changes: tuple[Change, ...] | list[Change], seq: int, default: str) -> str:
    return next((value for start, value in reversed(changes) if start <= seq), default)


def _readable(visibility: str, membership: str) -> bool:
    if visibility in _PUBLIC or membership == "join":
        return True
    return visibility == "invited" and membership == "invite"
