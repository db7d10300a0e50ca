"""The bridge's part in encrypted rooms, put together: what the rest of the bridge asks and tells.

``receive`` keeps what a transaction brings, ``work`` deals with it, ``opened`` decrypts an event, ``seal``
encrypts what is to be sent. In a room that is encrypted nothing is ever sent in the clear, except that it is
closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import structlog

from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.failures import carried
from bridges.matrix.megolm.accounts import Accounts
from bridges.matrix.megolm.devices import DeviceLists
from bridges.matrix.megolm.errors import EncryptionError, MissingKey, RoomClosed, UnknownAlgorithm
from bridges.matrix.megolm.extensions import Extensions
from bridges.matrix.megolm.held import Held, is_late, replacement
from bridges.matrix.megolm.inbound import GroupDecryption
from bridges.matrix.megolm.inboxes import Inboxes
from bridges.matrix.megolm.letters import Letters
from bridges.matrix.megolm.mailbox import Letter, Mailbox
from bridges.matrix.megolm.olm import Olm
from bridges.matrix.megolm.outbound import GroupEncryption
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.requests import KeyRequests
from bridges.matrix.megolm.rooms import EncryptedRooms
from bridges.matrix.megolm.sharing import Sharing
from bridges.matrix.megolm.taking_part import TakingPart
from bridges.matrix.queue import Incoming

ENCRYPTED = "m.room.encrypted"
# Homeservers have to read these: who may redact what, and what is counted.
_NEVER_ENCRYPTED = frozenset({ENCRYPTED, "m.reaction", "m.room.redaction"})
# What holds the keys of rooms, and what waits for keys.
ROOM_TABLES = (
    "megolm_inbound",
    "megolm_outbound",
    "megolm_shared",
    "megolm_seen",
    "undecrypted",
    "key_requests",
)

JsonObject = dict[str, Any]
log = structlog.get_logger(__name__)


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
        self._database = database
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
        self.taking_part = TakingPart(
            config=config,
            rooms=self.rooms,
            extensions=self.extensions,
            publishing=self._publishing,
            lists=self._lists,
            ids=ids,
        )
        self._inboxes = Inboxes(
            database,
            accounts=self._accounts,
            publishing=self._publishing,
            extensions=self.extensions,
            mailbox=self._mailbox,
            members=self.taking_part.members,
            is_ours=names.is_ours,
            bot=names.bot,
        )
        self._requests = KeyRequests(
            database, publishing=self._publishing, lists=self._lists, bot=names.bot, clock=clock, ids=ids
        )
        self._sharing = Sharing(
            publishing=self._publishing,
            lists=self._lists,
            olm=olm,
            encryption=encryption,
            members=self.taking_part.members,
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
            requests=self._requests,
            mailbox=self._mailbox,
            database=database,
            clock=clock,
        )
        # What the homeserver said of our keys in the newest transaction, until it is dealt with.
        self._counts: tuple[JsonObject, JsonObject] = ({}, {})

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
            self.taking_part.note(event)
        return bool(new or counts)

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
        reason = await carried(self._requests.work)
        if reason is not None:
            log.error("keys could not be asked for", reason=reason)
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
        found = [value for value in (self._held.patience(), self._requests.patience()) if value is not None]
        return min(found) / 1000 if found else float("inf")

    def restored(self) -> None:
        """The homeserver may have forgotten our devices and their keys, changes of those of others, and keys
        that were on their way.
        """
        with self._database.together():
            self._database.run("UPDATE crypto_accounts SET published = 0")
            self._database.run("DELETE FROM megolm_outbound")
            self._lists.all_outdated()
            self.extensions.forget_inboxes()

    async def republish(self) -> None:
        """Make all our devices known again.

        Raises:
            ClientError: the homeserver is away, or refuses.
        """
        for user_id in self._accounts.all_users():
            await self._publishing.device(user_id)

    async def read_inboxes(self) -> None:
        """As ``Inboxes.read``, of all our devices."""
        await self._inboxes.read()

    def forget(self, room_id: str) -> None:
        """The room is no longer bridged: keep no keys of it, nor what waits for any. That it is encrypted
        stays known, and whether people closed it.
        """
        with self._database.together():
            for table in ROOM_TABLES:
                self._database.run(f"DELETE FROM {table} WHERE room_id = ?", room_id)  # noqa: S608
        self.taking_part.forget(room_id)
        self._inboxes.forget(room_id)
        self._sharing.forget(room_id)

    # --- reading ---

    async def opened(self, incoming: Incoming) -> Incoming | None:
        """The event as it was before it was encrypted, itself if it is not (or cannot be read, so that the
        other side is told of it), or ``None`` if it waits for its key, or behind one that does.

        Raises:
            EncryptionError: it is not to be shown.
            ClientError: the homeserver is away.
        """
        event = incoming.event
        self.taking_part.note(event)  # what an audit found was never in a transaction
        if not is_late(incoming) and self._held.hold_behind(incoming):
            return None
        in_the_clear = event.get("type") != ENCRYPTED or "state_key" in event
        if in_the_clear or await self.taking_part.closed(incoming.room_id) is not None:
            return incoming
        await self._inboxes.listen(incoming.room_id)
        try:
            event = self._decryption.decrypt(event)
        except UnknownAlgorithm:
            return incoming
        except MissingKey as missing:
            if is_late(incoming):  # it was here, and is gone: of a session nobody keeps so long
                raise
            if self._held.hold(incoming, missing.session_id):
                await self._inboxes.look_for_key(incoming.room_id)
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
        settings = await self.taking_part.settings(room_id)
        if settings is None:
            return event_type, content
        reason = await self.taking_part.closed(room_id)
        if reason is not None:
            raise RoomClosed(reason)
        return ENCRYPTED, await self._sharing.seal(room_id, user_id, settings, event_type, content)


def _first(transaction: Mapping[str, Any], stable: str, unstable: str, kind: type) -> Any:
    """A field of a transaction under its stable or its older name; empty if it has neither."""
    for name in (stable, unstable):
        value = transaction.get(name)
        if isinstance(value, kind):
            return value
    return kind()
