"""What the bot says to people in Matrix: notices, which no program takes for a command."""

from __future__ import annotations

import structlog

from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.megolm.errors import RoomClosed
from linearized.client import ApiError

log = structlog.get_logger(__name__)


class Notices:
    """Says things; ``bot`` is the homeserver as the bot."""

    def __init__(self, bot: HomeserverApi) -> None:
        self._bot = bot

    async def say(self, room_id: str, text: str, *, txn_id: str) -> None:
        """Say something in a room, once for each ``txn_id``. Where the bot is no longer, nothing is said.

        Raises:
            ClientError: the homeserver is away.
        """
        try:
            content = {"msgtype": "m.notice", "body": text}
            await self._bot.send(room_id, "m.room.message", content, txn_id=txn_id)
        except ApiError as error:
            if is_passing(error):
                raise
            log.warning("could not answer", room_id=room_id, error=str(error))
        except RoomClosed as closed:  # which the room was told
            log.info("not answered", room_id=room_id, reason=str(closed))
