"""The MLS groups of the rooms we order, as their logs left them.

A group is written out with every commit that adds somebody, and every so often (``room.grouping``): at a
thousand members it has half a megabyte, which other commits would only write again. What lies between is in
the log, so the present group is the one written last, moved on by the commits after it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import InvalidInput, StoreError
from linearized.mls import Mls, MlsError, PublicGroup
from linearized.room.content import binary
from linearized.room.departures import MAX_PENDING
from linearized.room.proposals import messages_of
from linearized.room.tie import resulting_app_data
from linearized.server.parts import content_of
from linearized.store.base import EntryRow, GroupRow, Store

# Commits read at a time, more than lie between two writings of a group.
_PAGE: Final = 20
# Groups kept after they were moved on: members of a few rooms come back at the same time. Half a megabyte
# each, at a thousand members.
KEPT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A group in its present epoch, with the GroupInfo and event ID of the commit that led there.

    ``written`` is the epoch it was written out in last.
    """

    group: PublicGroup
    group_info: bytes
    commit_event_id: str
    written: int


def present_group(store: Store, mls: Mls, room_id: str) -> Present | None:
    """A room's group; None before its first commit.

    Raises:
        StoreError: the log does not lead from the group written last to the room's epoch.
    """
    kept = store.group(room_id)
    if kept is None:
        return None
    group = mls.load(kept.snapshot, group_info=kept.group_info, ratchet_tree=kept.ratchet_tree)
    last, group_info = store.entry_by_id(kept.commit_event_id), kept.group_info
    if last is None:
        raise StoreError(f"room {room_id} lacks its last commit")
    try:
        while commits := store.commit_entries(room_id, after=last.seq, limit=_PAGE):
            for commit in commits:
                group_info = _move(store, group, last, commit)
                last = commit
    except (InvalidInput, MlsError) as error:
        raise StoreError(f"the log of room {room_id} does not lead to its group: {error}") from error
    return Present(group=group, group_info=group_info, commit_event_id=last.event_id, written=kept.epoch)


def _move(store: Store, group: PublicGroup, last: EntryRow, commit: EntryRow) -> bytes:
    """Apply the commit after ``last`` as it was applied once; the GroupInfo it came with."""
    for entry in store.proposals(commit.room_id, after=last.seq, limit=MAX_PENDING):
        if entry.seq < commit.seq:
            for proposal in messages_of(content_of(store, entry)):
                group.add_proposal(proposal, now=entry.origin_server_ts // 1000)
    content = content_of(store, commit)
    message = binary(content, "message")
    values = resulting_app_data(group.app_data(), group.app_data_updates(message))
    # It adds nobody, so that no lifetime depends on the time.
    staged = group.stage_commit(message, new_app_data=values, now=commit.origin_server_ts // 1000)
    group.merge(staged)
    return binary(content, "public_group_state")


class Groups:
    """Present groups for whoever asks for one."""

    def __init__(self, store: Store, mls: Mls) -> None:
        self._store = store
        self._mls = mls
        self._kept: OrderedDict[str, GroupRow] = OrderedDict()

    def row(self, room_id: str) -> GroupRow | None:
        """A room's group as it would be written now.

        Raises:
            StoreError: as ``present_group``.
        """
        room, written = self._store.room(room_id), self._store.group(room_id)
        if room is None or written is None or room.epoch == written.epoch:
            return written
        kept = self._kept.get(room_id)
        if kept is None or kept.epoch != room.epoch:
            kept = self._made(room_id)
            self._kept[room_id] = kept
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept

    def _made(self, room_id: str) -> GroupRow:
        present = present_group(self._store, self._mls, room_id)
        assert present is not None  # noqa: S101 - it was written once
        return GroupRow(
            room_id=room_id,
            epoch=present.group.epoch,
            snapshot=present.group.save(),
            group_info=present.group_info,
            ratchet_tree=present.group.export_ratchet_tree(),
            commit_event_id=present.commit_event_id,
        )
