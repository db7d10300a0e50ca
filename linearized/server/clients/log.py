"""``GET rooms/{roomId}/log``: the log as signed PDUs, for clients that verify it themselves."""

from __future__ import annotations

from typing import Final

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import query_integer
from linearized.server.clients.views import fitting
from linearized.server.http import Request, Response
from linearized.store.base import EntryRow

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500
# Bytes of PDUs in one page: five hundred ordinary ones fit, and even the largest commit is a fraction of it.
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
_MAX_SEQ: Final = 2**53 - 1


async def log(context: Context, request: Request, caller: Caller) -> Response:
    """Entries with ``seq > after``, ascending and without gaps, exactly as stored: ``pdus[i]`` is ``first_seq
    + i``.

    A page ends where entries follow that the caller may not read; the next page starts behind them.
    """
    room_id = request.params["room_id"]
    view = context.views.require(room_id, caller.user_id, joined=True)
    after = query_integer(request, "after", default=0, maximum=_MAX_SEQ)
    limit = max(1, query_integer(request, "limit", default=DEFAULT_PAGE, maximum=MAX_PAGE))
    entries = view.after(context.node.store, after=after, before=_MAX_SEQ, limit=limit)
    run = _contiguous(fitting(entries, MAX_PAGE_BYTES))
    first = run[0].seq if run else after + 1
    # The stored bytes go out as they are: what was signed is never encoded anew.
    pdus = b",".join(entry.pdu for entry in run)
    body = b'{"first_seq":%d,"head_seq":%d,"pdus":[%b]}' % (first, view.head, pdus)
    return Response(body=body)


def _contiguous(entries: list[EntryRow]) -> list[EntryRow]:
    run: list[EntryRow] = []
    for entry in entries:
        if run and entry.seq != run[-1].seq + 1:
            break
        run.append(entry)
    return run
