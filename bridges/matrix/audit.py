"""Finding what the homeserver forgot to push.

Events that reach a homeserver late, by back-filling, are never pushed to application services, and after a
restart it may lose some altogether. So now and then the newest part of each room's timeline is read again,
and what was never here joins the queue.
"""

from __future__ import annotations

from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.records import IncomingQueue, Link

AUDIT_PAGE = 100
# Pages read even if they hold nothing new: back-filled events may lie between known ones.
MIN_PAGES = 3
# Pages read at most in one audit; the next one goes on where nothing is known.
MAX_PAGES = 50


async def audit(link: Link, homeserver: HomeserverApi, queue: IncomingQueue) -> int:
    """Queue the events of a room that were never pushed, oldest first; returns how many.

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
        if token is None or not page.chunk or (number >= MIN_PAGES and not new):
            break
    return sum(queue.add(event) for event in reversed(missing))
