"""One room's part of an answer of sliding sync (MSC4186, Room results)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.notifications import UserNotifications
from linearized.server.clients.projection import SEQ, client_events, state_events, stripped_state
from linearized.server.clients.room_members import heroes_of
from linearized.server.clients.sliding_connections import RoomTold
from linearized.server.clients.sliding_wishes import ME, RoomWish
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import View, fitting
from linearized.server.histories import MEMBER_TYPE, membership_of
from linearized.server.invited import INVITE_STATE, KNOCK_STATE
from linearized.server.redactions import told_content
from linearized.store.activity import ActiveRoom
from linearized.store.base import EntryRow, MembershipRow, Role, RoomRow, Store

# Of one room's timeline, so that a hundred rooms stay below 16 MiB; one entry always fits.
MAX_ROOM_BYTES: Final = 160 * 1024
# "Proper activity is defined as an event being received is one of the following types".
BUMPING: Final = frozenset(
    {
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "m.beacon_info",
    }
)
# Entries looked through for such: more in a row come of hardly anything but a bridge or many people joining.
MAX_BUMP_DEPTH: Final = 1_000
OUTSIDE: Final = {"invite": INVITE_STATE, "knock": KNOCK_STATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer wants of a room.

    Attributes:
        before: how far it was told, None if it was not.
        live_after: the last entry that was there when the connection's last answer was given; of what is
            told only the entries behind it have "just occurred".
        direct: whether the user's clients say that it is for talking to one person.
    """

    wish: RoomWish
    before: RoomTold | None
    live_after: int
    direct: bool
    unread: UserNotifications


def room_answer(
    context: Context, caller: Caller, active: ActiveRoom, asked: Asked
) -> tuple[JsonObject | None, RoomTold]:
    """What to tell of a room, None if nothing is new; and how far it is told then."""
    row, before = active.row, asked.before
    if row.membership in OUTSIDE:
        told = RoomTold(
            seq=row.seq, start=row.seq, membership=row.membership, wish=asked.wish, direct=asked.direct
        )
        known = before is not None and replace(before, wish=asked.wish) == told
        return (None if known else _outside(context.node.store, active, asked)), told
    if before is not None and _is_as_told(active, asked, before):
        return None, before
    view = context.views.view(active.room, row)
    if view is None:  # an invitation that came to nothing
        told = RoomTold(seq=row.seq, start=row.seq, membership=row.membership, wish=asked.wish)
        known = before is not None and replace(before, wish=asked.wish) == told
        return (None if known else _common(context.node.store, active)), told
    return _Inside(context=context, caller=caller, active=active, asked=asked, view=view).answer()


def _is_as_told(active: ActiveRoom, asked: Asked, before: RoomTold) -> bool:
    """Whether nothing about a joined room can be new, which is so of nearly all of them."""
    there = before.membership == active.row.membership == "join" and before.seq == active.room.head_seq
    same = before.wish.states >= asked.wish.states and before.wish.timeline_limit == asked.wish.timeline_limit
    return there and same and before.direct == asked.direct


def _common(store: Store, active: ActiveRoom) -> JsonObject:
    """What is told of every room.

    "For rooms that the user is not currently joined to, this instead represents when the relevant membership
    happened" (``bump_stamp``).
    """
    row, room, stamp = active.row, active.room, active.position
    if row.membership == "join":
        stamp = store.last_of_types(room.room_id, BUMPING, until=room.head_seq, depth=MAX_BUMP_DEPTH)
    return {"membership": row.membership, "bump_stamp": stamp}


def _outside(store: Store, active: ActiveRoom, asked: Asked) -> JsonObject:
    """A room that the user is invited to or knocks on: its face, and no more. Under both names that clients
    know it by.
    """
    face = face_of(store, active.row, active.room)
    return {
        "initial": True,
        **_common(store, active),
        "stripped_state": face,
        "invite_state": face,
        **({"is_dm": True} if asked.direct else {}),
    }


