"""One room's part of an answer of sliding sync, and which rooms a list holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.ignoring import is_unwanted
from linearized.server.clients.notifications import UserNotifications
from linearized.server.clients.projection import client_events, state_events, stripped_state
from linearized.server.clients.room_members import heroes_of
from linearized.server.clients.sliding_connections import RoomTold
from linearized.server.clients.sliding_requests import LAZY, ME, WILDCARD, RoomWish
from linearized.server.clients.tokens import place_token
from linearized.server.clients.views import fitting
from linearized.server.histories import MEMBER_TYPE, membership_of
from linearized.server.invited import INVITE_STATE, KNOCK_STATE
from linearized.server.redactions import told_content
from linearized.store.base import EntryRow, MembershipRow, RoomRow, Store

# Of one room's timeline, so that a hundred rooms stay below 16 MiB; one entry always fits.
MAX_ROOM_BYTES: Final = 160 * 1024
_OUTSIDE: Final = {"invite": INVITE_STATE, "knock": KNOCK_STATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A room of the user, and when something last happened in it."""

    row: MembershipRow
    room: RoomRow
    stamp: int


def candidates(store: Store, user_id: str, told: frozenset[str]) -> list[Candidate]:
    """The user's rooms, the most recently active first. One that was left counts only if it was ``told``, and
    an invitation not if it is from somebody they ignore.
    """
    found: list[Candidate] = []
    rows = {row.room_id: row for row in store.rooms_of(user_id)}
    rooms = {room_id: room for room_id in rows if (room := store.room(room_id)) is not None}
    # The store writes while we read: of a room, take the membership that belongs to the end of its log.
    newer = {row.room_id: row for row in store.rooms_of(user_id)}
    for room_id, room in rooms.items():
        row = newer[room_id] if newer[room_id].seq <= room.head_seq else rows[room_id]
        if row.membership in {"leave", "ban"} and row.room_id not in told:
            continue
        if row.membership == "invite" and is_unwanted(store, _face(store, row, room), user_id):
            continue
        last = row.seq if row.membership != "join" else room.head_seq
        entries = store.entries(row.room_id, after=last - 1, limit=1)
        found.append(Candidate(row=row, room=room, stamp=entries[0].origin_server_ts if entries else 0))
    return sorted(found, key=lambda each: (-each.stamp, each.row.room_id))


def room_answer(
    context: Context,
    caller: Caller,
    candidate: Candidate,
    wish: RoomWish,
    *,
    before: RoomTold | None,
    unread: UserNotifications,
) -> tuple[JsonObject | None, RoomTold]:
    """What to tell of a room, None if nothing is new; and how far it is told then."""
    row, room = candidate.row, candidate.room
    if row.membership in _OUTSIDE:
        told = RoomTold(seq=row.seq, membership=row.membership, wish=wish)
        if before is not None and (before.membership, before.seq) == (row.membership, row.seq):
            return None, told
        return _outside(context.node.store, candidate), told
    view = context.views.view(room, row)
    if view is None:  # an invitation that came to nothing
        value: JsonObject = {"membership": row.membership, "bump_stamp": candidate.stamp}
        return value, RoomTold(seq=row.seq, membership=row.membership, wish=wish)
    store, head = context.node.store, view.head
    fresh = before is None or before.membership not in {"join", "leave", "ban"}
    after = before.seq if before is not None and not fresh else 0
    expanded = before is not None and not fresh and not before.wish.covers(wish)
    told = RoomTold(
        seq=head,
        membership=row.membership,
        wish=before.wish.joined(wish) if before is not None and not fresh else wish,
    )
    if not (
        fresh or expanded or head > after or (before is not None and before.membership != row.membership)
    ):
        return None, told
    since = 0 if fresh or expanded else after
    newest_first = view.before(store, before=head + 1, after=since, limit=wish.timeline_limit + 1)
    page = fitting(newest_first[: wish.timeline_limit], MAX_ROOM_BYTES)
    timeline = page[::-1]
    # Of a sender whom the client does not know yet the membership may be old: it is told again and again.
    senders = {entry.sender for entry in timeline} if (MEMBER_TYPE, LAZY) in wish.required else set()
    state = [
        entry
        for entry in _state(store, row, head, wish, timeline)
        if fresh
        or expanded
        or entry.seq > after
        or (entry.type == MEMBER_TYPE and entry.state_key in senders)
    ]
    start = timeline[0].seq if timeline else head + 1
    value = {
        "membership": row.membership,
        "bump_stamp": candidate.stamp,
        "required_state": state_events(context, caller, state),
        "timeline": client_events(context, caller, timeline),
        "limited": len(newest_first) > len(page),
        "prev_batch": place_token(start - 1),
        "num_live": 0 if fresh else sum(entry.seq > after for entry in timeline),
        **_counts(store, row),
        **(_names(store, row, head) if fresh or _renamed(store, row, after, head) else {}),
        **(unread.total(room).as_json() if row.membership == "join" else {}),
    }
    if fresh:
        value["initial"] = True
    if expanded:
        value["unstable_expanded_timeline"] = True
    return value, told


