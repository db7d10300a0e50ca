"""How long a Matrix room keeps what is said in it (``m.room.retention``, MSC1763), as MIMI's expiration."""

from __future__ import annotations

from typing import Final

from bridges.matrix.content import JsonObject
from bridges.matrix.database import Database
from bridges.matrix.expiry import MS, Expirations, Expiring, State
from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link
from bridges.matrix.message_map import Messages
from linearized.client import ApiError
from linearized.mimi.content import Expiration

RETENTION: Final = "m.room.retention"
# Receivers may take an expiration that "refers to a date more than a year in the future" for an attack.
MAX_LIFETIME_MS: Final = 365 * 86400 * MS


class Retention:
    """Says when messages from Matrix end. ``bot`` is the homeserver as the bot."""

    def __init__(self, *, database: Database, bot: HomeserverApi) -> None:
        self._bot = bot
        self._messages = Messages(database)
        self._expirations = Expirations(database)
        # By Matrix room, as far as they were asked for; milliseconds. One for each room that is bridged.
        self._lifetimes: dict[str, int | None] = {}

    def changed(self, matrix_room_id: str) -> None:
        """The room's setting is another now."""
        self._lifetimes.pop(matrix_room_id, None)

    async def expiration(self, link: Link, event: JsonObject) -> Expiration | None:
        """When a message of the room ends: after the room's time or, if it is an edit, with what it edits.

        Raises:
            ClientError: the homeserver is away.
        """
        original = self._edited(event)
        if original is not None:
            found = self._expirations.find(original)
            return None if found is None else Expiration(relative=False, time=found.at // MS)
        lifetime, sent = await self._lifetime(link.matrix_room_id), event.get("origin_server_ts")
        if lifetime is None or not isinstance(sent, int):
            return None
        time = -(-(sent + lifetime) // MS)  # rounded up: nothing goes before its time
        return Expiration(relative=False, time=time) if 0 <= time < 1 << 32 else None

    def sent(self, link: Link, log_event_id: str, sender: str, expiration: Expiration | None) -> None:
        """A message is in the log; its edits will ask when it ends."""
        if expiration is not None:
            at = expiration.time * MS
            expiring = Expiring(
                log_event_id=log_event_id, matrix_room_id=link.matrix_room_id, sender=sender, at=at
            )
            self._expirations.put(expiring, State.THEIRS)

    def _edited(self, event: JsonObject) -> str | None:
        """The event ID in the log of what an event edits, if that came across."""
        content = event.get("content")
        relation = content.get("m.relates_to") if isinstance(content, dict) else None
        if not isinstance(relation, dict) or relation.get("rel_type") != "m.replace":
            return None
        known = self._messages.by_matrix(str(relation.get("event_id")))
        return None if known is None else known.log_event_id

    async def _lifetime(self, matrix_room_id: str) -> int | None:
        if matrix_room_id not in self._lifetimes:
            self._lifetimes[matrix_room_id] = await self._asked(matrix_room_id)
        return self._lifetimes[matrix_room_id]

    async def _asked(self, matrix_room_id: str) -> int | None:
        try:
            event = await self._bot.state_event(matrix_room_id, RETENTION)
        except ApiError as error:
            if is_passing(error):
                raise
            return None  # there is none
        content = event.get("content")
        lifetime = content.get("max_lifetime") if isinstance(content, dict) else None
        if not isinstance(lifetime, int) or isinstance(lifetime, bool):
            return None
        return lifetime if 0 < lifetime <= MAX_LIFETIME_MS else None
