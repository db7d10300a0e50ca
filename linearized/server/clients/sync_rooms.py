"""One room's part of a sync answer: joined, invited, knocked on or left, with timeline and state."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.filters import Filter
from linearized.server.clients.ignoring import is_unwanted
from linearized.server.clients.notifications import Counts, UserNotifications, thread_counts
from linearized.server.clients.projection import client_events, state_events, stripped_state
from linearized.server.clients.room_members import only_of, summary
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import View, fitting
from linearized.server.clients.window import RoomWindow
from linearized.server.histories import MEMBER_TYPE, history_of, membership_of
from linearized.server.invited import INVITE_STATE, KNOCK_STATE
from linearized.store.base import EntryRow, MembershipRow, Role, RoomRow, Store
from linearized.store.receipts import MAIN


class Section(Enum):
    """Where a room goes in the answer."""

    JOIN = "join"
    INVITE = "invite"
    KNOCK = "knock"
    LEAVE = "leave"
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a client wants of each room.

    Attributes:
        initial: it knows nothing of the room yet.
        full_state: it wants all state of joined rooms again.
        budget: bytes of timeline a room may take; one entry always fits.
        state_after: under which name it wants state as of the timeline's end; None for ``state``, as of its
            start.
    """

    context: Context
    caller: Caller
    unread: UserNotifications
    initial: bool
    full_state: bool
    wanted: Filter
    budget: int
    state_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One room's part of the answer.

    Attributes:
        met: users that came to be joined together with this one.
        parted: users that ceased to be.
        arrived: whether a joined room is told of for the first time, or again after an absence.
    """

    section: Section
    value: JsonObject
    met: frozenset[str] = frozenset()
    parted: frozenset[str] = frozenset()
    arrived: bool = False


_NOTHING: Final = Told(section=Section.NONE, value={})


def room_section(question: Question, window: RoomWindow) -> Told:
    """What to tell a user about one changed room."""
    store = question.context.node.store
    room = store.room(window.row.room_id)
    assert room is not None  # noqa: S101 - the window holds rooms the store has, and rooms are never deleted
    row = _membership_at(store, room, window)
    part = _Part(question=question, store=store, room=room, row=row, window=window)
    match row.membership:
        case "join":
            return part.joined()
        case "invite" if part.changed:
            return part.invited()
        case "knock" if part.changed:
            return part.knocking()
        case "leave" | "ban" if part.changed and (not question.initial or _wants_left(question, row)):
            return part.left()
        case _:
            return _NOTHING


def _wants_left(question: Question, row: MembershipRow) -> bool:
    """Whether a client that knows of no room yet is told of one that its user has left."""
    return question.wanted.include_leave and not question.context.views.forgotten(row)


def quiet_section(question: Question, room: RoomRow) -> JsonObject:
    """A joined room's part of the answer when nothing in the room is new."""
    return {
        "timeline": {"events": [], "limited": False, "prev_batch": place_token(room.head_seq)},
        "state": {"events": []},
        "ephemeral": {"events": []},
        "account_data": {"events": []},
        **_unread(question, room),
    }


def _unread(question: Question, room: RoomRow) -> JsonObject:
    """How much is unread: all of it in one count, unless the client asks for each thread's."""
    if not question.wanted.timeline.unread_threads:
        return {"unread_notifications": question.unread.total(room).as_json()}
    found = question.unread.by_thread(room)
    return {
        "unread_notifications": found.get(MAIN, Counts()).as_json(),
        "unread_thread_notifications": thread_counts(found.items()),
    }


def _unbroken(newest_first: list[EntryRow]) -> list[EntryRow]:
    """The first entries, as far as each is followed by the one before it in the log."""
    for index, (entry, older) in enumerate(pairwise(newest_first), 1):
        if older.seq != entry.seq - 1:
            return newest_first[:index]
    return newest_first


def _without_entries(room: RoomRow) -> bool:
    """Whether memberships of this room are set without entries: there is no log, or no state in it."""
    return room.role is Role.FOLLOWER or room.head_seq == 0


