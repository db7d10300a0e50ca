"""Ghosts: the Matrix users of people at other providers. Each exists and has joined before it acts."""

from __future__ import annotations

from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.names import Names
from linearized.client import ApiError
from linearized.exceptions import IdentifierError

_FORBIDDEN = 403


class Ghosts:
    """Intents: what a ghost wants to do is done once its preconditions hold."""

    def __init__(self, homeserver: HomeserverApi, database: Database, names: Names) -> None:
        self._bot = homeserver.as_user(names.bot)
        self._homeserver = homeserver
        self._database = database
        self._names = names
        self._joined: set[tuple[str, str]] = set()

    async def ensure_bot(self) -> None:
        """Register the bot itself, which homeservers do not do by themselves."""
        await self._register(self._names.bot, "Bridge")

    async def ensure(self, user_id: str) -> HomeserverApi:
        """The homeserver as this ghost, registered and named.

        Raises:
            IdentifierError: the user is no ghost.
        """
        name = self._names.display_name(self._names.uri(user_id))
        await self._register(user_id, name)
        return self._homeserver.as_user(user_id)

    async def _register(self, user_id: str, name: str) -> None:
        if self._database.first("SELECT 1 FROM ghosts WHERE user_id = ?", user_id) is not None:
            return
        acting = self._homeserver.as_user(user_id)
        if not await self._homeserver.register(user_id[1:].partition(":")[0]):
            await acting.ensure_device(user_id)
        await acting.set_display_name(user_id, name)
        self._database.run(
            "INSERT OR IGNORE INTO ghosts (user_id, display_name) VALUES (?, ?)", user_id, name
        )

    async def show(self, user_id: str, *, name: str, avatar: str | None) -> None:
        """Give a ghost the name its person chose, and a picture (an ``mxc://`` URI of the homeserver), if
        these are new. Homeservers tell every room of it, so nothing is set twice.
        """
        acting = await self.ensure(user_id)
        shown = self._names.display_name(self._names.uri(user_id), name)
        row = self._database.one("SELECT display_name, avatar FROM ghosts WHERE user_id = ?", user_id)
        if row["display_name"] != shown:
            await acting.set_display_name(user_id, shown)
        if avatar is not None and row["avatar"] != avatar:
            await acting.set_avatar(user_id, avatar)
        self._database.run(
            "UPDATE ghosts SET display_name = ?, avatar = ? WHERE user_id = ?",
            shown,
            row["avatar"] if avatar is None else avatar,
            user_id,
        )

    async def ensure_joined(self, matrix_room_id: str, user_id: str) -> HomeserverApi:
        """The homeserver as this ghost, a member of the room; the bot invites it if it has to."""
        ghost = await self.ensure(user_id)
        if (matrix_room_id, user_id) not in self._joined:
            try:
                await ghost.join(matrix_room_id)
            except ApiError as error:
                if error.status != _FORBIDDEN:
                    raise
                await self._bot.invite(matrix_room_id, user_id)
                await ghost.join(matrix_room_id)
            self._joined.add((matrix_room_id, user_id))
        return ghost

    async def leave(self, matrix_room_id: str, user_id: str, *, reason: str = "") -> None:
        """Let a ghost leave, or turn an invitation down; one that is not there has left."""
        ghost = await self.ensure(user_id)
        self.forget(matrix_room_id, user_id)
        try:
            await ghost.leave(matrix_room_id, reason=reason)
        except ApiError as error:
            if error.status != _FORBIDDEN:
                raise

    def forget(self, matrix_room_id: str, user_id: str) -> None:
        """A ghost is no longer in the room, by someone else's doing."""
        self._joined.discard((matrix_room_id, user_id))

    def forget_all(self) -> None:
        """The homeserver may not know our users any more, nor where they are."""
        self._joined.clear()
        self._database.run("DELETE FROM ghosts")

    async def answer_query(self, user_id: str) -> bool:
        """The homeserver asks whether a user of our namespace exists: it does if it can stand for someone."""
        try:
            await self.ensure(user_id)
        except IdentifierError:
            return False
        return True
