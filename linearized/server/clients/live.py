"""``GET rooms/{roomId}/live``: a room's log as it grows, as server-sent events (WHATWG HTML, section 9.2).

Each event is one entry: its data the signed PDU as ``log`` serves it, its ID the entry's ``seq``. A client
that lost its connection names the last ID it has in ``Last-Event-ID`` and misses nothing: the stream is a
cursor into the log, and nothing is queued for it. Where IDs leave numbers out, the caller may not read those
entries.

A stream ends with an event ``end``, whose data is a Matrix error object, when its user has left the room or
its token is no good any more; without one, when the server stops or the client reads too slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import orjson
import trio

from linearized.server.clients.auth import Caller, authenticate
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid, query_integer
from linearized.server.clients.pages import MAX_ENTRIES, as_events, page_of
from linearized.server.clients.views import View
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
# Streams of one account at a time: five devices with a dozen rooms open on each.
MAX_STREAMS: Final = 64
RETRY_MS: Final = 30_000
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

    silence_seconds: ClassVar[float] = HEARTBEAT_SECONDS
    heartbeat: ClassVar[bytes] = HEARTBEAT

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
        if self._ended or not self._greeted:
            await trio.lowlevel.checkpoint()
            greeting = None if self._ended else GREETING
            self._greeted = True
            return greeting
        notifier = self._context.node.notifier
        while True:
            # If this is cancelled, after a silence, the token is looked at anew.
            ticket, self._ticket = self._ticket, None
            if ticket is None:
                await trio.lowlevel.checkpoint()
            else:
                await ticket.wait()
            ticket = notifier.ticket(self._caller.user_id)  # before reading, so that nothing is missed
            try:
                authenticate(self._context, self._request)
                entries, events, is_all = self._next()
            except HttpError as error:
                self._ended = True
                return _end(error)
            if is_all:
                self._ticket = ticket
            if entries:
                self._after = entries[-1].seq
                return events

    def _next(self) -> tuple[Sequence[EntryRow], bytes, bool]:
        """The next entries for the user, the same as events, and whether there is nothing behind them.

        Raises:
            HttpError: 403 ``M_FORBIDDEN`` once a user who left has had everything up to that.
        """
        room_id, context = self._request.params["room_id"], self._context
        page = context.pages.after(room_id, max(self._seen, self._after))
        if page is None:
            raise HttpError(403, "M_FORBIDDEN", "The room is gone")
        # A membership in a room that is followed over MIMI can change without an entry.
        if self._seen >= 0 and page.room.role is not Role.FOLLOWER:
            if page.room.head_seq == self._seen:
                return (), b"", True
            # Who was joined there may read what follows, as far as it does not say that they left.
            if page.entries and self._caller.user_id not in page.users:
                self._seen = page.entries[-1].seq
                return page.entries, page.events, page.is_all
        row = context.views.membership_row(room_id, self._caller.user_id)
        view = context.views.view(page.room, row) if row is not None else None
        if row is None or view is None:
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room")
        found = view.after(context.node.store, after=self._after, before=_MAX_SEQ, limit=MAX_ENTRIES)
        joined = row.membership == "join"
        if not found and not joined:
            raise HttpError(403, "M_FORBIDDEN", "You are not joined to this room any more")
        piece, has_no_more = page_of(found)
        is_all = joined and has_no_more
        self._seen = page.room.head_seq if is_all else -1
        return piece, as_events(piece), is_all


def _end(error: HttpError) -> bytes:
    body = orjson.dumps({"errcode": error.errcode, "error": error.error, **error.extra})
    return b"event: end\ndata: %b\n\n" % body
