"""Read receipts, both ways: what a homeserver calls ``m.read`` is a status report in the room's group.

A report is a message in the log for good, so there are few: a room's policy or the operator must want them,
and who reads on is reported once, for the newest message they have read. A receipt that a kill or a refusal
swallows is not made up for: the next one says more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import structlog
import trio

from bridges.matrix.content import JsonObject
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.failures import EXPECTED, is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.puppets import Puppets
from linearized.client import ApiError, MessageStatus, StatusReport, status_report

# Seconds in which somebody who reads on is reported once.
PAUSE: Final = 10.0
# Readers that wait to be reported, all rooms together: more than read in ten seconds on a homeserver whose
# users all share one bridge. What is over that is not reported.
MAX_WAITING: Final = 1000
_SALT_BYTES: Final = 16

log = structlog.get_logger(__name__)


class Receipts:
    """Carries receipts across; ``wanted`` is what the operator says of rooms whose policy leaves it open."""

    def __init__(
        self,
        *,
        wanted: bool,
        names: Names,
        puppets: Puppets,
        ghosts: Ghosts,
        links: RoomLinks,
        messages: Messages,
        speaking: Speaking,
        random: Callable[[int], bytes],
    ) -> None:
        self._speaking = speaking
        self._wanted = wanted
        self._names = names
        self._puppets = puppets
        self._ghosts = ghosts
        self._links = links
        self._messages = messages
        self._random = random
        self._waiting: dict[tuple[str, str], str] = {}  # (room, user): the event they have read
        self._heard = trio.Event()

    def hear(self, units: Sequence[object]) -> None:
        """Note what the homeserver pushes of those that are no events; anything malformed is nothing."""
        for unit in units:
            for room_id, user_id, event_id in _reads(unit):
                known = (room_id, user_id) in self._waiting
                if self._speaking.is_own_reading(room_id, user_id, event_id):
                    continue
                if self._names.is_bridged(user_id) and (known or len(self._waiting) < MAX_WAITING):
                    self._waiting[room_id, user_id] = event_id
                    self._heard.set()

    async def run(self) -> None:
        """Report what was heard, for ever."""
        while True:
            await self._heard.wait()
            await trio.sleep(PAUSE)
            await self.report()

    async def report(self) -> None:
        """Report what was heard so far."""
        self._heard = trio.Event()
        waiting, self._waiting = self._waiting, {}
        for (room_id, user_id), event_id in waiting.items():
            try:
                await self._report(room_id, user_id, event_id)
            except EXPECTED as error:
                log.info("a receipt was not sent", room_id=room_id, error=type(error).__name__)

    async def _report(self, matrix_room_id: str, user_id: str, event_id: str) -> None:
        link, known = self._links.of_matrix(matrix_room_id), self._messages.by_matrix(event_id)
        if link is None or link.room_id is None or link.phase is not Phase.LIVE:
            return
        if known is None or known.message_id is None or known.sender == user_id:
            return
        if self._speaking.is_same_person(user_id, known.sender):
            return
        bot = self._puppets.bot.device
        if not bot.in_group(link.room_id) or not bot.sends_read_receipts(link.room_id, wanted=self._wanted):
            return
        session = self._puppets.session(user_id)
        if not session.device.in_group(link.room_id):
            await self._puppets.follow(user_id)
        if not session.device.in_group(link.room_id):
            return
        content = status_report(((known.message_id, MessageStatus.READ),), salt=self._random(_SALT_BYTES))
        await session.send(link.room_id, content, txn_id=f"read-{event_id}")
        self._puppets.drop_read(session)  # what a client reads while it follows, the bot reads too

    async def to_matrix(self, link: Link, sender: str, report: StatusReport) -> None:
        """Let a ghost have read what somebody at another provider has; or them, if they have two accounts.

        Raises:
            ApiError, ServerUnreachable: the homeserver is away.
        """
        here = self._messages.within(link.matrix_room_id)
        read = [message_id for message_id, status in report.statuses if status is MessageStatus.READ]
        known = next(filter(None, map(here.by_message, reversed(read))), None)
        if known is None:
            return
        if await self._speaking.read(link.matrix_room_id, sender, known.matrix_event_id):
            return
        ghost = await self._ghosts.ensure_joined(link.matrix_room_id, sender)
        try:
            await ghost.receipt(link.matrix_room_id, known.matrix_event_id)
        except ApiError as error:
            if is_passing(error):
                raise
            log.info("a receipt was refused", room_id=link.matrix_room_id, status=error.status)


def _reads(unit: object) -> Iterator[tuple[str, str, str]]:
    """Room, user and event of each public receipt in an ``m.receipt`` unit, as far as it is one."""
    match unit:
        case {"type": "m.receipt", "room_id": str(room_id), "content": Mapping() as events}:
            for event_id, kinds in events.items():
                match kinds:
                    case {"m.read": Mapping() as users}:
                        yield from ((room_id, str(user_id), str(event_id)) for user_id in users)


def units_of(transaction: JsonObject) -> Sequence[object]:
    """What a transaction holds beside events, under the name of today or that of MSC2409."""
    for name in ("ephemeral", "de.sorunome.msc2409.ephemeral"):
        units = transaction.get(name)
        if isinstance(units, list) and units:
            return units
    return ()
