"""People at providers whom somebody invites, by their ghosts, into a Matrix room that is not bridged: a
direct chat, most often.

The ghost comes in, brings the bot along, and the room is bridged like any other. At the end of its import the
person behind every ghost that is there is added to the group; who cannot be added does not stay either.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bridges.matrix.config import BridgeConfig
from bridges.matrix.content import JsonObject
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, RoomLinks
from bridges.matrix.notices import Notices
from bridges.matrix.people import People
from bridges.matrix.power import POWER_LEVELS, RoomPower
from bridges.matrix.puppets import Puppets
from bridges.matrix.queue import Incoming
from linearized.client import ApiError
from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import user_id_from_uri, user_uri

_FORBIDDEN, _NOT_FOUND = 403, 404

log = structlog.get_logger(__name__)


class Guests:
    """Deals with invitations of ghosts."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        links: RoomLinks,
        homeserver: HomeserverApi,
        puppets: Puppets,
        people: People,
        ghosts: Ghosts,
        notices: Notices,
    ) -> None:
        self._config = config
        self._names = config.names
        self._links = links
        self._bot = homeserver.as_user(config.names.bot)
        self._puppets = puppets
        self._people = people
        self._ghosts = ghosts
        self._notices = notices

    def is_for_us(self, incoming: Incoming) -> bool:
        """Whether an event invites a ghost into a room that is not bridged."""
        event = incoming.event
        content, guest = event.get("content"), event.get("state_key")
        return (
            event.get("type") == "m.room.member"
            and isinstance(content, dict)
            and content.get("membership") == "invite"
            and isinstance(guest, str)
            and self._names.is_ours(guest)
            and guest != self._names.bot
            and not self._names.is_ours(str(event.get("sender")))
            and self._links.of_matrix(incoming.room_id) is None
        )

    async def invited(self, incoming: Incoming, begin: Callable[[str], None]) -> None:
        """Accept the invitation and begin to bridge the room, or turn it down and say why.

        Raises:
            ClientError: the homeserver is away or refuses; doing it again continues.
        """
        room_id, guest = incoming.room_id, str(incoming.event["state_key"])
        try:
            acting = await self._ghosts.ensure(guest)
        except IdentifierError as error:
            log.info("an invitation of nobody", room_id=room_id, guest=guest, reason=str(error))
            return
        refusal = await self._refusal(acting, incoming)
        if refusal is None:
            refusal = await self._bring_bot(acting, guest, room_id)
        if refusal is None:
            begin(room_id)
            return
        log.info("an invitation was turned down", room_id=room_id, guest=guest, reason=refusal)
        await self._ghosts.leave(room_id, guest, reason=refusal)

    async def _refusal(self, acting: HomeserverApi, incoming: Incoming) -> str | None:
        """Why whoever invites may not have the room bridged; otherwise the ghost is in it afterwards."""
        sender = str(incoming.event.get("sender"))
        if not self._config.bridge_invited_rooms:
            return "Rooms are not bridged by invitations here."
        if not self._names.is_bridged(sender):
            return f"Only users of {self._names.domain} can invite me."
        await acting.join(incoming.room_id)
        power = RoomPower.of(await acting.state(incoming.room_id))
        if sender in self._config.operators or power.may_bridge(sender):
            return None
        return f"Somebody who may change power levels has to invite {self._names.bot} first."

    async def _bring_bot(self, acting: HomeserverApi, guest: str, room_id: str) -> str | None:
        """Bring the bot in, with the power that the ghost was given; why it cannot come, if it cannot."""
        bot, state = self._names.bot, await acting.state(room_id)
        if _membership(state, bot) != "join":
            try:
                await acting.invite(room_id, bot)
            except ApiError as error:
                if error.status != _FORBIDDEN:
                    raise
                return f"I may not invite {bot}; invite it first."
            await self._bot.join(room_id)
        power = RoomPower.of(state)
        level = power.given(guest)
        if power.may_set(guest, POWER_LEVELS) and level > power.level(bot):
            users = {**(power.content or {}).get("users", {}), bot: level}
            await acting.set_state(room_id, POWER_LEVELS, "", {**(power.content or {}), "users": users})
        return None

    async def bring(self, link: Link) -> None:
        """Add the people behind the ghosts that are in a Matrix room, or invited, to its group. Who cannot be
        added, or was there and left, does not stay in Matrix.

        Raises:
            ClientError: a side is away; doing it again continues.
        """
        participants = self._puppets.bot.device.participants(link.room_id or "")
        room_id = link.matrix_room_id
        there = {*await self._bot.joined_members(room_id), *await self._bot.invited_members(room_id)}
        for ghost in sorted(there):
            if not self._names.is_ours(ghost) or ghost == self._names.bot:
                continue
            user = user_id_from_uri(self._names.uri(ghost))
            if participants.role_of(user_uri(user)) is not None:
                continue
            problem = "they had left" if await self._was_here(link, user) else None
            if problem is None:
                problem = await self._people.invite(link, user)
            if problem is not None:
                await self._dismiss(link, ghost, f"{user} could not be added: {problem}")

    async def _was_here(self, link: Link, user: str) -> bool:
        try:
            await self._puppets.bot.api.state_event(link.room_id or "", "m.room.member", user)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return False
        return True

    async def _dismiss(self, link: Link, ghost: str, reason: str) -> None:
        log.warning("a guest does not stay", room_id=link.matrix_room_id, reason=reason)
        await self._ghosts.leave(link.matrix_room_id, ghost, reason=reason)
        txn_id = f"dismissed-{link.room_id}-{ghost}"
        await self._notices.say(link.matrix_room_id, reason, txn_id=txn_id)


def _membership(state: list[JsonObject], user: str) -> object:
    for event in state:
        if event.get("type") == "m.room.member" and event.get("state_key") == user:
            return (event.get("content") or {}).get("membership")
    return None
