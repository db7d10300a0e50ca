"""The next entries of rooms, read and encoded once for all streams that tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from linearized.server.clients.views import fitting
from linearized.server.notifier import Notifier
from linearized.store.base import EntryRow, RoomRow, Store

# Entries and bytes of PDUs in one page, the most that a stream holds at a time; the largest entry alone may
# be more.
MAX_ENTRIES: Final = 100
MAX_PAGE_BYTES: Final = 256 * 1024
# Pages kept at a time: the last of each room that something was said in just now, and of a few streams that
# catch up.
MAX_PAGES: Final = 64
_MEMBER: Final = "m.room.member"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some entries of a room, as server-sent events; ``is_all`` if there are none behind them. ``users`` are
    those whose memberships they set.
    """

    room: RoomRow
    entries: tuple[EntryRow, ...]
    is_all: bool
    events: bytes
    users: frozenset[str | None]


def page_of(found: Sequence[EntryRow]) -> tuple[tuple[EntryRow, ...], bool]:
    """As many of the first entries as a page holds, and whether there are no more, of which at most
    ``MAX_ENTRIES`` were asked for.
    """
    entries = tuple(fitting(found, MAX_PAGE_BYTES))
    return entries, len(entries) == len(found) < MAX_ENTRIES


def as_events(entries: tuple[EntryRow, ...]) -> bytes:
    """The entries as server-sent events (WHATWG HTML, section 9.2)."""
    return b"".join([b"id: %d\ndata: %b\n\n" % (entry.seq, entry.pdu) for entry in entries])


class Pages:
    """Pages that were read since the notifier last woke somebody.

    One that is not the newest does no harm: who reads holds a ticket by then, and whoever appended what is
    not in it has yet to wake them.
    """

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier
        self._changes = notifier.changes
        self._kept: dict[tuple[str, int], Page] = {}

    def after(self, room_id: str, seq: int) -> Page | None:
        """The entries of a room behind number ``seq``; None if there is no such room."""
        if self._changes != self._notifier.changes or len(self._kept) >= MAX_PAGES:
            self._kept.clear()
            self._changes = self._notifier.changes
        key = room_id, seq
        page = self._kept.get(key)
        if page is None:
            page = self._read(room_id, seq)
            if page is not None:
                self._kept[key] = page
        return page

    def _read(self, room_id: str, seq: int) -> Page | None:
        room = self._store.room(room_id)
        if room is None:
            return None
        found = self._store.entries(room_id, after=seq, limit=MAX_ENTRIES) if seq < room.head_seq else []
        entries, is_all = page_of(found)
        return Page(
            room=room,
            entries=entries,
            is_all=is_all,
            events=as_events(entries),
            users=frozenset(entry.state_key for entry in entries if entry.type == _MEMBER),
        )
