"""``login``, ``logout`` and ``whoami``: what somebody with two accounts tells the bot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridges.matrix.commands import Command, Refused, Verb, in_direct_chat
from bridges.matrix.doubles.login import Login, LoginRefused
from bridges.matrix.doubles.sealing import LOGIN
from bridges.matrix.doubles.user_api import UserApi
from bridges.matrix.failures import is_passing
from bridges.matrix.homeserver import HomeserverApi
from linearized.client import ApiError

USAGE = f"In a direct chat with me: {LOGIN} TOKEN mimi://PROVIDER/u/USER"


class LoginCommands:
    """Carries them out. ``homeserver`` is it as the bot, ``as_user`` as whoever has a token."""

    def __init__(
        self, *, login: Login, homeserver: HomeserverApi, bot: str, as_user: Callable[[str], UserApi]
    ) -> None:
        self._login = login
        self._homeserver = homeserver
        self._bot = bot
        self._as_user = as_user

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """What the commands are called."""
        return {LOGIN: self._log_in, "logout": self._log_out, "whoami": self._whoami}

    async def _log_in(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not command.arguments:
            raise Refused(USAGE)
        # Before anything else: the longer it stands there, the more have read it.
        hidden = await self._hide(command)
        if not await in_direct_chat(self._homeserver, self._bot, command.room_id):
            raise Refused(
                f"Others can read this: end the session of that token, and make another. {USAGE}{hidden}"
            )
        token, *rest = command.arguments
        if len(rest) > 1:
            raise Refused(f"{USAGE}{hidden}")
        uri = rest[0] if rest else None
        try:
            sentence = await self._login.login(command.sender, token, uri, chat=command.room_id)
        except LoginRefused as refusal:
            raise Refused(f"{refusal}{hidden}") from None
        if not sentence:
            return f"I have the new token.{hidden}"
        return (
            "Now say this from the other account, in a room that I bridge, within an hour (it is not carried"
            f" across):\n{sentence}{hidden}"
        )

    async def _hide(self, command: Command) -> str:
        """Redact a message with a token: by the bot's power, or by that of the token itself. Gives what is
        to be said if neither may.
        """
        room_id, event_id = command.room_id, command.event_id
        try:
            await self._homeserver.redact(room_id, event_id, txn_id=f"hide-{event_id}")
        except ApiError as error:
            if is_passing(error):
                raise
        else:
            return ""
        token = command.arguments[0]
        try:
            if token.isascii() and token.isprintable():
                await self._as_user(token).redact(room_id, event_id, txn_id=f"hide-{event_id}")
                return ""
        except ApiError as error:
            if is_passing(error):
                raise
        return "\nI may not remove your message with the token: delete it."

    async def _log_out(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not self._login.logout(command.sender):
            return "I have no token of yours."
        return "I have forgotten your token and your address. If the token was for me only, end its session."

    async def _whoami(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not await in_direct_chat(self._homeserver, self._bot, command.room_id):
            raise Refused("Ask me in a direct chat.")
        double = self._login.whoami(command.sender)
        if double is None:
            return f"You are {command.sender}, and I know no other account of yours."
        if not double.linked:
            return f"You are {command.sender}, and say that you are {double.uri}, which has still to say so."
        token = "" if double.has_token else f" Your token no longer works: {LOGIN} TOKEN gives me another."
        return f"You are {command.sender} and {double.uri}.{token}"
