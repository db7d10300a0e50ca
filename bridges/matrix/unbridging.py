"""Taking a room apart again: both sides stay what they are, each without the other.

At the provider, the homeserver's people leave the group in one commit; whoever has the highest power level
of those who stay gets the bot's, and the bot leaves. In Matrix, what would expire later is redacted, because
nobody could then; the ghosts leave and then the bot. Every step may be repeated, and the link goes last, so a
bridge that is killed goes on when it is asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bridges.matrix.database import Database
from bridges.matrix.failures import is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.levels import BOT_LEVEL
from bridges.matrix.links import Link, RoomLinks
from bridges.matrix.names import Names
from bridges.matrix.people import People
from bridges.matrix.power import POWER_LEVELS, RoomPower
from bridges.matrix.puppets import Puppets
from bridges.matrix.queue import Incoming
from linearized.client import ApiError
from linearized.mimi.content import sender_extensions, text
from linearized.protocol.identifiers import room_uri, user_id_from_uri, user_uri

_FAREWELL = "This room is no longer bridged to Matrix; the people there have left it."
_PUT_OUT = "The bridge was put out of this room."
# Why the bot leaves a bridged room again into which somebody invited it who may not bridge.
WAITS_OUTSIDE: Final = "I wait for an invitation by somebody who may change power levels."
_SALT_BYTES = 16
_FORBIDDEN, _NOT_FOUND = 403, 404

log = structlog.get_logger(__name__)


class Unbridging:
    """Ends the bridging of rooms. ``forget`` drops what is kept of a room's encryption; ``redact_all``
    redacts what would expire there later.
    """

    def __init__(
        self,
        *,
        database: Database,
        homeserver: HomeserverApi,
        puppets: Puppets,
        people: People,
        ghosts: Ghosts,
        names: Names,
        forget: Callable[[str], None],
        redact_all: Callable[[str], Awaitable[None]],
        random: Callable[[int], bytes],
    ) -> None:
        self._homeserver = homeserver
        self._puppets = puppets
        self._people = people
        self._ghosts = ghosts
        self._names = names
        self._forget = forget
        self._redact_all = redact_all
        self._random = random
        self._database = database
        self._links = RoomLinks(database)
        # The Matrix rooms that are just being unbridged.
        self._ending: set[str] = set()

    async def run(self, link: Link) -> None:
        """Unbridge a room.

        Raises:
            ClientError: one side is away or refuses; calling it again continues.
        """
        self._ending.add(link.matrix_room_id)
        try:
            await self._run(link)
        finally:
            self._ending.discard(link.matrix_room_id)

    def ends(self, incoming: Incoming) -> Link | None:
        """The room that an event ends the bridging of, because the bot is no longer in it: it was put out, or
        the room was deleted. Not while it leaves by itself.
        """
        event = incoming.event
        content = event.get("content")
        content = content if isinstance(content, dict) else {}
        gone = (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self._names.bot
            and content.get("membership") in ("leave", "ban")
        )
        waits = event.get("sender") == self._names.bot and content.get("reason") == WAITS_OUTSIDE
        if not gone or waits or incoming.room_id in self._ending:
            return None
        return self._links.of_matrix(incoming.room_id)

    async def put_out(self, link: Link) -> None:
        """The bot has been put out of a room: who did that wants no bridge there. The ghosts, who would go on
        hearing everything, leave first.

        Raises:
            ClientError: as ``run``.
        """
        if await self._is_in(link.matrix_room_id):
            return  # it was let in again meanwhile
        device, room_id = self._puppets.bot.device, link.room_id or ""
        if device.in_group(room_id):
            try:
                await self._redact_all(link.matrix_room_id)
            except ApiError as error:
                if is_passing(error):
                    raise
                log.warning("what expires stays", room_id=link.matrix_room_id, reason=str(error))
            users = [user_id_from_uri(pair.user) for pair in device.participants(room_id).participants]
            for user in users:
                if user != device.owner.user_id and not self._names.is_bridged(user):
                    ghost = self._names.ghost(user_uri(user))
                    await self._ghosts.leave(link.matrix_room_id, ghost, reason=_PUT_OUT)
        await self.run(link)

    async def _is_in(self, matrix_room_id: str) -> bool:
        try:
            joined = await self._homeserver.as_user(self._names.bot).joined_members(matrix_room_id)
        except ApiError as error:
            if error.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
            return False
        return self._names.bot in joined

    async def _run(self, link: Link) -> None:
        if link.room_id is not None:
            await self._leave_provider(link, link.room_id)
        line = self._links.line(link.matrix_room_id)
        for matrix_room_id in reversed(line):
            await self._leave_matrix(matrix_room_id)
        with self._database.together():
            for matrix_room_id in line:
                self._forget(matrix_room_id)
                self._links.forget(matrix_room_id)

    async def _leave_provider(self, link: Link, room_id: str) -> None:
        bot = self._puppets.bot
        own = bot.device.owner.user_id
        if room_id not in await bot.api.joined_rooms():
            return
        await bot.catch_up()
        if bot.device.in_group(room_id):
            uris = [pair.user for pair in bot.device.participants(room_id).participants]
            people = sorted(filter(self._names.is_bridged, map(user_id_from_uri, uris)))
            farewell = text(
                _FAREWELL,
                salt=self._random(_SALT_BYTES),
                extensions=sender_extensions(
                    sender_uri=bot.device.owner.user_uri, room_uri=room_uri(room_id)
                ),
            )
            await bot.send(room_id, farewell, txn_id=f"unbridged-{room_id}")
            await self._people.remove(link, people)
            for user in people:
                self._puppets.session(user).device.forget(room_id)
        await self._hand_over(room_id, own)
        await bot.api.leave(room_id)
        bot.device.forget(room_id)

    async def _hand_over(self, room_id: str, own: str) -> None:
        """Leave nobody in a room that nobody can change any more."""
        api = self._puppets.bot.api
        state = await api.state(room_id)
        power = RoomPower.of(state)
        rest = sorted(
            str(event.get("state_key"))
            for event in state
            if event.get("type") == "m.room.member"
            and (event.get("content") or {}).get("membership") == "join"
            and event.get("state_key") != own
        )
        if not rest or power.content is None:
            return
        heir = max(rest, key=power.level)
        if power.level(heir) < BOT_LEVEL:
            users = {**power.content.get("users", {}), heir: power.level(own)}
            await api.send_state(room_id, POWER_LEVELS, "", {**power.content, "users": users})

    async def _leave_matrix(self, matrix_room_id: str) -> None:
        bot = self._homeserver.as_user(self._names.bot)
        try:
            joined = await bot.joined_members(matrix_room_id)
            await self._redact_all(matrix_room_id)
            for user in sorted(filter(self._names.is_ours, joined)):
                if user != self._names.bot:
                    await self._ghosts.leave(matrix_room_id, user)
            await bot.leave(matrix_room_id)
        except ApiError as error:
            # Thrown out already, perhaps with the ghosts; or the room is gone.
            if is_passing(error) or error.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
