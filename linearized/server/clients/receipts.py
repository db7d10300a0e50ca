"""Receipts and read markers (Client-Server API, Receipts, and Fully read markers).

They stay on this server: other providers are not told what its users read.
"""

from __future__ import annotations

from typing import Final

import orjson

from linearized.server.clients.account_data import keep
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, optional_text
from linearized.server.clients.history import event_for
from linearized.server.clients.typing_notices import wake
from linearized.server.clients.views import View
from linearized.server.http import Request, Response, json_response
from linearized.store.base import EntryRow
from linearized.store.receipts import MAIN, READ, READ_PRIVATE, UNTHREADED, ReceiptRow

FULLY_READ: Final = "m.fully_read"
# Threads of one room that a user's receipts are kept for: those read last.
MAX_THREADS: Final = 100
KINDS: Final = (FULLY_READ, READ, READ_PRIVATE)


async def receipt(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/receipt/{receiptType}/{eventId}``."""
    kind = request.params["receipt_type"]
    if kind not in KINDS:
        raise invalid(f"A receipt is one of {', '.join(KINDS)}")
    thread_id = optional_text(await request.json(), "thread_id")
    if thread_id is not None and (kind == FULLY_READ or not thread_id):
        raise invalid("m.fully_read has no thread, and a thread's ID is never empty")
    view = context.views.require(request.params["room_id"], caller.user_id, joined=True)
    if thread_id is not None and thread_id != MAIN:
        event_for(context, view, thread_id)
    entry = event_for(context, view, request.params["event_id"])
    await _mark(context, caller, view, {kind: entry}, thread_id=thread_id or UNTHREADED)
    return json_response({})


async def read_markers(context: Context, request: Request, caller: Caller) -> Response:
    """``POST rooms/{roomId}/read_markers``: all three at once."""
    body = await request.json()
    named = {kind: event_id for kind in KINDS if (event_id := optional_text(body, kind)) is not None}
    view = context.views.require(request.params["room_id"], caller.user_id, joined=True)
    marked = {kind: event_for(context, view, event_id) for kind, event_id in named.items()}
    await _mark(context, caller, view, marked, thread_id=UNTHREADED)
    return json_response({})


async def _mark(
    context: Context, caller: Caller, view: View, marked: dict[str, EntryRow], *, thread_id: str
) -> None:
    room_id = view.room.room_id
    rows = [
        ReceiptRow(
            room_id=room_id,
            user_id=caller.user_id,
            kind=kind,
            thread_id=thread_id,
            event_id=entry.event_id,
            seq=entry.seq,
            ts=context.node.clock(),
        )
        for kind, entry in marked.items()
        if kind != FULLY_READ
    ]
    if rows and await context.node.store.put_receipts(rows, most_threads=MAX_THREADS):
        if any(row.kind == READ for row in rows):
            wake(context, room_id)
        context.node.notifier.users_changed([caller.user_id])
    if FULLY_READ in marked:
        await _fully_read(context, caller, room_id, marked[FULLY_READ])


async def _fully_read(context: Context, caller: Caller, room_id: str, entry: EntryRow) -> None:
    """Move the marker, which is account data, forward."""
    stored = context.node.store.account_datum(caller.user_id, room_id, FULLY_READ)
    before = context.node.store.entry_by_id(orjson.loads(stored)["event_id"]) if stored is not None else None
    if before is None or before.seq < entry.seq:
        await keep(context, caller, room_id, FULLY_READ, {"event_id": entry.event_id})
