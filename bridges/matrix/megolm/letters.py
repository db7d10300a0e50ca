"""What to-device messages bring about: keys that come, keys that will not come, keys somebody asks for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import MEGOLM, Accounts, OwnDevice
from bridges.matrix.megolm.devices import Device, DeviceLists
from bridges.matrix.megolm.errors import (
    EncryptionError,
    MalformedKeyMessage,
    Undecryptable,
    UnknownDevice,
)
from bridges.matrix.megolm.held import Held
from bridges.matrix.megolm.inbound import GroupDecryption, RoomKey
from bridges.matrix.megolm.mailbox import Letter, Mailbox
from bridges.matrix.megolm.olm import Olm, Opened, sender_key_of
from bridges.matrix.megolm.outbound import GroupEncryption
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.requests import KeyRequests
from bridges.matrix.megolm.sharing import WITHHELD, Sharing

# "Clients should not create a new session with another device if it has already created one for that given
# device in the past 1 hour." We are as patient with devices that ask for a key, and with users whose device
# we do not know.
PAUSE_MS = 3_600_000
UNKNOWN_PAUSE_MS = 60_000
# Devices, users and requests remembered for these pauses; who is forgotten too early costs a request.
_REMEMBERED = 10_000
_WITHHELD = frozenset({WITHHELD, "org.matrix.room_key.withheld"})


class Letters:
    """Deals with to-device messages. ``clock`` gives milliseconds."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        publishing: Publishing,
        lists: DeviceLists,
        olm: Olm,
        decryption: GroupDecryption,
        encryption: GroupEncryption,
        sharing: Sharing,
        held: Held,
        requests: KeyRequests,
        mailbox: Mailbox,
        database: Database,
        clock: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._publishing = publishing
        self._lists = lists
        self._olm = olm
        self._decryption = decryption
        self._encryption = encryption
        self._sharing = sharing
        self._held = held
        self._requests = requests
        self._mailbox = mailbox
        self._database = database
        self._clock = clock
        self._last: OrderedDict[tuple[str, ...], int] = OrderedDict()

    async def handle(self, letter: Letter) -> None:
        """Deal with one message.

        Raises:
            EncryptionError: it is refused; nothing of it is used.
            ClientError: the homeserver is away; calling it again is right.
        """
        own = self._accounts.owner_of(letter.to_user, letter.to_device)
        if own is None:
            return  # for a device that is not, or no longer, ours
        if letter.type == "m.room.encrypted":
            await self._encrypted(own, letter)
        elif letter.type == "m.room_key_request":
            await self._requested(own, letter)
        elif letter.type in _WITHHELD:
            room_id, session_id = letter.content.get("room_id"), letter.content.get("session_id")
            if (
                isinstance(room_id, str)
                and isinstance(session_id, str)
                and self._held.withheld(room_id, session_id, letter.sender)
            ):
                self._requests.withheld(room_id, session_id, letter.sender)
        # Whatever else there is, such as verification, needs a person, or is not to be believed in the clear.

    async def _encrypted(self, own: OwnDevice, letter: Letter) -> None:
        sender = await self._sender(own, letter)
        try:
            refusal = self._use(own, letter, sender)
        except Undecryptable:
            await self._mend(own, sender)
            raise
        if refusal is not None:
            raise refusal

    def _use(self, own: OwnDevice, letter: Letter, sender: Device) -> EncryptionError | None:
        """Decrypt a message and keep the key in it, in one step: it can be decrypted only once. Gives why the
        key is refused, if it is.
        """
        with self._database.together():
            opened = self._olm.decrypt(own, letter.content, sender)
            try:
                key = self._key(own, opened)
            except EncryptionError as refusal:
                return refusal
            if key is not None:
                self._held.key_came(key.room_id, key.session_id)
                self._requests.came(key.room_id, key.session_id)
            self._mailbox.done(letter)
            return None

    async def _sender(self, own: OwnDevice, letter: Letter) -> Device:
        key = sender_key_of(letter.content)
        found = await self._publishing.find_device(letter.sender, key, own)
        if found is None and self._may(UNKNOWN_PAUSE_MS, "user", letter.sender):
            # A new device of theirs, perhaps, that the homeserver has not told us of.
            self._lists.changed([letter.sender])
            found = await self._publishing.find_device(letter.sender, key, own)
        if found is None:
            raise UnknownDevice(f"{letter.sender} has no device with the key the message names")
        return found

    def _key(self, own: OwnDevice, opened: Opened) -> RoomKey | None:
        if opened.type == "m.room_key":
            return self._decryption.add(opened.content, opened.sender)
        if opened.type == "m.forwarded_room_key":
            if opened.content.get("sender_key") == opened.sender.curve25519 and self._asked_for(opened):
                # It is the session's own device that gives its key, as it would with an m.room_key.
                return self._decryption.add_forwarded(opened.content, opened.sender)
            # "from a trusted source, such as via a m.forwarded_room_key event from a verified device
            # belonging to the same user". We have one device for each user, so this is another that the
            # operator gave our identity.
            if opened.sender.user_id != own.user_id or not opened.sender.cross_signed:
                raise UnknownDevice(
                    "a key forwarded by a device that is not ours, or that we have not signed"
                )
            owner = self._lists.owner_of_key(str(opened.content.get("sender_key")))
            if owner is None:
                raise UnknownDevice("a forwarded key of a device that we do not know")
            return self._decryption.add_forwarded(opened.content, owner)
        return None  # m.dummy, secrets of others: the session is what counts

    def _asked_for(self, opened: Opened) -> bool:
        room_id, session_id = opened.content.get("room_id"), opened.content.get("session_id")
        return self._requests.asked_for(str(room_id), str(session_id), opened.sender)

    async def _mend(self, own: OwnDevice, device: Device) -> None:
        """ "To establish a new session, the client sends an m.dummy to-device event to the other party"."""
        if not self._may(PAUSE_MS, "mend", own.user_id, device.user_id, device.device_id):
            return
        if not await self._sharing.begin_sessions(own, [device], anew=True):
            await self._sharing.send(own, [device], "m.dummy", {})

    async def _requested(self, own: OwnDevice, letter: Letter) -> None:
        """Give a key again to a verified device that had it, from where it had it on."""
        content = letter.content
        if content.get("action") != "request":
            return
        room_id, session_id = _requested_session(content.get("body"))
        await self._publishing.refresh([letter.sender], own)
        device = self._lists.by_id(letter.sender, str(content.get("requesting_device_id")))
        if device is None:
            raise UnknownDevice("a key is asked for by a device that its user does not have")
        if not device.cross_signed:
            raise UnknownDevice("a key is asked for by a device that its user has not verified")
        if not self._decryption.is_owned_by(room_id, session_id, own.curve25519):
            return  # a session of somebody else: that device is who to ask
        index = self._encryption.given_at(room_id, session_id, device)
        if index is None:
            raise UnknownDevice("a key is asked for by a device that never had it")
        exported = self._decryption.exported(room_id, session_id, index)
        if exported is None or not self._may(PAUSE_MS, "key", session_id, device.user_id, device.device_id):
            return
        key = {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session_id,
            "session_key": exported,
            "sender_key": own.curve25519,
            "sender_claimed_ed25519_key": own.ed25519,
            "forwarding_curve25519_key_chain": [],
        }
        if not await self._sharing.begin_sessions(own, [device]):
            await self._sharing.send(own, [device], "m.forwarded_room_key", key)

    def _may(self, pause_ms: int, *name: str) -> bool:
        """Whether this was not done within the pause; if so, it counts as done now."""
        now, last = self._clock(), self._last.get(name)
        if last is not None and now - last < pause_ms:
            return False
        self._last[name] = now
        self._last.move_to_end(name)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return True


def _requested_session(body: Any) -> tuple[str, str]:
    if not isinstance(body, dict):
        raise MalformedKeyMessage("a request for no key")
    room_id, session_id = body.get("room_id"), body.get("session_id")
    if not isinstance(room_id, str) or not isinstance(session_id, str):
        raise MalformedKeyMessage("a request for no key")
    return room_id, session_id
