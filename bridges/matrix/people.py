"""Keeping the MLS group in step with the Matrix room's members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link
from bridges.matrix.names import Names
from bridges.matrix.power import CREATE, POWER_LEVELS, RoomPower
from bridges.matrix.puppets import Puppets
from linearized.client import ApiError, JoinRefused, KeyMaterialUnavailable, is_last_resort, role_index
from linearized.protocol.identifiers import user_id_from_uri

# Users added by one commit. Each commit brings the whole GroupInfo into the log, and its Welcome the whole
# tree to the provider, so ten thousand need few of them; the loser of a race makes some 100 kB again.
CHUNK = 250

_FORBIDDEN, _NOT_FOUND = 403, 404

log = structlog.get_logger(__name__)


class People:
    """Adds and removes the bridge's clients; the bot does it for everybody."""

    def __init__(self, homeserver: HomeserverApi, puppets: Puppets, names: Names) -> None:
        self._homeserver = homeserver
        self._puppets = puppets
        self._names = names

    async def add_everybody(self, link: Link, progress: Callable[[str, int, int], None]) -> int:
        """Make the room's group if there is none, and add a client of every joined user; returns how many
        are in.
        """
        room_id = _room(link)
        bot = await self._puppets.ready(self._puppets.bot.device.owner.user_id)
        if not await self._rejoined(room_id):
            await self._dismiss_ours(room_id)
            await bot.groups.create(room_id)
        joined = await self._homeserver.joined_members(link.matrix_room_id)
        users = sorted(user for user in joined if self._names.is_bridged(user))
        power = await self._power(room_id)  # what changes meanwhile is given to all who are in
        for start in range(0, len(users), CHUNK):
            await self._add(link, users[start : start + CHUNK], power)
            progress("adding", min(start + CHUNK, len(users)), len(users))
        return len(users)

    async def _dismiss_ours(self, room_id: str) -> None:
        """Let the bridge's own Matrix users, who came with the past, leave: they are nobody here."""
        api = self._puppets.bot.api
        for event in await api.state(room_id):
            user = event.get("state_key")
            if event.get("type") != "m.room.member" or not isinstance(user, str):
                continue
            if self._names.is_ours(user) and (event.get("content") or {}).get("membership") == "join":
                await api.as_user(user).leave(room_id)

    async def _rejoined(self, room_id: str) -> bool:
        """Whether the bot came back into a group it had before its database was lost; not, if there is
        none yet.
        """
        bot = self._puppets.bot
        if bot.device.in_group(room_id):
            return False
        try:
            await bot.groups.join(room_id)
        except JoinRefused:
            return False
        except ApiError as error:
            if is_passing(error):
                raise
            return False
        return True

    async def add(self, link: Link, users: Sequence[str]) -> None:
        """Add users' clients that are not in the group yet, in one commit, and let them follow."""
        await self._add(link, users, await self._power(_room(link)))

    async def _add(self, link: Link, users: Sequence[str], power: RoomPower) -> None:
        room_id, bot = _room(link), self._puppets.bot
        inside = {owner.user_id for owner in bot.device.members(room_id).values()}
        missing = [user for user in users if user not in inside]
        for user in missing:
            await self._puppets.ready(user)
        if missing and not power.may(bot.device.owner.user_id, "invite"):
            await self._let_in(room_id, missing)
            missing = []
        packages = {}
        for user in missing:
            try:
                packages[user] = await bot.groups.key_packages(room_id, user)
            except KeyMaterialUnavailable as error:
                log.warning("a user cannot be added", user=user, error=str(error))
        if packages:
            roles = {user: role_index(power.level(user)) for user in packages}
            await bot.groups.add_users(room_id, packages, roles=roles)
        now = bot.api.clock() // 1000
        for user, claimed in packages.items():
            if any(is_last_resort(package, now=now) for package in claimed):
                await self._puppets.session(user).upload_key_packages()
        for user in users:
            # Of a thousand who are added, most say nothing for long, and to join takes a check of every leaf:
            # each does when it first speaks. Until then its Welcome waits at the provider.
            self._puppets.put_away(user)

    async def _power(self, room_id: str) -> RoomPower:
        """The permissions in the log. All of the room's state would be as large as the room."""
        found = []
        for kind in (CREATE, POWER_LEVELS):
            try:
                found.append(await self._puppets.bot.api.state_event(room_id, kind))
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
        return RoomPower.of(found)

    async def _let_in(self, room_id: str, users: Sequence[str]) -> None:
        """Let users join by themselves, where the bot may not add anybody: in a room of somebody else's."""
        for user in users:
            session = self._puppets.session(user)
            await session.api.join(room_id)
            await session.catch_up()
            await session.groups.join(room_id)

    async def give_roles(self, link: Link, levels: Mapping[str, Any]) -> None:
        """Make the roles in the group those of the power levels that now stand in the log (their content)."""
        bot, room_id = self._puppets.bot, _room(link)
        await bot.catch_up()
        power = RoomPower(creators=frozenset(), creators_above=False, content=levels)
        everyone = bot.device.participants(room_id).participants
        users = [user_id_from_uri(pair.user) for pair in everyone]
        await bot.groups.set_roles(room_id, {user: role_index(power.level(user)) for user in users})

    async def remove(self, link: Link, users: Sequence[str]) -> None:
        """Remove users with all their clients; who is not there is no error."""
        room_id, bot = _room(link), self._puppets.bot
        power = await self._power(room_id)
        for user in users:
            # Whom the bot may not remove, the room's other admins, leaves by themselves. Their clients stay
            # in the group until the commit below.
            if self._names.is_bridged(user) and power.level(user) >= power.level(bot.device.owner.user_id):
                await self._leave(room_id, user)
        await bot.catch_up()
        await bot.groups.remove_users(room_id, users)

    async def _leave(self, room_id: str, user: str) -> None:
        try:
            await self._puppets.session(user).api.leave(room_id)
        except ApiError as error:
            if error.status != _FORBIDDEN:  # never was in the room
                raise

    async def invite(self, link: Link, user: str) -> str | None:
        """Add a user of another provider; why it was not possible, if it was not."""
        try:
            await self._puppets.bot.groups.invite(_room(link), [user])
        except (ApiError, KeyMaterialUnavailable) as error:
            return str(error)
        return None


def _room(link: Link) -> str:
    if link.room_id is None:
        raise LookupError(f"{link.matrix_room_id} has no room at the provider yet")
    return link.room_id
