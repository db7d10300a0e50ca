"""One room's part of a sync answer: joined, invited or left, with its timeline and the state around it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.filters import Filter
from linearized.server.clients.projection import client_events, stripped_state
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import MEMBER_TYPE, View, history_of, membership_of, state_entry
from linearized.server.clients.window import RoomWindow
from linearized.store.base import EntryRow, MembershipRow, Role, RoomRow, Store

MAX_HEROES: Final = 5  # "up to 5" (Client-Server API, RoomSummary)


class Section(Enum):
    """Where a room goes in the answer."""

    JOIN = "join"
    INVITE = "invite"
    LEAVE = "leave"
    NONE = ""


def room_section(
    context: Context, caller: Caller, window: RoomWindow, *, initial: bool, full_state: bool, wanted: Filter
) -> tuple[Section, JsonObject]:
    """What to tell a user about one changed room.

    Args:
        initial: the client knows nothing of the room yet.
        full_state: it wants all state of joined rooms again.
    """
    store = context.node.store
    room = store.room(window.row.room_id)
    assert room is not None  # noqa: S101 - the window holds rooms the store has, and rooms are never deleted
    row = _membership_at(store, room, window)
    changed = (
        initial or row.seq >= window.first or (room.role is Role.FOLLOWER and row.seq >= window.first - 1)
    )
    match row.membership:
        case "join":
            return _joined(
                context,
                caller,
                room,
                row,
                window,
                changed=changed,
                initial=initial,
                full_state=full_state,
                wanted=wanted,
            )
        case "invite" if changed:
            return Section.INVITE, _invited(store, row, window)
        case "leave" | "ban" if changed and (not initial or wanted.include_leave):
            return _left(context, caller, room, row, window, initial=initial, wanted=wanted)
        case _:
            return Section.NONE, {}


def _membership_at(store: Store, room: RoomRow, window: RoomWindow) -> MembershipRow:
    """The user's membership where the window ends; the stored row may be newer."""
    row = window.row
    if row.seq <= window.last or room.role is Role.FOLLOWER or row.seq > room.head_seq:
        return row
    entry = state_entry(store, room.room_id, MEMBER_TYPE, row.user_id, window.last)
    return MembershipRow(
        room_id=row.room_id,
        user_id=row.user_id,
        membership=membership_of(entry) if entry is not None else "leave",
        seq=entry.seq if entry is not None else 0,
    )


def _joined(
    context: Context,
    caller: Caller,
    room: RoomRow,
    row: MembershipRow,
    window: RoomWindow,
    *,
    changed: bool,
    initial: bool,
    full_state: bool,
    wanted: Filter,
) -> tuple[Section, JsonObject]:
    store = context.node.store
    view = context.views.view(room, row)
    if view is None:
        return Section.NONE, {}
    arrived = initial or (changed and not _was_joined(store, room, row, window.first - 1))
    # Somebody who was here before has had entries of that time; to anybody else the latest ones are new.
    fresh = initial or (
        arrived and room.role is not Role.FOLLOWER and not _ever_joined(store, row, window.first - 1)
    )
    timeline, more = _timeline(
        store, view, after=0 if fresh else window.first - 1, last=window.last, wanted=wanted
    )
    limited = more or (arrived and not fresh)
    start = timeline[0].seq if timeline else window.last + 1
    state: list[EntryRow] = []
    if arrived or full_state:
        state = store.state_at(room.room_id, seq=start - 1)
    elif more:
        state = [entry for entry in store.state_at(room.room_id, seq=start - 1) if entry.seq >= window.first]
    if not (timeline or state or arrived or full_state):
        return Section.NONE, {}
    value: JsonObject = {
        "timeline": {
            "events": client_events(context, caller, [entry for entry in timeline if wanted.allows(entry)]),
            "limited": limited,
            "prev_batch": place_token(start - 1),
        },
        "state": {"events": client_events(context, caller, state)},
        "ephemeral": {"events": []},
        "account_data": {"events": []},
        "unread_notifications": {"highlight_count": 0, "notification_count": 0},
    }
    if (
        arrived
        or any(entry.type == MEMBER_TYPE for entry in (*timeline, *state))
        or room.role is Role.FOLLOWER
    ):
        value["summary"] = _summary(store, room.room_id, caller.user_id)
    return Section.JOIN, value


def _left(
    context: Context,
    caller: Caller,
    room: RoomRow,
    row: MembershipRow,
    window: RoomWindow,
    *,
    initial: bool,
    wanted: Filter,
) -> tuple[Section, JsonObject]:
    """Up to the entry that ended it; of a room never joined only that entry, which is about the user."""
    store = context.node.store
    view = context.views.view(room, row)
    if view is None or view.until < window.first:
        ended = store.entries(room.room_id, after=row.seq - 1, limit=1)
        timeline: Sequence[EntryRow] = [entry for entry in ended if entry.state_key == row.user_id]
        more = False
        if initial:
            return Section.NONE, {}
    else:
        after = 0 if initial else window.first - 1
        last = min(view.until, window.last)
        timeline, more = _timeline(store, view, after=after, last=last, wanted=wanted)
    start = timeline[0].seq if timeline else row.seq + 1
    state: list[EntryRow] = []
    if more:
        state = store.state_at(room.room_id, seq=start - 1)
        state = state if initial else [entry for entry in state if entry.seq >= window.first]
    return Section.LEAVE, {
        "timeline": {
            "events": client_events(context, caller, [entry for entry in timeline if wanted.allows(entry)]),
            "limited": more,
            "prev_batch": place_token(start - 1),
        },
        "state": {"events": client_events(context, caller, state)},
        "account_data": {"events": []},
    }


def _invited(store: Store, row: MembershipRow, window: RoomWindow) -> JsonObject:
    state = store.state_at(row.room_id, seq=max(window.last, row.seq))
    events = stripped_state(state, invitee=row.user_id)
    return {"invite_state": {"events": events}}


def _timeline(
    store: Store, view: View, *, after: int, last: int, wanted: Filter
) -> tuple[list[EntryRow], bool]:
    """The last visible entries in (``after``, ``last``], oldest first, and whether there are more before
    them.
    """
    limit = wanted.timeline_limit
    newest_first = view.before(store, before=last + 1, after=after, limit=limit + 1)
    return newest_first[:limit][::-1], len(newest_first) > limit


def _was_joined(store: Store, room: RoomRow, row: MembershipRow, seq: int) -> bool:
    if room.role is Role.FOLLOWER:
        return False  # its memberships are set without entries, each time a user arrives
    entry = state_entry(store, row.room_id, MEMBER_TYPE, row.user_id, seq)
    return entry is not None and membership_of(entry) == "join"


def _ever_joined(store: Store, row: MembershipRow, seq: int) -> bool:
    entries = history_of(store, row.room_id, MEMBER_TYPE, row.user_id, seq)
    return any(membership_of(entry) == "join" for entry in entries)


def _summary(store: Store, room_id: str, user_id: str) -> JsonObject:
    members = store.memberships(room_id)
    joined = [member.user_id for member in members if member.membership == "join"]
    invited = [member.user_id for member in members if member.membership == "invite"]
    heroes = sorted(other for other in (*joined, *invited) if other != user_id)[:MAX_HEROES]
    return {
        "m.heroes": heroes,
        "m.joined_member_count": len(joined),
        "m.invited_member_count": len(invited),
    }
