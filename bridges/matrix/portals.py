"""Portals: a room of the provider that a homeserver's user joins by an alias of the bridge's namespace.

``#_lin_a.example_clubhouse:matrix.example`` is ``!clubhouse:a.example``. The homeserver asks whether the
alias exists; if the bot may join the room, it makes a Matrix room for it, and from then on that is bridged
like any other. What was said before the bot was in the group stays unread, as for everybody who joins one.
"""

from __future__ import annotations

import structlog
import trio

from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.failures import is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Phase, RoomLinks
from bridges.matrix.puppets import Puppets
from bridges.matrix.shared_state import SharedState
from linearized.client import ApiError, ClientError, ServerUnreachable
from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import room_domain, user_uri

# The homeserver waits for our answer, so only so many people are brought in at once; the others come when
# they first do something.
FIRST_GHOSTS = 20

log = structlog.get_logger(__name__)


class Portals:
    """Makes Matrix rooms for the provider's."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        database: Database,
        homeserver: HomeserverApi,
        puppets: Puppets,
        ghosts: Ghosts,
        shared: SharedState,
    ) -> None:
        self._config = config
        self._names = config.names
        self._database = database
        self._links = RoomLinks(database)
        self._matrix = homeserver.as_user(config.names.bot)
        self._puppets = puppets
        self._ghosts = ghosts
        self._shared = shared
        self._lock = trio.Lock()

    async def answer_query(self, alias: str) -> bool:
        """The homeserver asks whether an alias exists: it does if the bot can join the room it stands for.

        Raises:
            ClientError: a side is away; the homeserver may ask again.
        """
        try:
            room_id = self._names.room_of(alias)
        except IdentifierError:
            return False
        if room_domain(room_id) != self._config.provider_domain:
            return False  # a hub elsewhere takes no users of a bridge
        async with self._lock:
            return await self._open(room_id, alias)

    async def _open(self, room_id: str, alias: str) -> bool:
        bot = self._puppets.bot
        link = self._links.of_room(room_id)
        if link is not None:
            await self._matrix.set_alias(alias, link.matrix_room_id)
            return True
        try:
            # Only who is invited, or anybody, may join: whether this is a room for all is up to its rules.
            await bot.api.join(room_id)
        except ApiError as error:
            if is_passing(error):
                raise
            log.info("no portal", room_id=room_id, reason=str(error))
            return False
        matrix_room_id = await self._matrix_room(alias)
        # Linked before the bot can read anything, so that nothing it reads is dropped.
        with self._database.together():
            self._links.begin(matrix_room_id)
            self._links.set_room(matrix_room_id, room_id)
            self._links.set_phase(matrix_room_id, Phase.LIVE)
        link = self._links.begin(matrix_room_id)
        try:
            await self._puppets.ready(bot.device.owner.user_id)
            await bot.catch_up()
            if not bot.device.in_group(room_id):
                await bot.groups.join(room_id)
        except ClientError as error:
            self._links.forget(matrix_room_id)
            log.warning("no portal", room_id=room_id, reason=str(error))
            return False
        await self._shared.fill(link)
        for user in sorted(await bot.api.joined_members(room_id))[:FIRST_GHOSTS]:
            if not self._names.is_bridged(user) and user != self._config.bot:
                await self._ghosts.ensure_joined(matrix_room_id, self._names.ghost(user_uri(user)))
        log.info("a portal", room_id=room_id, matrix_room_id=matrix_room_id)
        return True

    async def _matrix_room(self, alias: str) -> str:
        """Make the Matrix room of an alias that the homeserver has just asked for.

        It must not be asked for the alias as long as there is none: it would ask us, and wait.
        """
        localpart = alias[1:].partition(":")[0]
        try:
            return await self._matrix.create_room(localpart)
        except ServerUnreachable:
            # The answer may be what was lost. From now on the homeserver may know the alias and never ask
            # again, so it is decided here.
            log.warning("making a room again", alias=alias)
        try:
            return await self._matrix.create_room(localpart)
        except ApiError as error:
            if error.errcode != "M_ROOM_IN_USE":
                raise
            return await self._matrix.resolve_alias(alias)
