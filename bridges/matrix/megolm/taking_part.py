"""Whether the bridge takes part in a room's encryption: what the room, the homeserver and people say to that.

Where it does not, the room is closed, which is the only thing that is ever said there in the clear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import structlog

from bridges.matrix.config import REFUSE, BridgeConfig
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.megolm.accounts import MEGOLM
from bridges.matrix.megolm.devices import DeviceLists
from bridges.matrix.megolm.extensions import PROBE, Extensions
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.rooms import ENCRYPTION, EncryptedRooms, RoomSettings
from linearized.client import ApiError

_NOT_THERE = frozenset({403, 404})

JsonObject = dict[str, Any]
log = structlog.get_logger(__name__)


class Homeserver(Protocol):
    """The homeserver as the bot."""

    async def state_event(self, room_id: str, event_type: str, state_key: str = "") -> JsonObject:
        """As ``HomeserverApi``."""
        ...

    async def joined_members(self, room_id: str) -> dict[str, JsonObject]:
        """As ``HomeserverApi``."""
        ...

    async def say_in_the_clear(self, room_id: str, text: str, *, txn_id: str) -> None:
        """As ``HomeserverApi``."""
        ...


class TakingPart:
    """Says of each room whether it is encrypted and whether the bridge may read and write there."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        rooms: EncryptedRooms,
        extensions: Extensions,
        publishing: Publishing,
        lists: DeviceLists,
        ids: Callable[[int], str],
    ) -> None:
        self._config = config
        self._bot = config.names.bot
        self._rooms = rooms
        self._extensions = extensions
        self._publishing = publishing
        self._lists = lists
        self._ids = ids
        self._homeserver: Homeserver | None = None
        # Rooms of which the homeserver was asked whether they are encrypted.
        self._asked: set[str] = set()
        self._joined: dict[str, frozenset[str]] = {}

    def use(self, homeserver: Homeserver) -> None:
        """The homeserver as the bot, which itself needs us to send."""
        self._homeserver = homeserver

    def note(self, event: object) -> None:
        """Learn from an event what it says of its room."""
        if not isinstance(event, dict) or not isinstance(event.get("room_id"), str):
            return
        if event.get("type") == "m.room.member":
            self._joined.pop(event["room_id"], None)
        elif event.get("type") == ENCRYPTION and event.get("state_key") == "":
            # Known before the event's turn comes, so that nothing more is said in the clear.
            content = event.get("content")
            self._rooms.note(event["room_id"], content if isinstance(content, dict) else {})

    def forget(self, room_id: str) -> None:
        """Keep nothing of a room but that it is encrypted: that it is for ever."""
        self._joined.pop(room_id, None)
        self._rooms.untold(room_id)

    async def start(self) -> None:
        """Make the bot's device known and find out what the homeserver is able to do. Changes of device lists
        may have been missed, so all are asked for again when they are next needed.

        Raises:
            ClientError: the homeserver is away, or refuses.
        """
        if self._config.encrypted_rooms == REFUSE:
            return
        try:
            await self._publishing.device(self._bot)
            await self._probe()
        except ApiError as error:
            if is_passing(error):
                raise
            log.error("the homeserver does not take our keys", error=str(error))
            self._extensions.refused(error.errcode)
        else:
            self._extensions.taken()
        self._lists.all_outdated()

    async def verify(self, *, patient: bool = False) -> None:
        """Find out whether the homeserver still does what encrypted rooms need; while it is away, wait.
        ``patient`` as ``Extensions.verify``.
        """
        if self._config.encrypted_rooms == REFUSE:
            return

        async def work() -> None:
            await self._extensions.verify(self._probe, patient=patient)

        reason = await carried(work)
        if reason is not None:
            log.error("the homeserver could not be asked about encrypted rooms", reason=reason)
        missing = self._extensions.missing()
        if missing is not None:
            log.warning("encrypted rooms stay closed", reason=missing)

    async def _probe(self) -> None:
        own = await self._publishing.device(self._bot)
        messages = {self._bot: {own.device_id: self._extensions.content}}
        await self._publishing.api(own).send_to_device(PROBE, messages, txn_id=self._ids(16))

    async def settings(self, room_id: str) -> RoomSettings | None:
        """How a room is encrypted; ``None`` if it is not. Rooms stay encrypted once they are.

        Raises:
            ClientError: the homeserver does not say.
        """
        if room_id not in self._asked:
            try:
                event = await self._as_bot.state_event(room_id, ENCRYPTION)
            except ApiError as error:
                if error.status not in _NOT_THERE:
                    raise
            else:
                content = event.get("content")
                self._rooms.note(room_id, content if isinstance(content, dict) else {})
            self._asked.add(room_id)
        return self._rooms.settings(room_id)

    async def is_encrypted(self, room_id: str) -> bool:
        """Whether what is sent to a room is encrypted, and files have to be.

        Raises:
            ClientError: the homeserver does not say.
        """
        return await self.settings(room_id) is not None

    async def closed(self, room_id: str) -> str | None:
        """Why the bridge takes no part in a room's encryption; ``None`` if it does, or the room has none. The
        room is told once.

        Raises:
            ClientError: the homeserver does not answer.
        """
        settings = await self.settings(room_id)
        if settings is None:
            return None
        reason = self._reason(room_id, settings)
        if reason is None:
            if self._extensions.missing() is not None and not self._extensions.verified:
                await self._extensions.verify(self._probe)
            reason = self._extensions.missing()
        if reason is not None and self._rooms.tell_once(room_id):
            text = (
                f"This room is encrypted, and I take no part in that: {reason}. What is said"
                " here stays here, and what is said on the other side is not shown here."
            )
            await self._as_bot.say_in_the_clear(room_id, text, txn_id=f"closed-{self._ids(16)}")
        return reason

    def _reason(self, room_id: str, settings: RoomSettings) -> str | None:
        if self._config.encrypted_rooms == REFUSE:
            return "the bridge's operator does not allow it"
        if self._rooms.is_closed(room_id):
            return "somebody who may decide so for this room did"
        if settings.algorithm != MEGOLM:
            return "it is encrypted in a way I do not know"
        return None

    async def members(self, room_id: str) -> list[str]:
        """The joined users of a room; none, where the bot is not."""
        found = self._joined.get(room_id)
        if found is None:
            try:
                found = self._joined[room_id] = frozenset(await self._as_bot.joined_members(room_id))
            except ApiError as error:
                if error.status not in _NOT_THERE:
                    raise
                found = frozenset()  # an alias of ours lets us hear rooms that we are not in
        return sorted(found)

    @property
    def _as_bot(self) -> Homeserver:
        if self._homeserver is None:
            raise RuntimeError("the homeserver has to be known before anything is sent")
        return self._homeserver
