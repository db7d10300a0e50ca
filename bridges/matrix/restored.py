"""What to do when the homeserver's database was restored from a backup.

It has forgotten events, members, ghosts, files and keys that it had, and so has everything that was said of
them to be forgotten here. In the rooms, the log has the say for what it decides: its people are there as
ghosts and its state stands; what they said and Matrix lost is said again, with its original time. Who of the
homeserver's users is in a room, the room says. What they had said and their homeserver lost is in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from sqlite3 import Row

import structlog
import trio

from bridges.matrix.content import NotBridged
from bridges.matrix.database import Database
from bridges.matrix.expiry import Expiry
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.heads import Heads
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.inbound import Inbound
from bridges.matrix.kept import Kept, Said
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.media import forget_uploads
from bridges.matrix.megolm.machine import Encryption
from bridges.matrix.membership import Membership
from bridges.matrix.shared_state import SharedState
from linearized.client import ApiError

_NOT_FOUND = 404
log = structlog.get_logger(__name__)


class Restored:
    """Notices it, and puts things right. While ``lock`` is held, nothing else may be shown in Matrix."""

    def __init__(
        self,
        *,
        database: Database,
        homeserver: HomeserverApi,
        ghosts: Ghosts,
        membership: Membership,
        shared: SharedState,
        inbound: Inbound,
        expiry: Expiry,
        encryption: Encryption,
        kept: Kept,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._ghosts = ghosts
        self._membership = membership
        self._shared = shared
        self._inbound = inbound
        self._expiry = expiry
        self._encryption = encryption
        self._kept = kept
        self._heads = Heads(database)
        self._links = RoomLinks(database)
        self.lock = trio.Lock()
        self.noticed = trio.Event()

    def suspect(self) -> None:
        """The homeserver may have been restarted, on whatever database."""
        self._heads.suspect()

    async def look(self, link: Link) -> bool:
        """Whether the homeserver has forgotten the newest event that it had in a room; if so, everything is
        prepared for ``mend``.

        Raises:
            ClientError: the homeserver does not answer.
        """
        room_id = link.matrix_room_id
        event_id = self._heads.of(room_id)
        if event_id is None:
            return False
        if await self._has(room_id, event_id) or not await self._is_there(room_id):
            self._heads.found(room_id, event_id)
            return False
        log.warning("the homeserver was restored from a backup", room_id=room_id, event_id=event_id)
        self._begin([one for one in self._links.all() if one.phase is Phase.LIVE])
        return True

    def again(self, link: Link) -> None:
        """A room is to be put right, in which the bot has not been for a while; ``mend`` does it."""
        self._begin([link])

    def put_right(self, link: Link) -> None:
        """A room lacks what the log has, because it is new; ``mend`` gives it that."""
        self._database.run("INSERT OR REPLACE INTO restored VALUES (?, 0)", link.matrix_room_id)
        self.noticed.set()

    def _begin(self, links: Sequence[Link]) -> None:
        with self._database.together():
            for link in links:
                self._database.run("INSERT OR REPLACE INTO restored VALUES (?, 0)", link.matrix_room_id)
            self._heads.clear()
            self._ghosts.forget_all()
            self._encryption.restored()
            forget_uploads(self._database)
        self.noticed.set()

    async def _has(self, room_id: str, event_id: str) -> bool:
        try:
            await self._homeserver.event(room_id, event_id)
        except ApiError as error:
            if is_passing(error):
                raise
            # Whatever else it answers, such as that we may not see it, says nothing of the event.
            return error.status != _NOT_FOUND
        return True

    async def _is_there(self, room_id: str) -> bool:
        """Whether the bot is in a room. Where it is not, some homeservers have no events for it."""
        try:
            await self._homeserver.joined_members(room_id)
        except ApiError as error:
            if is_passing(error):
                raise
            return False
        return True

    async def mend(self) -> None:
        """Put right what a restored homeserver has forgotten; a kill in between is continued."""
        self.noticed = trio.Event()
        rows = self._database.all("SELECT * FROM restored ORDER BY matrix_room_id")
        if not rows:
            return
        async with self.lock:
            reason = await carried(self._ours)
            if reason is not None:
                log.error("the homeserver does not take our users", reason=reason)
            for row in rows:
                await self._mend_room(row)

    async def _ours(self) -> None:
        await self._ghosts.ensure_bot()
        await self._encryption.republish()

    async def _mend_room(self, row: Row) -> None:
        link, shown = self._links.of_matrix(row["matrix_room_id"]), 0
        if link is not None and await self._worked(self._enter, link):
            if not row["looked"]:
                # Before anything new is said, so that this is not taken for what was there.
                await self._worked(self._compare, link)
            await self._worked(self._expire, link)
            await self._worked(self._shared.fill, link)
            await self._worked(self._membership.again, link)
            while (said := self._kept.next_lost(link.matrix_room_id)) is not None:
                await self._show(link, said)
                shown += 1
            if shown:  # some of those who spoke have left since
                await self._worked(self._membership.again, link)
        self._database.run("DELETE FROM restored WHERE matrix_room_id = ?", row["matrix_room_id"])
        log.info("a restored room was looked after", room_id=row["matrix_room_id"], shown_again=shown)

    async def _worked(self, step: Callable[[Link], Awaitable[None]], link: Link) -> bool:
        reason = await carried(lambda: step(link))
        if reason is not None:
            room_id = link.matrix_room_id
            log.error("a restored room is not in order", room_id=room_id, step=step.__name__, reason=reason)
        return reason is None

    async def _enter(self, link: Link) -> None:
        await self._homeserver.join(link.matrix_room_id)

    async def _compare(self, link: Link) -> None:
        """Find what the homeserver has lost of what ghosts had said."""
        lost = [
            log_event_id
            for log_event_id, event_id in self._kept.shown(link.matrix_room_id)
            if not await self._has(link.matrix_room_id, event_id)
        ]
        with self._database.together():
            for log_event_id in lost:
                self._kept.lost(log_event_id)
            self._database.run("UPDATE restored SET looked = 1 WHERE matrix_room_id = ?", link.matrix_room_id)

    async def _expire(self, link: Link) -> None:
        """What had expired and is there again goes again."""
        room_id = link.matrix_room_id
        await self._expiry.again(room_id, lambda event_id: self._has_content(room_id, event_id))

    async def _has_content(self, room_id: str, event_id: str) -> bool:
        try:
            return bool((await self._homeserver.event(room_id, event_id)).get("content"))
        except ApiError as error:
            if is_passing(error):
                raise
            return False

    async def _show(self, link: Link, said: Said) -> None:
        try:
            reason = await carried(lambda: self._inbound.show(link, said))
        except NotBridged as decision:
            reason = str(decision)
        if reason is not None:
            log.error("not shown again", event_id=said.log_event_id, reason=reason)
        self._kept.shown_again(said)
