"""Matrix rooms that are replaced by others: an upgrade to a newer room version, most often.

The old room says which one replaces it (``m.room.tombstone``), and the new one which it comes from. Where the
two agree, the bridging goes on in the new room, with the same room at the provider: nobody there notices
anything but who has come along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from bridges.matrix.content import JsonObject
from bridges.matrix.database import Database
from bridges.matrix.failures import is_passing
from bridges.matrix.heads import Heads
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.notices import Notices
from bridges.matrix.queue import Incoming
from linearized.client import ApiError

TOMBSTONE: Final = "m.room.tombstone"
_FORBIDDEN, _NOT_FOUND = 403, 404

log = structlog.get_logger(__name__)


class Upgrades:
    """Lets the bridging of rooms move on. ``bot`` is the homeserver as the bot; ``put_right`` is told of a
    link whose Matrix room lacks everything that the log has.
    """

    def __init__(
        self,
        *,
        database: Database,
        bot: HomeserverApi,
        bot_name: str,
        notices: Notices,
        put_right: Callable[[Link], None],
    ) -> None:
        self._database = database
        self._links = RoomLinks(database)
        self._heads = Heads(database)
        self._bot = bot
        self._bot_name = bot_name
        self._notices = notices
        self._put_right = put_right

    def is_end(self, incoming: Incoming) -> bool:
        """Whether an event says that a bridged room is replaced."""
        event = incoming.event
        return (
            event.get("type") == TOMBSTONE
            and event.get("state_key") == ""
            and self._links.of_matrix(incoming.room_id) is not None
        )

    async def follow(self, incoming: Incoming) -> None:
        """A bridged room is replaced: go where it says.

        Raises:
            ClientError: the homeserver is away or refuses; doing it again continues.
        """
        link = self._links.of_matrix(incoming.room_id)
        new = await self._named(incoming.room_id, TOMBSTONE, ("replacement_room",))
        if link is None or new is None or self._links.of_matrix(new) is not None:
            return
        try:
            await self._bot.join(new)
        except ApiError as error:
            if is_passing(error):
                raise
            text = f"This room is replaced by {new}. Invite {self._bot_name} there, and the bridging goes on."
            log.warning("a room was replaced", room_id=incoming.room_id, new=new, error=str(error))
            await self._notices.say(link.matrix_room_id, text, txn_id=f"replaced-{incoming.event_id}")
            return
        if not await self.came_into(new):
            log.warning("a room does not come from the one it replaces", room_id=link.matrix_room_id, new=new)
            await self._bot.leave(new)

    async def came_into(self, room_id: str) -> bool:
        """The bot has come into a room that is not bridged; whether this replaces one that is, and the
        bridging goes on here now.

        Raises:
            ClientError: the homeserver is away or refuses; doing it again continues.
        """
        old = await self._named(room_id, "m.room.create", ("predecessor", "room_id"))
        link = None if old is None else self._links.of_matrix(old)
        if link is None or old is None or link.phase is not Phase.LIVE:
            return False
        # Anybody can say of a room of theirs that it comes from another. The other one has to say it, too.
        if await self._named(old, TOMBSTONE, ("replacement_room",)) != room_id:
            return False
        with self._database.together():
            self._links.move(old, room_id)
            self._heads.drop(old)
            moved = self._links.begin(room_id)
            self._put_right(moved)
        log.info("a room was replaced", room_id=old, new=room_id, provider_room=moved.room_id)
        await self._notices.say(
            room_id, f"The bridging of {old} goes on here.", txn_id=f"moved-{old}-{room_id}"
        )
        return True

    async def _named(self, room_id: str, kind: str, path: tuple[str, ...]) -> str | None:
        """A room ID that stands in a room's state."""
        try:
            value: object = (await self._bot.state_event(room_id, kind)).get("content")
        except ApiError as error:
            if error.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
            return None
        for name in path:
            value = _object(value).get(name)
        return value if isinstance(value, str) and value.startswith("!") else None


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
