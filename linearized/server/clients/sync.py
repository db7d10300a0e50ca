"""``GET /sync``: what is new to a device, and a token to go on from.

Nothing is told twice and nothing is left out across the syncs of one chain of tokens: see ``window`` for
rooms; a to-device message stays until the token that covers it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson
import trio

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.account_data import as_events, by_room
from linearized.server.clients.auth import Caller, authenticate
from linearized.server.clients.context import Context
from linearized.server.clients.ephemeral import read_ephemeral
from linearized.server.clients.event_filters import EventFilter
from linearized.server.clients.fields import query_integer
from linearized.server.clients.filters import Filter, requested_filter
from linearized.server.clients.keys import key_counts, unused_fallback_types
from linearized.server.clients.sync_rooms import Question, Section, quiet_section, room_section
from linearized.server.clients.tokens import SyncToken, parse_sync_token
from linearized.server.clients.window import read_window
from linearized.server.device_lists import changed_since, sharing_no_room
from linearized.server.http import Request, Response, json_response
from linearized.store.account_data import GLOBAL, AccountDataRow
from linearized.store.base import Store

# The longest a client may ask us to wait. Proxies give up on silent connections after a minute or so.
MAX_WAIT_MS: Final = 55_000
# To-device messages in one answer: a Welcome with its ratchet tree takes some kilobytes per hundred members.
MAX_TO_DEVICE: Final = 50
# Bytes of timeline in one answer, shared out evenly among its rooms; what does not fit is limited, as ever,
# and can be read from prev_batch. Every room gets at least what one event may take.
MAX_TIMELINE_BYTES: Final = 16 * 1024 * 1024
MIN_ROOM_BYTES: Final = 65_536
# Users one answer says no room is shared with any more; each is a question to the store. Of one who is not
# named the device lists simply go silent.
MAX_LEFT: Final = 1_000
# By query parameter the name of a room's state as of the end of its timeline, not of its start (MSC4222).
STATE_AFTER: Final[Mapping[str, str]] = {
    "use_state_after": "state_after",
    "org.matrix.msc4222.use_state_after": "org.matrix.msc4222.state_after",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One sync as asked. ``initial`` without a token; ``full_state`` wants all state again; for
    ``state_after`` see ``sync_rooms``.
    """

    caller: Caller
    token: SyncToken
    initial: bool
    full_state: bool
    state_after: str | None
    filter: Filter


async def sync(context: Context, request: Request, caller: Caller) -> Response:
    """Answer at once if there is news or the question is a first one, else when there is or time is up."""
    since = request.query_one("since")
    question = _Question(
        caller=caller,
        token=parse_sync_token(since, context.node.store) if since is not None else SyncToken(),
        initial=since is None,
        full_state=request.query_one("full_state") == "true",
        state_after=next(
            (STATE_AFTER[name] for name in STATE_AFTER if request.query_one(name) == "true"), None
        ),
        filter=requested_filter(context, request, caller),
    )
    wait_ms = query_integer(request, "timeout", default=0, maximum=MAX_WAIT_MS)
    deadline = trio.current_time() + wait_ms / 1000
    await _acknowledge(context, question)
    while True:
        # Taken before reading: a change between the read and the wait sets this very ticket.
        ticket = context.node.notifier.ticket(caller.user_id)
        token, answer, news = _answer(context, question)
        remaining = deadline - trio.current_time()
        if news or question.initial or question.full_state or remaining <= 0:
            await context.echoes.answered(caller.scope, _timelines(answer))
            return json_response(answer)
        # What others' rooms did is read once, not again after every wait.
        question = replace(question, token=token)
        typing_ends = context.typists.seconds_to_next_end(_joined(context, question))
        await context.node.notifier.wait(ticket, min(remaining, typing_ends))
        authenticate(context, request)  # a device that was logged out meanwhile hears nothing more


def _timelines(answer: JsonObject) -> Iterator[JsonObject]:
    """The events of the rooms that the caller is in, or was."""
    for section in (Section.JOIN, Section.LEAVE):
        for told in answer["rooms"][section.value].values():
            yield from told["timeline"]["events"]


async def _acknowledge(context: Context, question: _Question) -> None:
    """A token that comes back says that the answer with it arrived ("the server MAY delete", To-device
    messages).
    """
    caller, store = question.caller, context.node.store
    if caller.device_id is None or question.token.to_device == 0:
        return
    oldest = store.to_device(caller.user_id, caller.device_id, after=0, limit=1)
    if oldest and oldest[0].position <= question.token.to_device:
        await store.delete_to_device(caller.user_id, caller.device_id, question.token.to_device)


