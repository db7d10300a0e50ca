"""Walks a room's log in a store and checks all of it: format, hashes, signatures, links, authorisation, MLS.

What ``linearized room verify`` does. It trusts nothing that the server computed: event IDs, state,
authorisation events and the group are derived again from the first entry on, the group by staging each commit
on a public group that starts from the initial state the first commit carries. It writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from linearized.exceptions import InvalidInput, LinearizedError
from linearized.mls import Mls
from linearized.protocol.authorization import authorize, select_auth_events
from linearized.protocol.canonical import parse_json_object
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.state import StateMap
from linearized.protocol.verify import verify_event
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.admission import COMMIT, ENCRYPTED, admit, encryption_algorithm
from linearized.room_check_group import GroupWalk
from linearized.store.base import EntryRow, GroupRow, Role, RoomRow, Store

# Rows read at a time: large enough to forget the cost of a query, small enough to hold 64 KiB events.
PAGE = 200

KeyLookup = Callable[[str, str], bytes | None]
Progress = Callable[[int, int], None]


class BrokenLog(LinearizedError):  # noqa: N818 - says what was found
    """The first thing in a log that is not as it must be.

    Attributes:
        seq: the entry's sequence number (0: the room as a whole).
        event_id: its event ID as stored.
        reason: what is wrong with it.
    """

    def __init__(self, seq: int, event_id: str | None, reason: str) -> None:
        super().__init__(f"entry {seq} {event_id or ''}: {reason}")
        self.seq = seq
        self.event_id = event_id
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class RoomReport:
    """What was checked, counted."""

    room_id: str
    version: str
    hub: str
    entries: int = 0
    signatures: int = 0
    imported: int = 0
    vouched: int = 0  # signed by the hub alone for a user of another provider
    commits: int = 0
    ciphertexts: int = 0
    epoch: int | None = None
    leaves: int = 0
    types: Counter[str] = field(default_factory=Counter)


def check_room(
    store: Store, room_id: str, *, keys: KeyLookup, mls: Mls, progress: Progress = lambda done, total: None
) -> RoomReport:
    """Check a room's whole log.

    Args:
        keys: verify key (32 bytes) by server name and key ID.
        progress: called with entries done and the log's length.

    Raises:
        InvalidInput: there is no such room here, or we only follow it and hold no signed log.
        BrokenLog: the first entry that fails, and how.
    """
    room = store.room(room_id)
    if room is None:
        raise InvalidInput(f"there is no room {room_id} in this database")
    if room.role is Role.FOLLOWER:
        raise InvalidInput(f"{room_id} is followed over MIMI; its signed log is at its hub, {room.hub}")
    walk = LogWalk(room, keys, mls)
    for row in _entries(store, room):
        walk.step(row)
        if walk.report.entries % PAGE == 0:
            progress(walk.report.entries, room.head_seq)
    progress(walk.report.entries, room.head_seq)
    walk.finish(store)
    return walk.report


def _entries(store: Store, room: RoomRow) -> Iterator[EntryRow]:
    # Up to the head as it was when we began: a server may be appending meanwhile.
    after = 0
    while after < room.head_seq:
        page = store.entries(room.room_id, after=after, limit=min(PAGE, room.head_seq - after))
        if not page:
            return
        yield from page
        after = page[-1].seq


class LogWalk:
    """A room as derived from its log so far; ``step`` takes the next entry.

    Args:
        room: whose ID and version the entries must have; ``head_seq`` does not matter.
        keys: verify key (32 bytes) by server name and key ID.
    """

    def __init__(self, room: RoomRow, keys: KeyLookup, mls: Mls) -> None:
        self._room = room
        self._version: RoomVersion = get_version(room.version)
        self._keys = keys
        self._state: dict[tuple[str, str], Event] = {}
        self._previous: str | None = None
        self._seen: set[str] = set()
        self._group = GroupWalk(room.room_id, mls)
        self.report = RoomReport(room_id=room.room_id, version=room.version, hub=room.hub)

    @property
    def state(self) -> StateMap:
        """The room's state after the entries so far."""
        return self._state

    @property
    def head(self) -> str | None:
        """Event ID of the last entry."""
        return self._previous

    @property
    def epoch(self) -> int | None:
        """The MLS group's epoch after the entries so far."""
        return self._group.epoch

    def group(self) -> GroupRow | None:
        """The group the log's commits led to, as a hub keeps it; None before the first."""
        return self._group.row()

    def step(self, row: EntryRow) -> None:
        """Check the next entry; raises BrokenLog."""
        try:
            self._check(row)
        except BrokenLog:
            raise
        except InvalidInput as error:
            raise BrokenLog(row.seq, row.event_id, str(error)) from error

    def _check(self, row: EntryRow) -> None:
        expected = self.report.entries + 1
        if row.seq != expected:
            raise InvalidInput(f"sequence number {expected} is missing")
        event = self._parse(row)
        if event.prev_events != ((self._previous,) if self._previous else ()):
            raise InvalidInput("prev_events is not the entry before")
        self._check_signatures(event)
        self._check_authorisation(event)
        self._group.step(event, row.epoch, self._state)
        self._count(event)
        if event.state_key is not None:
            self._state[event.type, event.state_key] = event
        self._seen.add(event.event_id)
        self._previous = event.event_id

    def _parse(self, row: EntryRow) -> Event:
        event = parse_pdu(parse_json_object(row.pdu), self._version)
        if event.raw != row.pdu:
            raise InvalidInput("the stored bytes are not canonical JSON")
        if event.event_id != row.event_id:
            raise InvalidInput(f"the event's reference hash gives {event.event_id}")
        if event.room_id != self._room.room_id:
            raise InvalidInput(f"the event is of {event.room_id}")
        columns = (row.type, row.state_key, row.sender, row.origin_server_ts)
        if columns != (event.type, event.state_key, event.sender, event.origin_server_ts):
            raise InvalidInput("the database's columns do not say what the event says")
        return event

    def _check_signatures(self, event: Event) -> None:
        checked = verify_event(event, version=self._version, keys=self._keys)
        if checked.redacted:
            raise InvalidInput("the content hash does not match the content")

    def _check_authorisation(self, event: Event) -> None:
        selected = select_auth_events(
            type=event.type,
            state_key=event.state_key,
            sender=event.sender,
            content=event.content,
            state=self._state,
            version=self._version,
        )
        if set(event.auth_events) != set(selected):
            raise InvalidInput("auth_events are not those the rules select")
        if not self._seen.issuperset(event.auth_events):
            raise InvalidInput("auth_events names an entry that is not before this one")
        grouped = self._group.epoch is not None or event.type == COMMIT
        authorize(event, self._state, version=self._version, first_commit_seen=grouped)
        admit(event, self._state)

    def _count(self, event: Event) -> None:
        report = self.report
        report.entries += 1
        signatures = event.pdu.get("signatures")
        report.signatures += sum(map(len, signatures.values())) if isinstance(signatures, dict) else 0
        report.imported += event.imported
        report.vouched += event.provenance is not None
        report.commits += event.type == COMMIT
        report.ciphertexts += event.type == ENCRYPTED
        report.types[event.type] += 1

    def finish(self, store: Store) -> None:
        """Compare what was derived with what the server keeps; raises BrokenLog."""
        room, report = self._room, self.report
        if report.entries != room.head_seq:
            raise BrokenLog(
                report.entries + 1, None, f"the log ends here, the room says {room.head_seq} entries"
            )
        if self._group.is_open:
            raise BrokenLog(report.entries, self._previous, "the handshake that it names is not in the log")
        report.epoch, report.leaves = self._group.epoch, self._group.leaves
        if encryption_algorithm(self._state) is not None and report.epoch != room.epoch:
            raise BrokenLog(0, None, f"the room says epoch {room.epoch}, its log leads to {report.epoch}")
        kept = store.group(room.room_id)
        # Only comparable when nothing was appended while we walked.
        if kept is not None and kept.epoch == report.epoch and kept.ratchet_tree != self._group.ratchet_tree:
            raise BrokenLog(0, None, "the stored ratchet tree is not the one the log's commits lead to")
