"""``GET rooms/{roomId}/live``: a room's log as it grows, as server-sent events (WHATWG HTML, section 9.2).

Each event is one entry: its data the signed PDU as ``log`` serves it, its ID the entry's ``seq``. A client
that lost its connection names the last ID it has in ``Last-Event-ID`` and misses nothing: the stream is a
cursor into the log, and nothing is queued for it. Where IDs leave numbers out, the caller may not read those
entries.

A stream ends with an event ``end``, whose data is a Matrix error object, when its user has left the room or
its token is no good any more; without one, when the server stops or the client reads too slowly.
"""

from __future__ import annotations

from typing import Final

import orjson
import trio

from linearized.server.clients.auth import Caller, authenticate
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.views import View, fitting
from linearized.server.http import HttpError, Request
from linearized.server.streaming import StreamResponse
from linearized.store.base import EntryRow, Role

CONTENT_TYPE: Final = "text/event-stream"
HEADERS: Final = (
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # nginx would hold small pieces back
)
# Proxies give up on silent connections after a minute; half of that leaves room for a slow one. It is also
# how long a token that was revoked behind our back goes on working.
HEARTBEAT_SECONDS: Final = 30
HEARTBEAT: Final = b":\n\n"
# How long a browser waits before it connects again, milliseconds: a server that restarts takes about that.
GREETING: Final = b"retry: 2000\n\n"
# Entries and bytes of PDUs in one piece, the most that a stream holds at a time; the largest entry alone may
# be more.
MAX_ENTRIES: Final = 100
MAX_PIECE_BYTES: Final = 256 * 1024
# Streams of one account at a time: five devices with a dozen rooms open on each.
MAX_STREAMS: Final = 64
RETRY_MS: Final = 30_000
_MEMBER: Final = "m.room.member"
_MAX_SEQ: Final = 2**53 - 1
_MAX_DIGITS: Final = 16  # of _MAX_SEQ


async def live(context: Context, request: Request, caller: Caller) -> StreamResponse:
    """Entries from number ``from`` on, or those behind ``Last-Event-ID``; without either, only new ones.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` for who is not joined; 400 ``M_INVALID_PARAM`` for what is no number,
            or is ahead of the log; 429 ``M_LIMIT_EXCEEDED`` past ``MAX_STREAMS``.
    """
    view = context.views.require(request.params["room_id"], caller.user_id, joined=True)
    after = _after(request, view)
    account = caller.owner or caller.user_id
    if context.tails[account] >= MAX_STREAMS:
        raise HttpError(
            429, "M_LIMIT_EXCEEDED", f"An account may have {MAX_STREAMS} streams", retry_after_ms=RETRY_MS
        )
    tail = _Tail(context, request, caller, after=after, account=account)
    return StreamResponse(content_type=CONTENT_TYPE, headers=HEADERS, source=tail)


def _after(request: Request, view: View) -> int:
    """The last entry that the client has; "the event source's last event ID string" comes back as a header
    and wins, for a browser repeats the first request's query for ever.
    """
    last = request.headers.get("last-event-id", "").strip()
    if last:
        if not (last.isascii() and last.isdecimal() and len(last) <= _MAX_DIGITS):
            raise invalid("Last-Event-ID is not an ID of this stream")
        after = int(last)
    else:
        after = query_integer(request, "from", default=view.head + 1, maximum=_MAX_SEQ) - 1
    if after > view.head:
        raise invalid("That is ahead of this log: was the server restored from a backup? Read it anew")
    return max(after, 0)


class _Tail:
    """One stream: a place in the log and who reads it."""

    def __init__(
        self, context: Context, request: Request, caller: Caller, *, after: int, account: str
    ) -> None:
        self._context = context
        self._request = request
        self._caller = caller
        self._account = account
        self._after = after
        self._seen = -1  # up to where everything is told; the user was joined there
        self._ticket: trio.Event | None = None  # of before that, to wait on for more
        self._greeted = False
        self._ended = False
        self._open = True
        context.tails[account] += 1

    def close(self) -> None:
        """Give the account its place back."""
        if self._open:
            self._open = False
            self._context.tails[self._account] -= 1
            if not self._context.tails[self._account]:
                del self._context.tails[self._account]

    async def read(self) -> bytes | None:
        """What there is to tell, as soon as there is something."""
        await trio.lowlevel.checkpoint()
        if self._ended:
            return None
        if not self._greeted:
            self._greeted = True
            return GREETING
        notifier = self._context.node.notifier
        while True:
            ticket, self._ticket = self._ticket, None
            if ticket is not None and not await notifier.wait(ticket, HEARTBEAT_SECONDS):
                return HEARTBEAT
            ticket = notifier.ticket(self._caller.user_id)  # before reading, so that nothing is missed
            try:
                authenticate(self._context, self._request)
                entries, is_all = self._entries()
            except HttpError as error:
                self._ended = True
                return _end(error)
            if is_all:
                self._ticket = ticket
            if entries:
                self._after = entries[-1].seq
                return b"".join(b"id: %d\ndata: %b\n\n" % (entry.seq, entry.pdu) for entry in entries)

    def _entries(self) -> tuple[list[EntryRow], bool]:
        """The next entries for the user, and whether there is nothing to tell behind them.

        Raises:
            HttpError: 403 ``M_FORBIDDEN`` once a user who left has had everything up to that.
        """
        room_id, store = self._request.params["room_id"], self._context.node.store
        room = store.room(room_id)
        if room is None:
            raise HttpError(403, "M_FORBIDDEN", "The room is gone")
        # A membership in a room that is followed over MIMI can change without an entry.
        if room.head_seq == self._seen and room.role is not Role.FOLLOWER:
            return [], True
        if self._seen >= 0 and room.role is not Role.FOLLOWER:
            # Who was joined there may read what follows, as far as it does not say that they left.
            found = store.entries(room_id, after=max(self._seen, self._after), limit=MAX_ENTRIES)
            if found and not any(self._is_membership(entry) for entry in found):
                piece = fitting(found, MAX_PIECE_BYTES)
                self._seen = piece[-1].seq
                return piece, len(piece) == len(found) < MAX_ENTRIES
        row = self._context.views.membership_row(room_id, self._caller.user_id)
        view = self._context.views.view(room, row) if row is not None else None
        if row is None or view is None:
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
        found = view.after(store, after=self._after, before=_MAX_SEQ, limit=MAX_ENTRIES)
        joined = row.membership == "join"
        if not found and not joined:
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room any more")
        piece = fitting(found, MAX_PIECE_BYTES)
        is_all = joined and len(piece) == len(found) < MAX_ENTRIES
        self._seen = room.head_seq if is_all else -1
        return piece, is_all

    def _is_membership(self, entry: EntryRow) -> bool:
        return entry.type == _MEMBER and entry.state_key == self._caller.user_id


def _end(error: HttpError) -> bytes:
    body = orjson.dumps({"errcode": error.errcode, "error": error.error, **error.extra})
    return b"event: end\ndata: %b\n\n" % body
