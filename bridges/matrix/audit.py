"""Finding what the homeserver forgot to push.

Events that reach a homeserver late, by back-filling, are never pushed to application services, and after a
restart it may lose some altogether. So now and then the newest part of each room's timeline is read again,
and what was never here joins the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
import trio

from bridges.matrix.records import IncomingQueue, Link
from linearized.client import ClientError, Page

AUDIT_PAGE = 100
# Pages read even if they hold nothing new: back-filled events may lie between known ones.
MIN_PAGES = 3
# Pages read at most in one audit; the next one goes on where nothing is known.
MAX_PAGES = 50
# Audits without a find after which a room is read no further back than usual.
QUIET_AUDITS = 5
# The homeserver waits a minute for the answer to its transaction, and then sends it again.
CATCH_UP_DEADLINE = 20.0

JsonObject = dict[str, Any]


class Timelines(Protocol):
    """The homeserver, as far as it has to be asked."""

    async def messages_before(self, room_id: str, token: str | None, *, limit: int) -> Page:
        """As ``HomeserverApi``."""
        ...


log = structlog.get_logger(__name__)


class Audits:
    """Reads rooms again. It remembers, as long as it lives, how far back something was found in each."""

    def __init__(self, homeserver: Timelines, queue: IncomingQueue) -> None:
        self._homeserver = homeserver
        self._queue = queue
        self._deep: dict[str, _Deep] = {}

    async def run(self, link: Link) -> int:
        """Queue the events of a room that were never pushed, oldest first; returns how many.

        A homeserver that lacks events goes on fetching them after it has answered. So what lies as far back
        as something was found is read again, until audits have found nothing for a while.

        Raises:
            ClientError: the homeserver does not answer; nothing is lost by trying later.
        """
        deep = self._deep.get(link.matrix_room_id, _Deep())
        reading = await _read(link, self._homeserver, self._queue, MIN_PAGES, until=deep.event_id)
        found = _queue(reading, self._queue)
        if found and not reading.is_before(deep.event_id):
            deep.event_id = reading.deepest
        deep.quiet = 0 if found else deep.quiet + 1
        self._deep[link.matrix_room_id] = deep if deep.quiet < QUIET_AUDITS else _Deep(quiet=deep.quiet)
        return found

    async def catch_up(self, links: Iterable[Link]) -> int:
        """Queue what the homeserver forgot to push just now, in rooms of which it is going to push what is
        newer; returns how many events. If it does not say, the next audit finds them.
        """
        found = 0
        with trio.move_on_after(CATCH_UP_DEADLINE):
            for link in links:
                try:
                    found += _queue(await _read(link, self._homeserver, self._queue, 1), self._queue)
                except ClientError as error:
                    log.warning("catching up failed", room_id=link.matrix_room_id, error=str(error))
        return found


@dataclass(slots=True)
class _Deep:
    """The end of the deepest page with something new, and how many audits have found nothing since."""

    event_id: str | None = None
    quiet: int = 0


@dataclass(slots=True)
class _Reading:
    """What was never here, newest first; the end of the deepest page that had some of it; and what ended the
    pages after that.
    """

    missing: list[JsonObject] = field(default_factory=list)
    deepest: str | None = None
    behind: list[str] = field(default_factory=list)

    def is_before(self, event_id: str | None) -> bool:
        """Whether a page that an earlier audit went back to lies behind everything that is new."""
        return event_id is not None and event_id in self.behind


async def _read(
    link: Link, homeserver: Timelines, queue: IncomingQueue, min_pages: int, *, until: str | None = None
) -> _Reading:
    """Read ``min_pages`` and as far as the event ``until``, whatever is there, and on while there is
    something new.
    """
    found, token, reached = _Reading(), None, until is None
    for number in range(1, MAX_PAGES + 1):
        page = await homeserver.messages_before(link.matrix_room_id, token, limit=AUDIT_PAGE)
        ids = [str(event.get("event_id", "")) for event in page.chunk]
        new = [event for event, known in zip(page.chunk, map(queue.knows, ids), strict=True) if not known]
        reached = reached or until in ids
        found.missing += new
        if new:
            found.deepest, found.behind = ids[-1], []
        else:
            found.behind += ids
        token = page.end
        if token is None or not page.chunk or (number >= min_pages and reached and not new):
            break
    return found


def _queue(reading: _Reading, queue: IncomingQueue) -> int:
    return sum(queue.add(event) for event in reversed(reading.missing))
