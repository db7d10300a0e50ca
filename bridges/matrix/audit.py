"""Finding what the homeserver forgot to push.

Events that reach a homeserver late, by back-filling, are never pushed to application services, and after a
restart it may lose some altogether. So now and then the newest part of each room's timeline is read again,
and what was never here joins the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import structlog
import trio

from bridges.matrix.records import IncomingQueue, Link
from linearized.client import ClientError, Page

AUDIT_PAGE = 100
# Pages read even if they hold nothing new: back-filled events may lie between known ones.
MIN_PAGES = 3
# Pages read at most in one audit; the next one goes on where nothing is known.
MAX_PAGES = 50
# The homeserver waits a minute for the answer to its transaction, and then sends it again.
CATCH_UP_DEADLINE = 20.0


class Timelines(Protocol):
    """The homeserver, as far as it has to be asked."""

    async def messages_before(self, room_id: str, token: str | None, *, limit: int) -> Page:
        """As ``HomeserverApi``."""
        ...


log = structlog.get_logger(__name__)


async def catch_up(links: Iterable[Link], homeserver: Timelines, queue: IncomingQueue) -> int:
    """Queue what the homeserver forgot to push just now, in rooms of which it is going to push what is newer;
    returns how many events. If it does not say, the next audit finds them.
    """
    found = 0
    with trio.move_on_after(CATCH_UP_DEADLINE):
        for link in links:
            try:
                found += await audit(link, homeserver, queue, min_pages=1)
            except ClientError as error:
                log.warning("catching up failed", room_id=link.matrix_room_id, error=str(error))
    return found


async def audit(
    link: Link, homeserver: Timelines, queue: IncomingQueue, *, min_pages: int = MIN_PAGES
) -> int:
    """Queue the events of a room that were never pushed, oldest first; returns how many. ``min_pages`` are
    read whatever is in them.

    Raises:
        ClientError: the homeserver does not answer; nothing is lost by trying later.
    """
    missing = []
    token: str | None = None
    for number in range(1, MAX_PAGES + 1):
        page = await homeserver.messages_before(link.matrix_room_id, token, limit=AUDIT_PAGE)
        new = [event for event in page.chunk if not queue.knows(str(event.get("event_id", "")))]
        missing += new
        token = page.end
        if token is None or not page.chunk or (number >= min_pages and not new):
            break
    return sum(queue.add(event) for event in reversed(missing))