def _outside(store: Store, candidate: Candidate) -> JsonObject:
    """A room that the user is invited to or knocks on: its face, and no more."""
    row = candidate.row
    return {
        "initial": True,
        "membership": row.membership,
        "bump_stamp": candidate.stamp,
        "invite_state": _face(store, row, candidate.room),
    }


def _face(store: Store, row: MembershipRow, room: RoomRow) -> list[JsonObject]:
    """Stripped state, from our copy of the room or as it was described."""
    state = store.state_at(row.room_id, seq=room.head_seq)
    if state:
        return stripped_state(store, state, user_id=row.user_id)
    described = store.reply(_OUTSIDE[row.membership], f"{row.room_id} {row.user_id}")
    events: list[JsonObject] = orjson.loads(described or "[]")
    return events


def _state(
    store: Store, row: MembershipRow, seq: int, wish: RoomWish, timeline: Sequence[EntryRow]
) -> list[EntryRow]:
    """The state that is wanted, as of an entry; of many types or keys at once by reading all of it."""
    exact: set[tuple[str, str]] = set()
    wide: set[tuple[str, str]] = set()
    for kind, key in wish.required:
        if key == LAZY:
            exact |= {(kind, entry.sender) for entry in timeline} if kind == MEMBER_TYPE else set()
        elif WILDCARD in {kind, key}:
            wide.add((kind, key))
        else:
            exact.add((kind, row.user_id if key == ME else key))
    if wide:
        return [
            entry
            for entry in store.state_at(row.room_id, seq=seq)
            if {
                (entry.type, entry.state_key),
                (entry.type, WILDCARD),
                (WILDCARD, entry.state_key),
                (WILDCARD, WILDCARD),
            }
            & (wide | exact)
        ]
    found = [store.state_entry(row.room_id, kind, key, seq=seq) for kind, key in exact]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.seq)


def _counts(store: Store, row: MembershipRow) -> JsonObject:
    members = [member.membership for member in store.memberships(row.room_id)]
    return {"joined_count": members.count("join"), "invited_count": members.count("invite")}


def _names(store: Store, row: MembershipRow, seq: int) -> JsonObject:
    """The room's name and picture; without a name, some of those who are in it."""
    found: JsonObject = {}
    for kind, key, name in (("m.room.name", "name", "name"), ("m.room.avatar", "url", "avatar")):
        entry = store.state_entry(row.room_id, kind, "", seq=seq)
        value = told_content(store, entry).get(key) if entry is not None else None
        if isinstance(value, str) and value:
            found[name] = value
    if "name" not in found:
        heroes = heroes_of(store.memberships(row.room_id), row.user_id)
        found["heroes"] = [_hero(store, row.room_id, user_id, seq) for user_id in heroes]
    return found


def _hero(store: Store, room_id: str, user_id: str, seq: int) -> JsonObject:
    entry = store.state_entry(room_id, MEMBER_TYPE, user_id, seq=seq)
    content = told_content(store, entry) if entry is not None else {}
    fields = {"displayname": content.get("displayname"), "avatar_url": content.get("avatar_url")}
    return {"user_id": user_id} | {name: value for name, value in fields.items() if isinstance(value, str)}


def _renamed(store: Store, row: MembershipRow, after: int, seq: int) -> bool:
    """Whether the name or the picture, or who is there, changed behind an entry."""
    entries = [store.state_entry(row.room_id, kind, "", seq=seq) for kind in ("m.room.name", "m.room.avatar")]
    joined = any(member.seq > after for member in store.memberships(row.room_id))
    return joined or any(entry is not None and entry.seq > after for entry in entries)


def newly_met(store: Store, row: MembershipRow, first: int, limit: int) -> list[tuple[str, str]]:
    """Users and their memberships, of the member entries of a room from ``first`` on."""
    entries = store.entries(row.room_id, after=first - 1, limit=limit)
    return [(entry.state_key or "", membership_of(entry)) for entry in entries if entry.type == MEMBER_TYPE]
