"""What a sync tells beside a room's log: who has read how far and who is typing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.store.receipts import UNTHREADED, ReceiptRow

# Receipts in one answer, at some hundred bytes each; what does not fit comes with the next.
MAX_RECEIPTS: Final = 5_000
# Receipts of a room that a newcomer is told of: the latest.
MAX_ROOM_RECEIPTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Ephemeral events by room, and how far the one who is told has then heard of receipts and of typing."""

    events: dict[str, list[JsonObject]]
    receipts: int
    typing: int


def read_ephemeral(
    context: Context,
    caller: Caller,
    *,
    rooms: Collection[str],
    arrived: Collection[str],
    receipts_after: int,
    typing_after: int,
    complete: bool,
) -> Heard:
    """What is new to the caller.

    Args:
        rooms: which rooms may be told of.
        arrived: those of them that are told of for the first time: there what is old is news, too.
        complete: False while more rooms are to come, so that no room is told of by its receipts alone.
    """
    events, receipts = read_receipts(
        context, caller, rooms=rooms, arrived=arrived, after=receipts_after, complete=complete
    )
    told, typing = read_typing(
        context, rooms if complete else [each for each in arrived if each in rooms], arrived, typing_after
    )
    for room_id, event in told.items():
        events.setdefault(room_id, []).append(event)
    # Of the rooms that are still to come nothing has been told up to there.
    return Heard(events=events, receipts=receipts, typing=typing if complete else typing_after)


def read_receipts(
    context: Context,
    caller: Caller,
    *,
    rooms: Collection[str],
    arrived: Collection[str],
    after: int,
    complete: bool = True,
) -> tuple[dict[str, list[JsonObject]], int]:
    """New receipts as events by room, and how far they are told then; the arguments as in
    ``read_ephemeral``.
    """
    store = context.node.store
    rows = store.receipts(caller.user_id, after=after, limit=MAX_RECEIPTS) if complete else []
    by_room: dict[str, list[ReceiptRow]] = {}
    for room_id in arrived if after else ():
        old = store.receipts_in(room_id, caller.user_id, until=after, limit=MAX_ROOM_RECEIPTS)
        by_room[room_id] = old[::-1]
    for row in rows:
        by_room.setdefault(row.room_id, []).append(row)
    events = {room_id: receipt_events(found) for room_id, found in by_room.items() if room_id in rooms}
    return {room_id: found for room_id, found in events.items() if found}, (
        rows[-1].position if rows else after
    )


def read_typing(
    context: Context, rooms: Iterable[str], arrived: Collection[str], after: int
) -> tuple[dict[str, JsonObject], int]:
    """Who types now, as one event for each room where that is news, and how far it is told then."""
    events: dict[str, JsonObject] = {}
    last = after
    for room_id in rooms:
        news = context.typists.news(room_id, after=0 if room_id in arrived else after)
        if news is not None:
            events[room_id] = {"type": "m.typing", "content": {"user_ids": news[1]}}
            last = max(last, news[0])
    return events, last


def receipt_events(rows: Iterable[ReceiptRow]) -> list[JsonObject]:
    """Receipts of one room as ``m.receipt`` events: one, or more where a user has several for one event, in
    different threads.
    """
    contents: list[dict[str, dict[str, dict[str, Any]]]] = []
    for row in rows:
        value: JsonObject = {"ts": row.ts}
        if row.thread_id != UNTHREADED:
            value["thread_id"] = row.thread_id
        for content in contents:
            of_kind = content.setdefault(row.event_id, {}).setdefault(row.kind, {})
            if row.user_id not in of_kind:
                of_kind[row.user_id] = value
                break
        else:
            contents.append({row.event_id: {row.kind: {row.user_id: value}}})
    return [{"type": "m.receipt", "content": content} for content in contents]
