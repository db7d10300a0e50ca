"""What a hub stores for a batch of accepted submissions: one atomic append, followers' cursors included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from linearized.exceptions import StoreError
from linearized.protocol.state import StateMap, hub_of
from linearized.room.submissions import Accepted
from linearized.server.cursors import current_followers, cursor_changes, may_move_cursors
from linearized.server.rows import entry_row
from linearized.server.welcomes import route_welcomes
from linearized.store.base import FollowerRow, GroupRow, Reply, Role, RoomAppend, RoomRow, Store
from linearized.store.past_trees import PastTreeRow


def append_of(
    store: Store,
    room_id: str,
    state: StateMap,
    batch: Sequence[Accepted],
    *,
    own_name: str,
    ours: frozenset[str],
    replies: tuple[Reply, ...] = (),
    row: RoomRow | None = None,
) -> RoomAppend:
    """The append for a batch, which is not empty.

    Args:
        state: the room's state after the batch.
        ours: the domains this server answers for.
        row: the record of a room that is created by it.
    """
    entries = [entry for accepted in batch for entry in accepted.entries]
    groups = [accepted for accepted in batch if accepted.group is not None]
    hub = hub_of(state)
    # Most batches move no cursor, and a large room has many.
    moves = hub != own_name or may_move_cursors(entries)
    existing = current_followers(store.followers(room_id)) if moves else {}
    followers = cursor_changes(
        room_id,
        entries=entries,
        state=state,
        existing=existing,
        ours=ours,
        signs=lambda provider: bool(store.server_keys(provider)),
    )
    if hub != own_name:
        row = _moved_row(store, room_id, hub)
        followers = _stopped(existing, followers, entries[-1].seq)
    return RoomAppend(
        room_id=room_id,
        entries=tuple(entry_row(entry.event, seq=entry.seq, epoch=entry.epoch) for entry in entries),
        room=row,
        group=_group_row(room_id, groups[-1]) if groups else None,
        replies=replies,
        to_device=tuple(
            message for accepted in batch for message in route_welcomes(store, room_id, accepted, ours=ours)
        ),
        followers=followers,
        past_trees=tuple(_past_tree(room_id, accepted) for accepted in groups if accepted.welcomes),
    )


def _moved_row(store: Store, room_id: str, hub: str) -> RoomRow:
    """The room's record once another server orders it."""
    row = store.room(room_id)
    if row is None:
        raise StoreError(f"room {room_id} vanished")
    return replace(row, role=Role.PARTICIPANT, hub=hub)


def _stopped(
    existing: Mapping[str, FollowerRow], changes: Sequence[FollowerRow], last: int
) -> tuple[FollowerRow, ...]:
    """Every cursor that still runs ends with the transfer: what follows is the new hub's to send."""
    running = {row.provider: row for row in (*existing.values(), *changes) if row.stop_seq is None}
    ended = [row for row in changes if row.stop_seq is not None]
    return (*ended, *(replace(row, stop_seq=last) for row in running.values()))


def _past_tree(room_id: str, accepted: Accepted) -> PastTreeRow:
    """What the joiners of a commit begin with."""
    # "the DS MUST keep track of epochs in which clients are added and store the corresponding group states
    # until each client has successfully joined" (draft-robert-mimi-delivery-service, DS assisted joining).
    group = _group_row(room_id, accepted)
    return PastTreeRow(
        room_id=room_id,
        epoch=group.epoch,
        group_info=group.group_info,
        ratchet_tree=group.ratchet_tree,
        waiting=frozenset(reference for effect in accepted.welcomes for reference in effect.references),
    )


def _group_row(room_id: str, accepted: Accepted) -> GroupRow:
    group = accepted.group
    assert group is not None  # noqa: S101 - the caller chose one with a group
    return GroupRow(
        room_id=room_id,
        epoch=group.epoch,
        snapshot=group.snapshot,
        group_info=group.group_info,
        ratchet_tree=group.ratchet_tree,
        commit_event_id=accepted.event_id,
    )
