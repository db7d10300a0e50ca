"""Rooms of the provider that somebody there added a user of the homeserver to, without the bridge: a direct
chat that a person at a provider begins, most often.

The user's client is in the group then, and nobody reads what it hears. So now and then the bridge looks for
such rooms. The user's client brings the bot in, unless it is there, a Matrix room is made, and the user is
invited to it; what was said before the bot came is shown as well, because the user's client has read it.
Where the client may not bring the bot in, it says how that can be done, and the user leaves: nobody is to
believe that they read what never reaches them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
import trio

from bridges.matrix.config import BridgeConfig
from bridges.matrix.content import MESSAGE_TYPE
from bridges.matrix.database import Database
from bridges.matrix.device_states import users_with_devices
from bridges.matrix.failures import EXPECTED, carried, is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.importer import ORIGIN
from bridges.matrix.inbound import Inbound
from bridges.matrix.links import Link, RoomLinks
from bridges.matrix.portals import Portals
from bridges.matrix.puppets import Puppets
from linearized.client import ApiError, ClientError, DecryptedMessage, Session
from linearized.mimi.content import sender_extensions, text
from linearized.protocol.identifiers import room_uri, user_id_from_uri, user_uri

# Between two looks, in seconds: where few users are, nobody's first message waits longer.
LOOK_SECONDS: Final = 20.0
# Seconds between two users. A thousand take a hundred, and a small request to the provider each.
USER_PAUSE: Final = 0.1
_NOTE: Final = "[The bridge to Matrix: nothing of this room reaches me, because {}. I leave.]"
_NOTICE: Final[dict[int | str, str]] = {MESSAGE_TYPE: "m.notice"}
_SALT_BYTES: Final = 16
_TWO: Final = 2
_FORBIDDEN = 403

log = structlog.get_logger(__name__)


class Added:
    """Looks for such rooms. ``lock`` is held while something is shown in Matrix."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        database: Database,
        homeserver: HomeserverApi,
        puppets: Puppets,
        portals: Portals,
        inbound: Inbound,
        lock: trio.Lock,
        random: Callable[[int], bytes],
    ) -> None:
        self._random = random
        self._config = config
        self._names = config.names
        self._database = database
        self._links = RoomLinks(database)
        self._matrix = homeserver.as_user(config.names.bot)
        self._puppets = puppets
        self._portals = portals
        self._inbound = inbound
        self._lock = lock

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once, after going on with what a kill has stopped."""
        for room_id, user in self._puppets.openings.all():
            await self._bring(room_id, user)
        for user in users_with_devices(self._database):
            if not self._names.is_bridged(user):
                continue
            try:
                joined = await self._puppets.api(user).joined_rooms()
            except ClientError as error:
                log.info("the provider does not say where a user is", user=user, error=str(error))
                return
            for room_id in joined:
                if self._links.of_room(room_id) is None:
                    await self._bring(room_id, user)
            await trio.sleep(USER_PAUSE)

    async def _bring(self, room_id: str, user: str) -> None:
        reason = await carried(partial(self._open, room_id, user))
        if reason is not None:
            log.error("a room cannot be opened", room_id=room_id, user=user, reason=reason)
            self._puppets.openings.done(room_id)

    async def _open(self, room_id: str, user: str) -> None:
        """Let a user's client bring the bot in, and show in Matrix what it has read so far."""
        session = await self._puppets.ready(user)
        # Nothing that the bot reads there may be handed out before there is a Matrix room for it.
        async with self._lock:
            await session.catch_up()
            if not session.device.in_group(room_id):
                self._puppets.openings.done(room_id)
                return  # its Welcome is still to come, or it has been removed
            if await self._is_a_bridges(session, room_id):
                return
            self._puppets.openings.put(room_id, user)
            refusal = await self._refusal(session, room_id)
            link = await self._portals.open(room_id) if refusal is None else None
            if link is None:
                await self._leave(session, room_id, refusal or "there is no Matrix room for it")
                return
            for item in session.device.state.inbox:
                if item.room_id == room_id and isinstance(item, DecryptedMessage):
                    await self._inbound.handle(item)
            await self._invite(link)
            self._done(session, room_id)

    async def _is_a_bridges(self, session: Session, room_id: str) -> bool:
        """Whether a bridge made the room for a Matrix room that is not bridged just now."""
        create = await session.api.state_event(room_id, "m.room.create")
        content = create.get("content")
        return isinstance(content, dict) and ORIGIN in content

    async def _refusal(self, session: Session, room_id: str) -> str | None:
        """Why the bot cannot come in; otherwise it is in afterwards."""
        if not self._config.bridge_invited_rooms:
            return "rooms are not bridged by invitations here"
        if self._config.bot in {owner.user_id for owner in session.device.members(room_id).values()}:
            return None
        await self._puppets.ready(self._config.bot)
        try:
            await session.groups.invite(room_id, [self._config.bot])
        except EXPECTED as error:
            if is_passing(error):
                raise
            log.info("the bot may not come in", room_id=room_id, reason=str(error))
            return f"{user_uri(self._config.bot)} has to be in the room as well; add it first"
        return None

    async def _leave(self, session: Session, room_id: str, reason: str) -> None:
        user = session.device.owner.user_id
        log.warning("a user leaves", room_id=room_id, user=user, reason=reason)
        own = sender_extensions(sender_uri=user_uri(user), room_uri=room_uri(room_id))
        note = text(_NOTE.format(reason), salt=self._random(_SALT_BYTES), extensions={**own, **_NOTICE})
        await session.send(room_id, note, txn_id=f"not-reached-{room_id}-{session.device.epoch(room_id)}")
        await session.api.leave(room_id)
        session.device.forget(room_id)
        self._done(session, room_id)

    async def _invite(self, link: Link) -> None:
        """Invite the homeserver's users who are in the group to the Matrix room."""
        participants = self._puppets.bot.device.participants(link.room_id or "").participants
        people = [user_id_from_uri(pair.user) for pair in participants]
        is_direct = len([user for user in people if user != self._config.bot]) == _TWO
        for user in filter(self._names.is_bridged, people):
            try:
                await self._matrix.invite_to_talk(link.matrix_room_id, user, is_direct=is_direct)
            except ApiError as error:
                if error.status != _FORBIDDEN:  # there already
                    raise

    def _done(self, session: Session, room_id: str) -> None:
        session.device.clear_inbox(keep=lambda item: item.room_id != room_id)
        self._puppets.openings.done(room_id)