def _answer(context: Context, question: _Question) -> tuple[SyncToken, JsonObject, bool]:
    """The token after this answer, the answer, and whether it tells anything."""
    store, caller = context.node.store, question.caller
    window = read_window(
        store,
        user_id=caller.user_id,
        since=question.token.position,
        wanted=question.filter.rooms.allows,
        unchanged=question.full_state,
    )
    budget = max(MIN_ROOM_BYTES, MAX_TIMELINE_BYTES // max(1, len(window.rooms)))
    asked = Question(
        context=context,
        caller=caller,
        unread=context.notifications.of(caller.user_id),
        initial=question.initial,
        full_state=question.full_state,
        state_after=question.state_after,
        wanted=question.filter,
        budget=budget,
    )
    met: set[str] = set()
    parted: set[str] = set()
    arrived: set[str] = set()
    rooms: JsonObject = {"join": {}, "invite": {}, "knock": {}, "leave": {}}
    for room_window in window.rooms:
        told = room_section(asked, room_window)
        met |= told.met
        parted |= told.parted
        if told.arrived:
            arrived.add(room_window.row.room_id)
        if told.section is not Section.NONE:
            rooms[told.section.value][room_window.row.room_id] = told.value
    to_device, last, full = _to_device(context, question)
    changed, heard = _changed(context, question, until=last if full else None)
    left: list[str] = []
    if caller.device_id is not None and not question.initial:
        changed = sorted(met.union(changed))
        left = sharing_no_room(store, caller.user_id, sorted(parted - met)[:MAX_LEFT])
    complete, joined = window.target == store.position(), _joined(context, question)
    kept = _account_data(question, store) if complete else []
    heard_of = read_ephemeral(
        context,
        caller,
        rooms=joined,
        arrived=arrived,
        receipts_after=question.token.receipts,
        typing_after=question.token.typing,
        complete=complete,
    )
    wanted, kept_by_room = question.filter, by_room(kept)
    for name, part, found in (
        ("ephemeral", wanted.ephemeral, heard_of.events),
        (
            "account_data",
            wanted.room_account_data,
            {room_id: as_events(rows) for room_id, rows in kept_by_room.items() if room_id in joined},
        ),
    ):
        _tell_beside(asked, rooms["join"], name, _chosen(part, found))
    own = [row for row in kept_by_room.get(GLOBAL, []) if wanted.account_data.types.allows(row.type)]
    token = SyncToken(
        position=window.target,
        to_device=max(last, heard),
        account_data=kept[-1].position if kept else question.token.account_data,
        receipts=heard_of.receipts,
        typing=heard_of.typing,
    )
    answer: JsonObject = {
        "next_batch": str(token),
        "rooms": rooms,
        "to_device": {"events": to_device},
        "presence": {"events": []},
        "account_data": {"events": as_events(own)},
        "device_lists": {"changed": changed, "left": left},
        "device_one_time_keys_count": key_counts(context, caller),
        "device_unused_fallback_key_types": unused_fallback_types(context, caller),
    }
    return token, answer, bool(to_device or changed or own) or any(rooms.values())


def _account_data(question: _Question, store: Store) -> list[AccountDataRow]:
    """What is new of the caller's account data. While more rooms are to come it waits for them, so that no
    room is told of by its tags alone.
    """
    after = 0 if question.full_state else question.token.account_data
    return store.account_data(question.caller.user_id, after=after)


def _joined(context: Context, question: _Question) -> frozenset[str]:
    """The rooms that the caller is joined to now and wants to hear of."""
    rows = context.node.store.rooms_of(question.caller.user_id)
    return frozenset(
        row.room_id for row in rows if row.membership == "join" and question.filter.rooms.allows(row.room_id)
    )


def _tell_beside(
    asked: Question, joined: JsonObject, part: str, events: Mapping[str, list[JsonObject]]
) -> None:
    """Put what is told beside rooms' logs where the client looks for it: in the rooms it is joined to."""
    for room_id, found in events.items():
        if room_id not in joined:
            room = asked.context.node.store.room(room_id)
            assert room is not None  # noqa: S101 - there is a membership in it
            joined[room_id] = quiet_section(asked, room)
        joined[room_id][part] = {"events": found}


def _chosen(wanted: EventFilter, events: Mapping[str, list[JsonObject]]) -> dict[str, list[JsonObject]]:
    """Events by room, without those that are not wanted."""
    chosen = {
        room_id: [event for event in found if wanted.allows_type(room_id, event["type"])]
        for room_id, found in events.items()
    }
    return {room_id: found for room_id, found in chosen.items() if found}


def _changed(context: Context, question: _Question, *, until: int | None) -> tuple[list[str], int]:
    """Users whose devices changed; and how far this sync has heard of such changes. A first sync needs none:
    the client knows no devices yet.
    """
    caller, after = question.caller, question.token.to_device
    if caller.device_id is None:
        return [], after
    users, heard = changed_since(context.node, caller.user_id, after=after, until=until)
    return [] if question.initial else users, heard


def _to_device(context: Context, question: _Question) -> tuple[list[JsonObject], int, bool]:
    """The messages that wait, the position of the last of them, and whether more may wait behind it."""
    caller, after = question.caller, question.token.to_device
    if caller.device_id is None:
        return [], after, False
    rows = context.node.store.to_device(caller.user_id, caller.device_id, after=after, limit=MAX_TO_DEVICE)
    events = [{"content": orjson.loads(row.content), "sender": row.sender, "type": row.type} for row in rows]
    return events, rows[-1].position if rows else after, len(rows) == MAX_TO_DEVICE
