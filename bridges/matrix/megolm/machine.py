"""The bridge's part in encrypted rooms, put together: what the rest of the bridge asks and tells.

``receive`` keeps what a transaction brings, ``work`` deals with it, ``opened`` decrypts an event, ``seal``
encrypts what is to be sent. In a room that is encrypted nothing is ever sent in the clear, except that it is
closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import httpx
import structlog
import trio

from bridges.matrix.config import REFUSE, BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.megolm.accounts import MEGOLM, Accounts, has_accounts
from bridges.matrix.megolm.devices import DeviceLists
from bridges.matrix.megolm.errors import MissingKey, RoomClosed, UnknownAlgorithm
from bridges.matrix.megolm.extensions import Extensions
from bridges.matrix.megolm.held import Held, is_late, replacement
from bridges.matrix.megolm.inbound import GroupDecryption
from bridges.matrix.megolm.keyfile import KEY_BYTES, storage_key
from bridges.matrix.megolm.letters import Letters
from bridges.matrix.megolm.mailbox import Letter, Mailbox
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
# The inbox is read again at most this often while a key is missing.
INBOX_PAUSE = 5.0
# Pages of the inbox read at once; a page has a hundred messages.
MAX_INBOX_PAGES = 100
# A homeserver that passes on to-device messages does so within a second; a busy one within this.
PROBE_DEADLINE = 20.0
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
        database: Database,
        http: httpx.AsyncClient,
        clock: Callable[[], int],
        ids: Callable[[int], str],
        random: Callable[[int], bytes],
    ) -> None:
        names = config.names
        key = storage_key(config.storage_key_path, fresh=random(KEY_BYTES), required=has_accounts(database))
        self._config = config
        self._bot = names.bot
        self._database = database
        self._homeserver: Homeserver | None = None
        self.rooms = EncryptedRooms(database)
        self.extensions = Extensions(database)
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
        self._inbox_read: float | None = None
        self._probed: float | None = None
        self._answered = trio.Event()

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
        if self.extensions.missing() is None:
            self._answered.set()
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
            await self._introduce()
        except ApiError as error:
            if is_passing(error):
                raise
            log.error("the homeserver does not take our keys", error=str(error))
            self.extensions.refused(error.errcode)

    async def _introduce(self) -> None:
        own = await self._publishing.device(self._bot)
        self._lists.all_outdated()
        probe = self.extensions.probe(self._ids)
        self._probed = trio.current_time()
        messages = {self._bot: {own.device_id: {"probe": probe}}}
        await self._publishing.api(own).send_to_device(Extensions.PROBE, messages, txn_id=self._ids(16))

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
        milliseconds = self._held.give_up()
        return float("inf") if milliseconds is None else milliseconds / 1000

    async def read_inbox(self) -> None:
        """Fetch what the homeserver did not push to the bot's device.

        Raises:
            ClientError: the homeserver is away.
        """
        own = self._accounts.find(self._bot)
        if own is None or not own.published:
            return
        self._inbox_read = trio.current_time()
        since = self.extensions.inbox_position
        for _ in range(MAX_INBOX_PAGES):
            messages, since = await self._publishing.api(own).inbox(since)
            ours = {"to_user_id": own.user_id, "to_device_id": own.device_id}
            with self._database.together():
                self._mailbox.put({**message, **ours} for message in messages)
                self.extensions.inbox_position = since
            if not messages:
                return

    # --- reading ---

    async def opened(self, incoming: Incoming) -> Incoming | None:
        """The event as it was before it was encrypted, itself if it is not (or cannot be read, so that the
        other side is told of it), or ``None`` if it waits for its key.

        Raises:
            EncryptionError: it is not to be shown.
            ClientError: the homeserver is away.
        """
        event = incoming.event
        if event.get("type") != ENCRYPTED or "state_key" in event:
            return incoming
        if await self.closed(incoming.room_id) is not None:
            return incoming
        try:
            event = self._decryption.decrypt(event)
        except UnknownAlgorithm:
            return incoming
        except MissingKey as missing:
            if is_late(incoming):  # it was here, and is gone: of a session nobody keeps so long
                raise
            if self._held.hold(incoming, missing.session_id):
                await self._look_for_key()
                return None
            return incoming
        if is_late(incoming):
            event = replacement(incoming, event)
        return replace(incoming, event=event)

    async def _look_for_key(self) -> None:
        now = trio.current_time()
        if self._inbox_read is None or now - self._inbox_read >= INBOX_PAUSE:
            await self.read_inbox()

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
            reason = await self._what_is_missing()
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

    async def _what_is_missing(self) -> str | None:
        """What the homeserver lacks. Right after the start this waits for the answer to what we sent
        ourselves.
        """
        missing = self.extensions.missing()
        if missing is not None and self._probed is not None:
            with trio.move_on_at(self._probed + PROBE_DEADLINE):
                await self._answered.wait()
            missing = self.extensions.missing()
        return missing

    async def _members(self, room_id: str) -> Iterable[str]:
        found = self._joined.get(room_id)
        if found is None:
            found = self._joined[room_id] = frozenset(await self._as_bot.joined_members(room_id))
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
