"""The bridge's part in encrypted rooms, put together: what the rest of the bridge asks and tells.

``receive`` keeps what a transaction brings, ``work`` deals with it, ``opened`` decrypts an event, ``seal``
encrypts what is to be sent. In a room that is encrypted nothing is ever sent in the clear, except that it is
closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import httpx
import structlog
import trio

from bridges.matrix.config import REFUSE, BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.megolm.accounts import MEGOLM, Accounts
from bridges.matrix.megolm.devices import DeviceLists
from bridges.matrix.megolm.errors import EncryptionError, MissingKey, RoomClosed, UnknownAlgorithm
from bridges.matrix.megolm.extensions import PROBE, Extensions
from bridges.matrix.megolm.held import Held, is_late, replacement
from bridges.matrix.megolm.inbound import GroupDecryption
from bridges.matrix.megolm.letters import Letters
from bridges.matrix.megolm.mailbox import Letter, Mailbox, MailboxFull
from bridges.matrix.megolm.olm import Olm
from bridges.matrix.megolm.outbound import GroupEncryption
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.rooms import ENCRYPTION, EncryptedRooms, RoomSettings
from bridges.matrix.megolm.sharing import Sharing
from bridges.matrix.records import Incoming
from linearized.client import ApiError

ENCRYPTED = "m.room.encrypted"
# Homeservers have to read these: who may redact what, and what is counted.
_NEVER_ENCRYPTED = frozenset({ENCRYPTED, "m.reaction", "m.room.redaction"})
# Inboxes of a room are read again at most this often while a key is missing.
INBOX_PAUSE = 5.0
# Ghosts of a room whose inboxes are read for a key that is missing: each was given the same.
MAX_LISTENERS = 3
# Pages of an inbox read at once; a page has a hundred messages.
MAX_INBOX_PAGES = 100
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


class Encryption:
    """Everything about encrypted rooms. ``clock`` gives milliseconds."""

    def __init__(
        self,
        *,
        config: BridgeConfig,
        key: bytes,
        database: Database,
        http: httpx.AsyncClient,
        clock: Callable[[], int],
        ids: Callable[[int], str],
    ) -> None:
        names = config.names
        self._config = config
        self._bot = names.bot
        self._is_ours = names.is_ours
        self._database = database
        self._homeserver: Homeserver | None = None
        self.rooms = EncryptedRooms(database)
        self.extensions = Extensions(database, probe=ids(16))
        self._accounts = Accounts(database, key=key, ids=ids)
        self._lists = DeviceLists(database)
        self._mailbox = Mailbox(database)
        self._held = Held(database, clock=clock)
        self._decryption = GroupDecryption(database, key=key)
        olm = Olm(database, self._accounts, key=key)
        encryption = GroupEncryption(database, self._decryption, key=key, clock=clock)
        self._publishing = Publishing(
            base_url=config.homeserver_url,
            token=config.as_token,
            http=http,
            database=database,
            accounts=self._accounts,
            lists=self._lists,
            bot=names.bot,
        )
        self._sharing = Sharing(
            publishing=self._publishing,
            lists=self._lists,
            olm=olm,
            encryption=encryption,
            members=self._members,
            is_ours=names.is_ours,
            ids=ids,
        )
        self._letters = Letters(
            accounts=self._accounts,
            publishing=self._publishing,
            lists=self._lists,
            olm=olm,
            decryption=self._decryption,
            encryption=encryption,
            sharing=self._sharing,
            held=self._held,
            clock=clock,
        )
        self._ids = ids
        # What the homeserver said of our keys in the newest transaction, until it is dealt with.
        self._counts: tuple[JsonObject, JsonObject] = ({}, {})
        self._joined: dict[str, frozenset[str]] = {}
        self._asked: set[str] = set()
        # When the inboxes of a room's ghosts were read last for a key that is missing.
        self._looked: dict[str, float] = {}

    def use(self, homeserver: Homeserver) -> None:
        """The homeserver as the bot, which itself needs us to send."""
        self._homeserver = homeserver

    # --- what the homeserver pushes ---

    def receive(self, transaction: Mapping[str, Any]) -> bool:
        """Keep what a transaction brings beside its events; whether there is something to do. To be called
        within the database transaction that keeps the events.

        Raises:
            MailboxFull: the homeserver has to bring it again.
        """
        self.extensions.saw(transaction)
        new = self._mailbox.put(_first(transaction, "to_device", "de.sorunome.msc2409.to_device", list))
        lists = _first(transaction, "device_lists", "org.matrix.msc3202.device_lists", dict)
        for users in (lists.get("changed"), lists.get("left")):
            self._lists.changed(
                [user for user in users if isinstance(user, str)] if isinstance(users, list) else []
            )
        counts = _first(
            transaction, "device_one_time_keys_count", "org.matrix.msc3202.device_one_time_keys_count", dict
        )
        unused = _first(
            transaction,
            "device_unused_fallback_key_types",
            "org.matrix.msc3202.device_unused_fallback_key_types",
            dict,
        )
        self._counts[0].update(counts)
        self._counts[1].update(unused)
        for event in _first(transaction, "events", "events", list):
            self._note(event)
        return bool(new or counts)

    def _note(self, event: object) -> None:
        if not isinstance(event, dict) or not isinstance(event.get("room_id"), str):
            return
        if event.get("type") == "m.room.member":
            self._joined.pop(event["room_id"], None)
        elif event.get("type") == ENCRYPTION and event.get("state_key") == "":
            # Known before the event's turn comes, so that nothing more is said in the clear.
            content = event.get("content")
            self.rooms.note(event["room_id"], content if isinstance(content, dict) else {})

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
            self.extensions.refused(error.errcode)
        else:
            self.extensions.taken()
        self._lists.all_outdated()

    async def verify(self) -> None:
        """Find out whether the homeserver still does what encrypted rooms need; while it is away, wait."""
        if self._config.encrypted_rooms == REFUSE:
            return

        async def work() -> None:
            await self.extensions.verify(self._probe)

        reason = await carried(work)
        if reason is not None:
            log.error("the homeserver could not be asked about encrypted rooms", reason=reason)
        missing = self.extensions.missing()
        if missing is not None:
            log.warning("encrypted rooms stay closed", reason=missing)

    async def _probe(self) -> None:
        own = await self._publishing.device(self._bot)
        messages = {self._bot: {own.device_id: self.extensions.content}}
        await self._publishing.api(own).send_to_device(PROBE, messages, txn_id=self._ids(16))

    async def work(self) -> None:
        """Deal with what came: to-device messages, keys used up, events that waited long enough. While the
        homeserver is away, this waits.
        """
        while (letter := self._mailbox.next()) is not None:
            await self._deal_with(letter)
        counts, self._counts = self._counts, ({}, {})
        reason = await carried(lambda: self._publishing.top_up(*counts))
        if reason is not None:
            log.error("keys could not be uploaded", reason=reason)
        self._held.give_up()

    async def _deal_with(self, letter: Letter) -> None:
        reason = await carried(lambda: self._letters.handle(letter))
        if reason is not None:
            log.warning(
                "a to-device message is refused", sender=letter.sender, kind=letter.type, reason=reason
            )
        self._mailbox.done(letter)

    def patience(self) -> float:
        """Seconds after which ``work`` has something to do even if nothing comes."""
        milliseconds = self._held.patience()
        return float("inf") if milliseconds is None else milliseconds / 1000

    async def read_inboxes(self, room_id: str | None = None) -> None:
        """Fetch what the homeserver did not push to our devices, or to those of a room: what it had queued
        while it saw us down, it forgets. The bot has no inbox that can be read (Synapse answers its ``/sync``
        with 500), which is why a ghost listens in every encrypted room.

        Raises:
            ServerUnreachable: the homeserver is away.
        """
        users = [user for user in self._accounts.all_users() if user != self._bot]
        if room_id is not None:
            members = await self._members(room_id)
            users = [user for user in users if user in members][:MAX_LISTENERS]
        for user in users:
            try:
                await self._read_inbox(user)
            except ApiError as error:
                log.warning("an inbox could not be read", user_id=user, error=str(error))
            except MailboxFull:  # what is left stays in the inboxes
                return

    async def _read_inbox(self, user_id: str) -> None:
        own = self._accounts.find(user_id)
        if own is None or not own.published:
            return
        since = self.extensions.inbox_position(user_id)
        ours = {"to_user_id": own.user_id, "to_device_id": own.device_id}
        for _ in range(MAX_INBOX_PAGES):
            messages, since = await self._publishing.api(own).inbox(since)
            with self._database.together():
                self._mailbox.put({**message, **ours} for message in messages)
                self.extensions.set_inbox_position(user_id, since)
            if not messages:
                return

    async def _listen(self, room_id: str) -> None:
        """Have a ghost with a device in the room, if there is any ghost."""
        ghosts = [user for user in await self._members(room_id) if user != self._bot and self._is_ours(user)]
        if ghosts and not any(self._accounts.find(user) for user in ghosts):
            await self._publishing.device(ghosts[0])

    # --- reading ---

    async def opened(self, incoming: Incoming) -> Incoming | None:
        """The event as it was before it was encrypted, itself if it is not (or cannot be read, so that the
        other side is told of it), or ``None`` if it waits for its key.

        Raises:
            EncryptionError: it is not to be shown.
            ClientError: the homeserver is away.
        """
        event = incoming.event
        self._note(event)  # what an audit found was never in a transaction
        if event.get("type") != ENCRYPTED or "state_key" in event:
            return incoming
        if await self.closed(incoming.room_id) is not None:
            return incoming
        await self._listen(incoming.room_id)
        try:
            event = self._decryption.decrypt(event)
        except UnknownAlgorithm:
            return incoming
        except MissingKey as missing:
            if is_late(incoming):  # it was here, and is gone: of a session nobody keeps so long
                raise
            if self._held.hold(incoming, missing.session_id):
                await self._look_for_key(incoming.room_id)
                return None
            return incoming
        if is_late(incoming):
            event = replacement(incoming, event)
        return replace(incoming, event=event)

    def reopened(self, event: JsonObject) -> JsonObject:
        """An event that was fetched as it was before it was encrypted; itself if it cannot be read."""
        if event.get("type") != ENCRYPTED:
            return event
        try:
            return self._decryption.decrypt(event)
        except EncryptionError:
            return event

    async def _look_for_key(self, room_id: str) -> None:
        now, last = trio.current_time(), self._looked.get(room_id)
        if last is None or now - last >= INBOX_PAUSE:
            self._looked[room_id] = now
            await self.read_inboxes(room_id)

    # --- writing ---

    async def seal(
        self, room_id: str, user_id: str, event_type: str, content: JsonObject
    ) -> tuple[str, JsonObject]:
        """What has to be sent so that a user of ours says something in a room.

        Raises:
            RoomClosed: the room is encrypted, and we take no part in that.
            ClientError: the homeserver is away.
        """
        if event_type in _NEVER_ENCRYPTED:
            return event_type, content
        settings = await self.settings(room_id)
        if settings is None:
            return event_type, content
        reason = await self.closed(room_id)
        if reason is not None:
            raise RoomClosed(reason)
        return ENCRYPTED, await self._sharing.seal(room_id, user_id, settings, event_type, content)

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
                self.rooms.note(room_id, content if isinstance(content, dict) else {})
            self._asked.add(room_id)
        return self.rooms.settings(room_id)

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
            if self.extensions.missing() is not None and not self.extensions.verified:
                await self.extensions.verify(self._probe)
            reason = self.extensions.missing()
        if reason is not None and self.rooms.tell_once(room_id):
            text = (
                f"This room is encrypted, and I take no part in that: {reason}. What is said"
                " here stays here, and what is said on the other side is not shown here."
            )
            await self._as_bot.say_in_the_clear(room_id, text, txn_id=f"closed-{self._ids(16)}")
        return reason

    def _reason(self, room_id: str, settings: RoomSettings) -> str | None:
        if self._config.encrypted_rooms == REFUSE:
            return "the bridge's operator does not allow it"
        if self.rooms.is_closed(room_id):
            return "somebody who may decide so for this room did"
        if settings.algorithm != MEGOLM:
            return "it is encrypted in a way I do not know"
        return None

    async def _members(self, room_id: str) -> list[str]:
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


Seal = Callable[[str, str, str, JsonObject], Awaitable[tuple[str, JsonObject]]]


def _first(transaction: Mapping[str, Any], stable: str, unstable: str, kind: type) -> Any:
    """A field of a transaction under its stable or its older name; empty if it has neither."""
    for name in (stable, unstable):
        value = transaction.get(name)
        if isinstance(value, kind):
            return value
    return kind()
