"""How much a user has not read, and how much of that is meant for them (Client-Server API, Receiving
notifications).

"Notifications are determined by the push rules which apply to an event." Each entry is held against a user's
rules once, when the user's client is first told of counts behind it; which entries notified is kept in memory
until they are read. Nothing is worked out when something is sent, and a sync that finds one new entry looks
at that one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.protocol.push_rule_defaults import default_rules
from linearized.protocol.push_rules import Outcome, PushRules, compile_rules
from linearized.room.admission import COMMIT, COMMIT_PART, PROPOSAL
from linearized.server.clients.ignoring import ignored_by
from linearized.server.histories import MEMBER_TYPE, membership_of
from linearized.server.powers import may_notify
from linearized.server.redactions import counts, told_content
from linearized.server.soft_failures import shown
from linearized.store.account_data import GLOBAL
from linearized.store.base import EntryRow, Role, RoomRow, Store
from linearized.store.receipts import MAIN, UNTHREADED
from linearized.store.relations import THREAD, redacted_by, relation_of

PUSH_RULES: Final = "m.push_rules"
"""The account data that a user's rules are, once they were changed."""
# Entries looked at for what is unread: clients show no more than "99+".
MAX_UNREAD: Final = 200
# Entries read at once, so that large ones do not fill the memory: most rooms have fewer that are unread.
PAGE: Final = 50
# "Implementations are encouraged to do a maximum of 3 hops to find a thread."
MAX_HOPS: Final = 3
# Entries that notified, of all users together, at about 100 bytes each; what is used longest ago goes first
# and is worked out again when it is asked for.
MAX_KEPT: Final = 300_000
# What a room of a user takes if nothing in it is unread, in the same measure.
_ROOM_TAKES: Final = 5
# Users whose rules are kept ready for use: about 20 kilobytes each for the predefined ones.
MAX_RULESETS: Final = 2_000
# A group's handshakes are nothing that anybody says.
_HANDSHAKES: Final = frozenset({COMMIT, COMMIT_PART, PROPOSAL})


@dataclass(frozen=True, slots=True)
class Counts:
    """What is unread in a thread, or in all of a room."""

    notifications: int = 0
    highlights: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.notifications + other.notifications, self.highlights + other.highlights)

    def as_json(self) -> JsonObject:
        """As syncs of both kinds tell them."""
        return {"highlight_count": self.highlights, "notification_count": self.notifications}


@dataclass(slots=True, eq=False)
class _Kept:
    """What is known of a room for a user with these rules who ignores these people.

    Attributes:
        role: our part in the room; entries have other numbers once we have taken it over.
        seq: entries up to here were looked at.
        notified: of those that notified the number, the thread, and whether as a highlight.
        spoken: how far the user has read by speaking, by thread.
    """

    rules: PushRules
    ignored: frozenset[str]
    role: Role
    seq: int = 0
    notified: dict[int, tuple[str, bool]] = field(default_factory=dict)
    spoken: dict[str, int] = field(default_factory=dict)

    @property
    def takes(self) -> int:
        """In the measure of ``MAX_KEPT``."""
        return _ROOM_TAKES + len(self.notified) + len(self.spoken)


class Notifications:
    """What is kept of all users."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: OrderedDict[str, tuple[bytes | None, PushRules]] = OrderedDict()
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._taken = 0

    def of(self, user_id: str) -> UserNotifications:
        """What is unread to a user, with the rules as they are now."""
        return UserNotifications(self, self._store, user_id)

    def rules_of(self, user_id: str) -> PushRules:
        """A user's push rules, the same object as long as they are not changed."""
        stored = self._store.account_datum(user_id, GLOBAL, PUSH_RULES)
        known = self._rules.pop(user_id, None)
        if known is None or known[0] != stored:
            rules = orjson.loads(stored)["global"] if stored is not None else default_rules(user_id)
            known = (stored, compile_rules(rules))
        self._rules[user_id] = known
        if len(self._rules) > MAX_RULESETS:
            self._rules.popitem(last=False)
        return known[1]

    def take(self, user_id: str, room: RoomRow, rules: PushRules, ignored: frozenset[str]) -> _Kept:
        """What is known of a room; to be given back."""
        kept = self._kept.pop((user_id, room.room_id), None)
        if kept is not None:
            self._taken -= kept.takes
            if kept.rules is rules and (kept.ignored, kept.role) == (ignored, room.role):
                return kept
        return _Kept(rules, ignored, room.role)

    def give_back(self, user_id: str, room_id: str, kept: _Kept) -> None:
        """Keep it, and forget what is too much."""
        self._kept[user_id, room_id] = kept
        self._taken += kept.takes
        while self._taken > MAX_KEPT:
            self._taken -= self._kept.popitem(last=False)[1].takes


