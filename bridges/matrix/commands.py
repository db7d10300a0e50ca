"""What people tell the bot in Matrix, and what it does: ``!mimi help``, and so on.

A command names a room or means the one it is said in. Whoever gives it needs, in the room it is about, the
power for what it does; operators named in the settings do not. In a room of two with the bot the ``!mimi``
may be left out. Answers are notices, and nothing in a notice is ever a command, so two bots cannot talk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.failures import EXPECTED, is_passing
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.megolm.rooms import EncryptedRooms
from bridges.matrix.notices import Notices
from bridges.matrix.people import People
from bridges.matrix.power import RoomPower
from bridges.matrix.queue import Incoming
from bridges.matrix.status import room_status
from bridges.matrix.unbridging import Unbridging
from linearized.client import ApiError
from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import user_id_from_uri

PREFIX = "!mimi"
# No command is longer, not even one with a token; what is, is a text that happens to begin like one.
MAX_COMMAND = 5000
# Rooms named in one answer: more do not fit on a screen.
MAX_LISTED = 50
_FORBIDDEN, _NOT_FOUND = 403, 404
_TWO = 2

HELP = f"""I bridge this homeserver's rooms to MIMI. In a room that I am in:
{PREFIX} help: this text
{PREFIX} bridge [ROOM]: bring a room with its history to the provider; takes the power to change power levels
{PREFIX} unbridge [ROOM]: part the two sides again; both stay usable; takes the same power
{PREFIX} status [ROOM]: whether a room is bridged, and what could not be carried across
{PREFIX} invite mimi://PROVIDER/u/USER [ROOM]: bring somebody into a bridged room; takes the power to invite
{PREFIX} encryption on|off [ROOM]: whether I read and write in an encrypted room; as bridge
In a direct chat only, for who has an account at a provider as well:
login TOKEN mimi://PROVIDER/u/USER: what you say there comes from you here; TOKEN is an access token of yours
logout: I forget it
whoami: what I know of you
ROOM is a room ID or alias; without it, the room you write in. In a direct chat with me leave {PREFIX} out."""

log = structlog.get_logger(__name__)


class Refused(Exception):  # noqa: N818 - an answer to a person, not a failure
    """The command cannot be carried out; the text says why, to whoever gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it was given: by whom, where, in which event, and its words."""

    sender: str
    room_id: str
    event_id: str
    verb: str
    arguments: tuple[str, ...]


def parse(incoming: Incoming, *, direct: bool) -> Command | None:
    """The command in an event, if it is one. In a ``direct`` chat the prefix may be left out."""
    event = incoming.event
    content = event.get("content")
    if event.get("type") != "m.room.message" or "state_key" in event or not isinstance(content, dict):
        return None
    body, relation = content.get("body"), content.get("m.relates_to")
    is_edit = isinstance(relation, dict) and relation.get("rel_type") == "m.replace"
    if content.get("msgtype") != "m.text" or is_edit or not isinstance(body, str) or len(body) > MAX_COMMAND:
        return None
    words = body.split()
    if words and words[0] == PREFIX:
        words = words[1:] or ["help"]
    elif not direct or not words:
        return None
    return Command(
        sender=str(event.get("sender", "")),
        room_id=incoming.room_id,
        event_id=incoming.event_id,
        verb=words[0].lower(),
        arguments=tuple(words[1:]),
    )


# Does what a command says, given what starts an import, and gives the answer; empty if there is none to give.
Verb = Callable[[Command, Callable[[str], None]], Awaitable[str]]


class Commands:
    """Carries out commands. ``begin`` starts an import and returns at once; ``importing`` holds the Matrix
    rooms with one under way; ``more`` are further verbs.
    """

    def __init__(
        self,
        *,
        config: BridgeConfig,
        homeserver: HomeserverApi,
        people: People,
        unbridging: Unbridging,
        database: Database,
        importing: set[str],
        rooms: EncryptedRooms,
        unique: Callable[[], str],
        notices: Notices,
        more: Mapping[str, Verb],
    ) -> None:
        self._notices = notices
        self._rooms = rooms
        self._unique = unique
        self._config = config
        self._names = config.names
        self._bot = homeserver.as_user(config.names.bot)
        self._people = people
        self._unbridging = unbridging
        self._database = database
        self._links = RoomLinks(database)
        self._importing = importing
        self._verbs: dict[str, Verb] = {
            "help": self._help,
            "bridge": self._bridge,
            "unbridge": self._unbridge,
            "status": self._status,
            "invite": self._invite,
            "encryption": self._encryption,
            **more,
        }

    async def find(self, incoming: Incoming) -> Command | None:
        """The command in an event, if it is one and its sender is somebody who can give any.

        Raises:
            ClientError: the homeserver does not say how many are in the room.
        """
        found = parse(incoming, direct=True)
        if found is None or self._names.is_ours(found.sender):
            return None
        if parse(incoming, direct=False) is not None:
            return found
        is_direct = self._links.of_matrix(incoming.room_id) is None and await in_direct_chat(
            self._bot, self._names.bot, incoming.room_id
        )
        return found if is_direct else None

    async def carry_out(self, command: Command, begin: Callable[[str], None], *, txn_id: str) -> None:
        """Do what the command says and answer it.

        Raises:
            ClientError: a side is away; doing it again continues.
        """
        verb = self._verbs.get(command.verb)
        try:
            if verb is None:
                raise Refused(f"There is no such command. {PREFIX} help lists them.")
            answer = await verb(command, begin)
        except Refused as refusal:
            answer = str(refusal)
        except EXPECTED as error:
            if is_passing(error):
                raise
            log.warning(
                "a command failed",
                verb=command.verb if verb else None,
                room_id=command.room_id,
                error=str(error),
            )
            answer = f"That did not work: {error}"
        # What is no command may be anything that was typed in the wrong place, a token even.
        log.info(
            "a command", verb=command.verb if verb else None, room_id=command.room_id, sender=command.sender
        )
        if answer:
            await self._notices.say(command.room_id, answer, txn_id=txn_id)

    # --- the commands ---

    async def _help(self, command: Command, begin: Callable[[str], None]) -> str:
        del command, begin
        return HELP

    async def _bridge(self, command: Command, begin: Callable[[str], None]) -> str:
        room_id = await self._room(command, at=0)
        power = await self._power(command, room_id)
        self._require(
            command,
            power.may_bridge(command.sender),
            "Bridging a room takes the power to change power levels.",
        )
        link = self._links.of_matrix(room_id)
        if link is not None and link.phase is Phase.LIVE:
            return "The room is bridged already."
        if room_id in self._importing:
            return "The import is under way."
        begin(room_id)
        return f"Importing {room_id}. I say when it is done."

    async def _unbridge(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        room_id = await self._room(command, at=0)
        power = await self._power(command, room_id)
        self._require(
            command,
            power.may_bridge(command.sender),
            "Unbridging a room takes the power to change power levels.",
        )
        link = self._linked(room_id)
        if room_id in self._importing:
            raise Refused("The import is still under way; unbridge the room when it is done.")
        await self._notices.say(
            room_id, f"{command.sender} ends the bridging of this room.", txn_id=f"farewell-{room_id}"
        )
        await self._unbridging.run(link)
        # In the room itself that was the last word: the bot has left.
        return "" if room_id == command.room_id else f"{room_id} is no longer bridged."

    async def _status(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not command.arguments and self._links.of_matrix(command.room_id) is None:
            if command.sender not in self._config.operators:
                return f"This room is not bridged. {PREFIX} bridge does it."
            rooms = [f"{link.matrix_room_id}: {link.phase}" for link in self._links.all()]
            more = [f"and {len(rooms) - MAX_LISTED} more"] if len(rooms) > MAX_LISTED else []
            return "\n".join([f"{len(rooms)} rooms:", *rooms[:MAX_LISTED], *more])
        room_id = await self._room(command, at=0)
        await self._power(command, room_id)  # only who is in the room is told of it
        link = self._linked(room_id)
        status = room_status(self._database, link)
        return "\n".join(
            [
                f"{room_id} is {link.room_id or 'not yet a room'} at the provider: {status.phase}",
                f"imported: {status.imported}, left out: {status.left_out}, refused: {status.failed},"
                f" still to import: {status.to_import}",
                f"waiting to be carried across: {status.waiting}, set aside: {status.aside}",
                *(f"{event_id}: {reason}" for event_id, reason in status.last_aside),
            ]
        )

    async def _invite(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not command.arguments:
            raise Refused(f"Whom? {PREFIX} invite mimi://PROVIDER/u/USER")
        try:
            user = user_id_from_uri(command.arguments[0])
        except IdentifierError:
            raise Refused(f"{command.arguments[0]} is no user's URI, mimi://PROVIDER/u/USER.") from None
        if self._names.is_bridged(user) or user == self._config.bot:
            raise Refused(f"{user} is a user of this homeserver: invite them in Matrix.")
        room_id = await self._room(command, at=1)
        power = await self._power(command, room_id)
        self._require(command, power.may(command.sender, "invite"), "You may not invite people here.")
        link = self._linked(room_id)
        if link.phase is not Phase.LIVE:
            raise Refused("The import is still under way; invite people when it is done.")
        problem = await self._people.invite(link, user)
        return f"{user} is in the room." if problem is None else f"{user} could not be added: {problem}"

    async def _encryption(self, command: Command, begin: Callable[[str], None]) -> str:
        del begin
        if not command.arguments or command.arguments[0] not in ("on", "off"):
            raise Refused(f"On or off? {PREFIX} encryption on|off [ROOM]")
        room_id = await self._room(command, at=1)
        power = await self._power(command, room_id)
        self._require(
            command,
            power.may_bridge(command.sender),
            "To decide about encryption takes the power to change power levels.",
        )
        if command.arguments[0] == "on":
            self._rooms.open(room_id)
            return f"I take part in the encryption of {room_id}, if it is encrypted and bridged."
        # The answer comes first: afterwards there is nothing I may say in the room itself.
        answer = (
            f"I no longer take part in the encryption of {room_id}: nothing crosses. To undo it, tell me in a"
            f" direct chat: encryption on {room_id}"
        )
        if room_id != command.room_id:
            self._rooms.close(room_id)
            return answer
        await self._notices.say(room_id, answer, txn_id=f"encryption-off-{room_id}-{self._unique()}")
        self._rooms.close(room_id)
        return ""

    # --- what they share ---

    async def _room(self, command: Command, *, at: int) -> str:
        """The room an argument names; without it, where the command was given."""
        if len(command.arguments) > at + 1:
            raise Refused(f"I do not understand {' '.join(command.arguments[at + 1 :])!r}.")
        if len(command.arguments) == at:
            return command.room_id
        return await find_room(self._bot, command.arguments[at])

    async def _power(self, command: Command, room_id: str) -> RoomPower:
        """Who may do what in a room that the sender is in (operators need not be), and the bot as well."""
        try:
            state = await self._bot.state(room_id)
        except ApiError as error:
            if error.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
            raise Refused(f"I am not in {room_id}. Invite {self._names.bot} there first.") from None
        joined = any(
            event.get("type") == "m.room.member"
            and event.get("state_key") == command.sender
            and (event.get("content") or {}).get("membership") == "join"
            for event in state
        )
        if not joined and command.sender not in self._config.operators:
            raise Refused(f"You are not in {room_id}.")
        return RoomPower.of(state)

    def _require(self, command: Command, allowed: bool, otherwise: str) -> None:
        if not allowed and command.sender not in self._config.operators:
            raise Refused(otherwise)

    def _linked(self, room_id: str) -> Link:
        link = self._links.of_matrix(room_id)
        if link is None:
            raise Refused(f"{room_id} is not bridged.")
        return link


async def in_direct_chat(homeserver: HomeserverApi, bot: str, room_id: str) -> bool:
    """Whether a room has two members, of whom the bot is one.

    Raises:
        ClientError: the homeserver does not say.
    """
    try:
        joined = await homeserver.joined_members(room_id)
    except ApiError as error:
        if is_passing(error):
            raise
        return False  # we are not in the room: an alias of ours makes us hear what is said there
    return len(joined) == _TWO and bot in joined


async def find_room(homeserver: HomeserverApi, name: str) -> str:
    """The room that an ID or alias names.

    Raises:
        Refused: none.
        ClientError: the homeserver does not say.
    """
    if name.startswith("!") and len(name) > 1:
        return name
    if not name.startswith("#") or ":" not in name:
        raise Refused(f"{name} is neither a room ID nor an alias.")
    try:
        return await homeserver.resolve_alias(name)
    except ApiError as error:
        if is_passing(error):
            raise
        raise Refused(f"There is no room {name}.") from None