def _membership_at(store: Store, room: RoomRow, window: RoomWindow) -> MembershipRow:
    """The user's membership where the window ends; the stored row may be newer."""
    row = window.row
    if row.seq <= window.last or _without_entries(room):
        return row
    entry = store.state_entry(room.room_id, MEMBER_TYPE, row.user_id, seq=window.last)
    return MembershipRow(
        room_id=row.room_id,
        user_id=row.user_id,
        membership=membership_of(entry) if entry is not None else "leave",
        seq=entry.seq if entry is not None else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One room while its part of the answer is put together."""

    question: Question
    store: Store
    room: RoomRow
    row: MembershipRow
    window: RoomWindow

    @property
    def changed(self) -> bool:
        """Whether the user's membership is news."""
        first = self.window.first - 1 if _without_entries(self.room) else self.window.first
        return self.question.initial or self.row.seq >= first

    def joined(self) -> Told:
        """New entries; for a newcomer the latest ones, and all state before them."""
        view = self.question.context.views.view(self.room, self.row)
        assert view is not None  # noqa: S101 - whoever is joined has a view
        arrived = self.question.initial or (self.changed and not self._was_joined())
        # Somebody who was here before has had entries of that time; to anybody else the latest ones are new.
        fresh = self.question.initial or (
            arrived and self.room.role is not Role.FOLLOWER and not self._ever_joined()
        )
        after = 0 if fresh else self.window.first - 1
        timeline, more = self._timeline(view, after=after, last=self.window.last)
        start = timeline[0].seq if timeline else self.window.last + 1
        state: list[EntryRow] = []
        if arrived or self.question.full_state:
            # Of a large room memberships are nearly all. Those needed are looked up one by one below.
            lazily = self.question.initial and self.question.wanted.state.lazy_members
            state = self.store.state_at(self.room.room_id, seq=start - 1, members=not lazily)
        elif more:
            state = self._state_since(self.window.first, start)
        if not (timeline or state or more or arrived or self.question.full_state):
            return _NOTHING
        members = [entry for entry in (*state, *timeline) if entry.type == MEMBER_TYPE]
        brief: JsonObject = {}
        if arrived or members:
            brief = {"summary": summary(self.store, self.room.room_id, self.row.user_id)}
        heroes = brief["summary"]["m.heroes"] if brief else []
        limited = more or (arrived and not fresh)
        quiet = quiet_section(self.question, self.room)
        del quiet["state"]
        value = quiet | self._section(timeline, state, start, limited=limited, shown=heroes) | brief
        # The latest of each user; to a newcomer all who are there are new.
        changed = {
            entry.state_key or "": membership_of(entry)
            for entry in members
            if arrived or entry.seq >= self.window.first
        }
        return Told(
            section=Section.JOIN,
            value=value,
            met=self._others(changed, "join"),
            parted=self._others(changed, "leave", "ban"),
            arrived=arrived,
        )

    def left(self) -> Told:
        """Up to the entry that ended it; of a room never joined only that entry, which is about the user."""
        view = self.question.context.views.view(self.room, self.row)
        more = False
        if view is not None and (self.question.initial or view.until >= self.window.first):
            after = 0 if self.question.initial else self.window.first - 1
            timeline, more = self._timeline(view, after=after, last=min(view.until, self.window.last))
        elif self.question.initial:
            return _NOTHING
        else:
            ended = self.store.entries(self.room.room_id, after=self.row.seq - 1, limit=1)
            timeline = [entry for entry in ended if entry.state_key == self.row.user_id]
        start = timeline[0].seq if timeline else self.row.seq + 1
        state: list[EntryRow] = []
        if more:
            state = self._state_since(0 if self.question.initial else self.window.first, start)
        value = {
            **self._section(timeline, state, start, limited=more),
            "account_data": {"events": []},
        }
        there: dict[str, str] = {}
        if not self.question.initial and self._was_joined():
            there = {member.user_id: member.membership for member in self.store.memberships(self.row.room_id)}
        return Told(section=Section.LEAVE, value=value, parted=self._others(there, "join"))

    def invited(self) -> Told:
        """The room's face, from our copy of it or as the inviting server described it. "Servers must not send
        room invites from ignored users to clients".
        """
        face = self._face(INVITE_STATE)
        if is_unwanted(self.store, face, self.row.user_id):
            return _NOTHING
        return Told(section=Section.INVITE, value={"invite_state": {"events": face}})

    def knocking(self) -> Told:
        """The room's face, from our copy of it or as its hub described it."""
        return Told(section=Section.KNOCK, value={"knock_state": {"events": self._face(KNOCK_STATE)}})

    def _face(self, described_in: str) -> list[JsonObject]:
        """Stripped state; without a copy of the room what was remembered in the scope ``described_in``."""
        state = self.store.state_at(self.room.room_id, seq=self.window.last)
        if state:
            return stripped_state(self.store, state, user_id=self.row.user_id)
        described = self.store.reply(described_in, f"{self.room.room_id} {self.row.user_id}")
        events: list[JsonObject] = orjson.loads(described) if described is not None else []
        return events

    def _others(self, members: Mapping[str, str], *memberships: str) -> frozenset[str]:
        """The other users among ``members`` with one of the memberships."""
        return frozenset(
            user_id
            for user_id, membership in members.items()
            if membership in memberships and user_id != self.row.user_id
        )

    def _timeline(self, view: View, *, after: int, last: int) -> tuple[list[EntryRow], bool]:
        """The last visible entries in (``after``, ``last``] that fit, oldest first; whether there are
        more.

        They end where there is something between them that the user may not see: of the state in it they
        would learn nothing.
        """
        limit = self.question.wanted.timeline.limit
        newest_first = view.before(self.store, before=last + 1, after=after, limit=limit + 1)
        page = _unbroken(fitting(newest_first[:limit], self.question.budget))
        return page[::-1], len(newest_first) > len(page)

    def _section(
        self,
        timeline: Sequence[EntryRow],
        state: Sequence[EntryRow],
        start: int,
        *,
        limited: bool,
        shown: Sequence[str] = (),
    ) -> JsonObject:
        """Timeline and state as the filter wants them.

        Args:
            state: as of the timeline's start, all of it or what is new.
            shown: users whose memberships are needed beside those of the senders.
        """
        question = self.question
        wanted, caller = question.wanted, question.caller
        told = [entry for entry in timeline if wanted.timeline.allows(entry)]
        latest = {(entry.type, entry.state_key): entry for entry in timeline if entry.state_key is not None}
        place = start  # behind the entries whose state is told
        if question.state_after is not None:
            place = timeline[-1].seq + 1 if timeline else start
            by_key = {(entry.type, entry.state_key): entry for entry in state} | latest
            kept = sorted(by_key.values(), key=lambda entry: entry.seq)
        else:
            # What the filter leaves out of the timeline is state of the room all the same.
            kept = [*state, *(entry for entry in latest.values() if not wanted.timeline.allows(entry))]
        if wanted.state.lazy_members:
            kept = self._lazily(kept, place, {*(entry.sender for entry in told), *shown})
        context = question.context
        return {
            "timeline": {
                "events": client_events(context, caller, told),
                "limited": limited,
                "prev_batch": place_token(start - 1),
            },
            question.state_after or "state": {
                "events": state_events(context, caller, [each for each in kept if wanted.state.allows(each)])
            },
        }

    def _lazily(self, state: Sequence[EntryRow], place: int, users: Collection[str]) -> list[EntryRow]:
        """State with the memberships of ``users``, as they were before entry ``place``, and those that
        changed since the last sync: of those who speak they come whether the client knows them or not, since
        nobody remembers what it was told.
        """
        changed = (
            [] if self.question.initial else [entry for entry in state if entry.seq >= self.window.first]
        )
        own = {self.row.user_id}
        kept = {entry.event_id: entry for entry in only_of(state, {*users, *own})}
        kept |= {entry.event_id: entry for entry in changed}
        for user_id in {*users, *own} if self.question.initial else users:
            entry = self.store.state_entry(self.room.room_id, MEMBER_TYPE, user_id, seq=place - 1)
            if entry is not None:
                kept[entry.event_id] = entry
        return sorted(kept.values(), key=lambda entry: entry.seq)

    def _state_since(self, first: int, start: int) -> list[EntryRow]:
        """State that changed between ``first`` and the timeline's start."""
        state = self.store.state_at(self.room.room_id, seq=start - 1)
        return [entry for entry in state if entry.seq >= first]

    def _was_joined(self) -> bool:
        """Whether the user was joined when the window began."""
        if self.room.role is Role.FOLLOWER:
            return False  # its memberships are set without entries, each time a user arrives
        before = self.window.first - 1
        entry = self.store.state_entry(self.room.room_id, MEMBER_TYPE, self.row.user_id, seq=before)
        return entry is not None and membership_of(entry) == "join"

    def _ever_joined(self) -> bool:
        """Whether the user had been joined at any time before the window."""
        before = self.window.first - 1
        entries = history_of(self.store, self.room.room_id, MEMBER_TYPE, self.row.user_id, before)
        return any(membership_of(entry) == "join" for entry in entries)