class UserNotifications:
    """What is unread to one user, for one answer: rules and ignored people are read once."""

    def __init__(self, kept: Notifications, store: Store, user_id: str) -> None:
        self._all = kept
        self._store = store
        self._user_id = user_id
        self._wishes: tuple[PushRules, frozenset[str]] | None = None

    def total(self, room: RoomRow) -> Counts:
        """All of a room that the user is joined to."""
        return sum(self.by_thread(room).values(), Counts())

    def by_thread(self, room: RoomRow) -> dict[str, Counts]:
        """The threads that have something unread, with what is in none under ``MAIN``."""
        if self._wishes is None:
            self._wishes = (self._all.rules_of(self._user_id), ignored_by(self._store, self._user_id))
        kept = self._all.take(self._user_id, room, *self._wishes)
        read = self._store.read_up_to(room.room_id, self._user_id)
        self._look(kept, room, read.get(UNTHREADED, 0))
        unread: dict[str, Counts] = {}
        for seq, (thread, highlight) in list(kept.notified.items()):
            places = (known.get(name, 0) for known in (read, kept.spoken) for name in (UNTHREADED, thread))
            if seq <= max(room.head_seq - MAX_UNREAD, *places):
                del kept.notified[seq]  # receipts never move back
            else:
                unread[thread] = unread.get(thread, Counts()) + Counts(1, int(highlight))
        self._all.give_back(self._user_id, room.room_id, kept)
        return unread

    def _look(self, kept: _Kept, room: RoomRow, read: int) -> None:
        """Look at entries that are new since the last time, the newest first."""
        after = max(kept.seq, read, room.head_seq - MAX_UNREAD)
        surroundings, redacted = _Surroundings(self._store, room, self._user_id), set[int]()
        for entry in _newest_first(self._store, room, after):
            thread = self._read_by(entry)
            if thread is not None:
                kept.spoken[thread] = max(entry.seq, kept.spoken.get(thread, 0))
                if thread == UNTHREADED:
                    break
            elif entry.sender == self._user_id:
                continue
            elif (target := redacted_by(entry.pdu)) is not None:
                redacted.update(self._taken_back(entry, target))
            elif entry.seq not in redacted:
                outcome = self._outcome(kept, entry, surroundings)
                if outcome is not None and outcome.notify:
                    kept.notified[entry.seq] = (self._thread_of(entry), outcome.highlight)
        for seq in redacted:
            kept.notified.pop(seq, None)
        kept.seq = max(kept.seq, room.head_seq)
        oldest = room.head_seq - MAX_UNREAD
        kept.spoken = {thread: seq for thread, seq in kept.spoken.items() if seq > oldest}

    def _read_by(self, entry: EntryRow) -> str | None:
        """What is read up to an entry by its being there: a thread, the room (``UNTHREADED``), or nothing.

        "When the user updates their read receipt (either by using the API or by sending an event),
        notifications prior to and including that event MUST be marked as read." What was said before a user
        came in is not unread either; that they are called otherwise now marks nothing.
        """
        if (entry.type, entry.state_key) == (MEMBER_TYPE, self._user_id):
            before = self._store.state_entry(entry.room_id, MEMBER_TYPE, self._user_id, seq=entry.seq - 1)
            stayed = membership_of(entry) == "join" and before is not None and membership_of(before) == "join"
            return None if stayed else UNTHREADED
        if entry.sender != self._user_id:
            return None
        relation = relation_of(entry.pdu)
        return relation[0] if relation is not None and relation[1] == THREAD else UNTHREADED

    def _outcome(self, kept: _Kept, entry: EntryRow, surroundings: _Surroundings) -> Outcome | None:
        if entry.type in _HANDSHAKES or (entry.sender in kept.ignored and entry.state_key is None):
            return None
        surroundings.entry = entry
        event = orjson.loads(entry.pdu) | {"event_id": entry.event_id, "room_id": entry.room_id}
        return kept.rules.outcome(event, surroundings)

    def _taken_back(self, redaction: EntryRow, event_id: str) -> Collection[int]:
        """The number of the entry that a redaction redacts, if it does."""
        target = self._store.entry_by_id(event_id)
        if target is None or target.room_id != redaction.room_id:
            return ()
        return (target.seq,) if counts(self._store, redaction, target) else ()

    def _thread_of(self, entry: EntryRow) -> str:
        """The thread that an entry is in, or that what it relates to is in."""
        found: EntryRow | None = entry
        for _ in range(MAX_HOPS):
            relation = relation_of(found.pdu) if found is not None else None
            if relation is None:
                return MAIN
            if relation[1] == THREAD:
                return relation[0]
            found = self._store.entry_by_id(relation[0])
            if found is not None and found.room_id != entry.room_id:
                return MAIN
        return MAIN


class _Surroundings:
    """What conditions of push rules look at in a room, read when they do."""

    def __init__(self, store: Store, room: RoomRow, user_id: str) -> None:
        self._store = store
        self._room = room
        self._user_id = user_id
        self._members = (0, 0)  # how far was counted, and how many there were
        self._name: tuple[str | None] | None = None
        self.entry: EntryRow | None = None

    def joined_members(self, at_most: int) -> int:
        """How many are joined now; the next count goes at least twice as far, so that there are few."""
        limit, found = self._members
        if found == limit < at_most:
            limit = max(at_most, 2 * limit)
            found = self._store.joined_count(self._room.room_id, at_most=limit)
            self._members = (limit, found)
        return min(found, at_most)

    def display_name(self) -> str | None:
        """The user's, as the room has it now."""
        if self._name is None:
            entry = self._store.state_entry(
                self._room.room_id, MEMBER_TYPE, self._user_id, seq=self._room.head_seq
            )
            name = told_content(self._store, entry).get("displayname") if entry is not None else None
            self._name = (name if isinstance(name, str) else None,)
        return self._name[0]

    def sender_may_notify(self, kind: str) -> bool:
        """Whether the entry's sender had the power to when it was sent."""
        entry = self.entry
        return entry is not None and may_notify(self._store, entry.room_id, entry.sender, kind, seq=entry.seq)


def _newest_first(store: Store, room: RoomRow, after: int) -> Iterator[EntryRow]:
    """A room's entries behind ``after`` that clients are shown."""
    before = room.head_seq + 1
    while before - 1 > after:
        page = store.entries_before(room.room_id, before=before, limit=min(PAGE, before - 1 - after))
        if not page:
            return
        yield from shown(store, page)
        before = page[-1].seq


def thread_counts(unread: Iterable[tuple[str, Counts]]) -> JsonObject:
    """Of the threads but the main timeline, as ``/sync`` tells them to who asks for them."""
    return {thread: counts.as_json() for thread, counts in unread if thread != MAIN}
