"""A ``Room`` from what the store holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import orjson

from linearized.exceptions import StoreError
from linearized.mls import Mls, SignatureKeyPair
from linearized.protocol.events import Event, parse_stored
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.admission import ENCRYPTED
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.content import binary
from linearized.room.departures import MAX_PENDING
from linearized.room.grouping import GROUP_DELETED, NO_AGENTS
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.proposals import messages_of
from linearized.room.replays import Fingerprint, fingerprint
from linearized.room.room import Room
from linearized.room.submissions import Rejected
from linearized.server.device_objects import published
from linearized.server.groups import present_group
from linearized.store.base import EntryRow, RoomRow, Store

# Events of states kept in memory over all rooms, at about 2 KB each; the latest room is kept anyway.
MAX_KEPT_EVENTS: Final = 50_000
# Entries that a room which is loaded looks through for the messages of its epoch: a millisecond.
LOOKED_AT: Final = 256


def event_of(row: EntryRow, version: RoomVersion) -> Event:
    """The event of a stored entry; its bytes were checked before they were stored."""
    return parse_stored(row.pdu, version, row.event_id)


def state_of(store: Store, row: RoomRow, seq: int | None = None) -> dict[tuple[str, str], Event]:
    """The state after entry ``seq`` (default: the last), by (type, state_key)."""
    version = get_version(row.version)
    return {
        (entry.type, entry.state_key or ""): event_of(entry, version)
        for entry in store.state_at(row.room_id, seq=row.head_seq if seq is None else seq)
    }


class States:
    """The current states of rooms that events keep coming for, so that each event does not cost reading all
    of its room's state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[int, StateMap]] = OrderedDict()

    def of(self, row: RoomRow) -> StateMap:
        """The state at the room's head."""
        seq, state = self._kept.get(row.room_id, (0, {}))
        return state if seq and seq == row.head_seq else state_of(self._store, row)

    def forget(self, room_id: str) -> None:
        """Drop what is noted of a room."""
        self._kept.pop(room_id, None)

    def keep(self, room_id: str, seq: int, state: StateMap) -> None:
        """Note the state after entry ``seq``, which is stored."""
        self._kept[room_id] = (seq, state)
        self._kept.move_to_end(room_id)
        while sum(len(kept) for _, kept in self._kept.values()) > MAX_KEPT_EVENTS and len(self._kept) > 1:
            self._kept.popitem(last=False)


def pending_proposals(store: Store, room_id: str, commit_event_id: str) -> list[tuple[bytes, int]]:
    """The proposals that a hub has taken since its room's last commit (MLSMessages), each with the time it
    was accepted at, oldest first.

    Raises:
        StoreError: the log does not have the commit that led to the epoch.
    """
    commit = store.entry_by_id(commit_event_id)
    if commit is None:
        raise StoreError(f"room {room_id} lacks its last commit")
    return [
        (message, entry.origin_server_ts)
        for entry in store.proposals(room_id, after=commit.seq, limit=MAX_PENDING)
        for message in messages_of(orjson.loads(entry.pdu)["content"])
    ]


def was_deleted(store: Store, commit_event_id: str) -> bool:
    """Whether the last commit of a group ended it."""
    commit = store.entry_by_id(commit_event_id)
    return commit is not None and orjson.loads(commit.pdu)["content"].get(GROUP_DELETED) is True


def sent_in(entries: Sequence[EntryRow], epoch: int) -> list[Fingerprint]:
    """The application messages of an epoch among entries (latest first), oldest first."""
    found = []
    for entry in reversed(entries):
        if entry.type == ENCRYPTED and entry.epoch == epoch:
            # A log that we took over is as its hub left it: what is no message there is none here.
            with suppress(Rejected):
                message = binary(orjson.loads(entry.pdu)["content"], "ciphertext")
                found.append(fingerprint(message, entry.sender))
    return found


def restore_room(
    store: Store,
    row: RoomRow,
    *,
    identity: ServerIdentity,
    mls: Mls,
    signer: SignatureKeyPair,
    vouched_domains: frozenset[str],
    agents: Mapping[int, bytes] = NO_AGENTS,
    authorities: Authorities = nobody_trusted,
    parents: Parents = NO_PARENTS,
) -> Room:
    """The room as its last durable entry left it."""
    kept = present_group(store, mls, row.room_id)
    last = store.entries_before(row.room_id, before=row.head_seq + 1, limit=LOOKED_AT if kept else 1)
    return Room(
        room_id=row.room_id,
        version=get_version(row.version),
        identity=identity,
        mls=mls,
        signer=signer,
        vouched_domains=vouched_domains,
        pending=pending_proposals(store, row.room_id, kept.commit_event_id) if kept is not None else (),
        state=state_of(store, row),
        head=(row.head_seq, last[0].event_id if last else None),
        group=kept.group if kept is not None else None,
        last_commit_id=kept.commit_event_id if kept is not None else None,
        agents=agents,
        group_deleted=kept is not None and was_deleted(store, kept.commit_event_id),
        group_saved=kept.written if kept is not None else None,
        sent=sent_in(last, kept.group.epoch) if kept is not None else (),
        published=partial(published, store),
        authorities=authorities,
        parents=parents,
    )
