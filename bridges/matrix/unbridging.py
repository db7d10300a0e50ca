"""Taking a room apart again: both sides stay what they are, each without the other.

At the provider, the homeserver's people leave the group in one commit; whoever has the highest power level
of those who stay gets the bot's, and the bot leaves. In Matrix, what would expire later is redacted, because
nobody could then; the ghosts leave and then the bot. Every step may be repeated, and the link goes last, so a
bridge that is killed goes on when it is asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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
from linearized.client import ApiError
from linearized.mimi.content import sender_extensions, text
from linearized.protocol.identifiers import room_uri, user_id_from_uri

_FAREWELL = "This room is no longer bridged to Matrix; the people there have left it."
_SALT_BYTES = 16
_FORBIDDEN, _NOT_FOUND = 403, 404


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

    async def run(self, link: Link) -> None:
        """Unbridge a room.

        Raises:
            ClientError: one side is away or refuses; calling it again continues.
        """
        if link.room_id is not None:
            await self._leave_provider(link, link.room_id)
        await self._leave_matrix(link.matrix_room_id)
        with self._database.together():
            self._forget(link.matrix_room_id)
            self._links.forget(link.matrix_room_id)

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