def face_of(store: Store, row: MembershipRow, room: RoomRow) -> list[JsonObject]:
    """Stripped state, from our copy of the room or as it was described."""
    state = store.state_at(row.room_id, seq=room.head_seq)
    if state:
        return stripped_state(store, state, user_id=row.user_id)
    described = store.reply(OUTSIDE[row.membership], f"{row.room_id} {row.user_id}")
    events: list[JsonObject] = orjson.loads(described or "[]")
    return events


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """A room that the user is or was joined to, while its part is put together."""

    context: Context
    caller: Caller
    active: ActiveRoom
    asked: Asked
    view: View

    def answer(self) -> tuple[JsonObject | None, RoomTold]:
        """As ``room_answer``."""
        asked, row, head = self.asked, self.active.row, self.view.head
        before = asked.before
        if before is not None and before.membership in OUTSIDE:
            before = None  # all of it is new
        after = before.seq if before is not None else 0
        timeline, limited, expanded = self._timeline(before, after)
        state = self._state(timeline, before, after)
        direct = before is None or before.direct != asked.direct
        told = RoomTold(
            seq=head,
            start=self._start(timeline, before, broken=limited or expanded or before is None),
            membership=row.membership,
            wish=asked.wish.remembered_after(before.wish) if before is not None else asked.wish,
            direct=asked.direct,
        )
        news = head > after or expanded or bool(self._wider(state, before, after))
        if before is not None and before.membership == row.membership and not news:
            if not direct:
                return None, told
            value: JsonObject = {**_common(self.context.node.store, self.active), "is_dm": asked.direct}
            return value, told
        start = timeline[0].seq if timeline else head + 1
        events = client_events(self.context, self.caller, timeline)
        live_after = max(after, asked.live_after)
        value = {
            **_common(self.context.node.store, self.active),
            "required_state": state_events(self.context, self.caller, state),
            "timeline": events,
            "limited": limited,
            "prev_batch": place_token(start - 1),
            "num_live": sum(event["unsigned"][SEQ] > live_after for event in events),
            **self._faces(timeline, before, after, limited=limited),
        }
        if row.membership == "join":
            value |= asked.unread.total(self.active.room).as_json()
        if before is None:
            value["initial"] = True
        if direct and (asked.direct or before is not None):
            value["is_dm"] = asked.direct
        if expanded:
            value |= {"expanded_timeline": True, "unstable_expanded_timeline": True}
        return value, told

    def _timeline(self, before: RoomTold | None, after: int) -> tuple[list[EntryRow], bool, bool]:
        """The entries to tell, oldest first; whether there are others that were never told; and whether some
        of them are older than what is new.

        "If the timeline_limit has increased (to say N) and the server has not previously sent down all of the
        latest N events on the connection, the server SHOULD send down the latest N events".
        """
        limit, head = self.asked.wish.timeline_limit, self.view.head
        longer = before is not None and limit > before.wish.timeline_limit
        store, floor = self.context.node.store, 0 if longer else after
        newest_first = self.view.before(store, before=head + 1, after=floor, limit=limit + 1)
        page = fitting(newest_first[:limit], MAX_ROOM_BYTES)
        expanded = before is not None and longer and bool(page) and page[-1].seq < before.start
        if not expanded:
            floor = after
            page = [entry for entry in page if entry.seq > floor]
        left = newest_first[len(page) :]
        return page[::-1], bool(left) and left[0].seq > floor, expanded

    def _start(self, timeline: Sequence[EntryRow], before: RoomTold | None, *, broken: bool) -> int:
        """The first entry of the run that the client has after this answer."""
        if before is None or broken:
            return timeline[0].seq if timeline else self.view.head + 1
        return before.start

    def _state(self, timeline: Sequence[EntryRow], before: RoomTold | None, after: int) -> list[EntryRow]:
        """The state that is wanted and new to the client, as of the last entry.

        Of people whom the timeline is about the client may have had the memberships, or not: they are told
        again and again.
        """
        wish, row, store = self.asked.wish, self.active.row, self.context.node.store
        room_id, me, head = row.room_id, row.user_id, self.view.head
        lazily: set[str] = set()
        if wish.lazy:
            lazily = {entry.sender for entry in timeline}
            lazily |= {entry.state_key or "" for entry in timeline if entry.type == MEMBER_TYPE}
        found: dict[str, EntryRow] = {}
        if wish.wide:
            state = store.state_at(room_id, seq=head)
        else:
            keys = {(kind, me if key == ME else key) for kind, key in wish.pairs}
            looked_up = (store.state_entry(room_id, kind, key, seq=head) for kind, key in keys)
            state = [entry for entry in looked_up if entry is not None]
        for entry in state:
            key = entry.state_key or ""
            if wish.wants(entry.type, key, me) and (
                before is None or entry.seq > after or not before.wish.wants(entry.type, key, me)
            ):
                found[entry.event_id] = entry
        for user_id in lazily:
            member = store.state_entry(room_id, MEMBER_TYPE, user_id, seq=head)
            if member is not None:
                found[member.event_id] = member
        return sorted(found.values(), key=lambda entry: entry.seq)

    def _wider(self, state: Sequence[EntryRow], before: RoomTold | None, after: int) -> list[EntryRow]:
        """Of the state what is told because more is wanted than before."""
        if before is None:
            return []
        me, known = self.active.row.user_id, before.wish
        return [
            entry
            for entry in state
            if entry.seq <= after and not known.wants(entry.type, entry.state_key or "", me)
        ]

    def _faces(
        self, timeline: Sequence[EntryRow], before: RoomTold | None, after: int, *, limited: bool
    ) -> JsonObject:
        """The room's name and picture, who is there, and how many, as far as they may be new."""
        store, row, head = self.context.node.store, self.active.row, self.view.head
        found: JsonObject = {}
        named = renamed = False
        for kind, key, field in (("m.room.name", "name", "name"), ("m.room.avatar", "url", "avatar")):
            entry = store.state_entry(row.room_id, kind, "", seq=head)
            value = told_content(store, entry).get(key) if entry is not None else None
            is_set, changed = isinstance(value, str) and bool(value), entry is not None and entry.seq > after
            if field == "name":
                named, renamed = is_set, changed
            if is_set and (before is None or changed):
                found[field] = value
            elif changed and before is not None:
                found[field] = None  # "null if room name has been removed"
        moved = (
            before is None
            or limited
            or self.active.room.role is Role.FOLLOWER  # memberships there are set without entries
            or any(entry.type == MEMBER_TYPE for entry in timeline)
        )
        if moved or (renamed and not named):
            members = store.memberships(row.room_id)
            kinds = [member.membership for member in members]
            if moved:
                found |= {"joined_count": kinds.count("join"), "invited_count": kinds.count("invite")}
            if not named:
                heroes = heroes_of(members, row.user_id)
                found["heroes"] = [_hero(store, row.room_id, user_id, head) for user_id in heroes]
        return found


def _hero(store: Store, room_id: str, user_id: str, seq: int) -> JsonObject:
    entry = store.state_entry(room_id, MEMBER_TYPE, user_id, seq=seq)
    content = told_content(store, entry) if entry is not None else {}
    fields = {"displayname": content.get("displayname"), "avatar_url": content.get("avatar_url")}
    return {"user_id": user_id} | {name: value for name, value in fields.items() if isinstance(value, str)}


def newly_met(store: Store, row: MembershipRow, first: int, limit: int) -> list[tuple[str, str]]:
    """Users and their memberships, of the member entries of a room from ``first`` on."""
    entries = store.entries(row.room_id, after=first - 1, limit=limit)
    return [(entry.state_key or "", membership_of(entry)) for entry in entries if entry.type == MEMBER_TYPE]
