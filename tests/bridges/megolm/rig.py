"""The bridge's side of encryption by itself, on a database in memory, with a key server beside it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import Accounts, OwnDevice
from bridges.matrix.megolm.devices import DeviceLists, checked_devices
from bridges.matrix.megolm.held import Held
from bridges.matrix.megolm.inbound import GroupDecryption
from bridges.matrix.megolm.letters import Letters
from bridges.matrix.megolm.mailbox import Letter, Mailbox
from bridges.matrix.megolm.olm import Olm
from bridges.matrix.megolm.outbound import GroupEncryption
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.requests import KeyRequests
from bridges.matrix.megolm.rooms import RoomSettings, settings_of
from bridges.matrix.megolm.sharing import Sharing
from tests.bridges.encrypting_client import EncryptingClient, JsonObject
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver
from tests.bridges.megolm.support import PHONE, client_of
from tests.bridges.support import ALICE, AS_TOKEN, BOT

KEY = b"k" * 32
ROOM = f"!room:{DOMAIN}"
WEEK = settings_of({"algorithm": "m.megolm.v1.aes-sha2"})


@dataclass
class Rig:
    """``members`` are those of every room; ``now`` is the time in milliseconds."""

    homeserver: FakeHomeserver = field(default_factory=FakeHomeserver)
    members: list[str] = field(default_factory=lambda: [ALICE, BOT])
    now: int = 1_000_000_000

    def __post_init__(self) -> None:
        self.database = Database(":memory:")
        numbers = itertools.count(1)

        def ids(size: int) -> str:
            return f"{'x' * size}{next(numbers)}"

        self.accounts = Accounts(self.database, key=KEY, ids=ids)
        self.lists = DeviceLists(self.database)
        self.decryption = GroupDecryption(self.database, key=KEY)
        self.olm = Olm(self.database, self.accounts, key=KEY)
        self.encryption = GroupEncryption(self.database, self.decryption, key=KEY, clock=lambda: self.now)
        self.held = Held(self.database, clock=lambda: self.now)
        self.publishing = Publishing(
            base_url=f"https://{DOMAIN}",
            token=AS_TOKEN,
            http=self.homeserver.http(),
            database=self.database,
            accounts=self.accounts,
            lists=self.lists,
            bot=BOT,
        )
        self.requests = KeyRequests(
            self.database,
            publishing=self.publishing,
            lists=self.lists,
            bot=BOT,
            clock=lambda: self.now,
            ids=ids,
        )
        self.sharing = Sharing(
            publishing=self.publishing,
            lists=self.lists,
            olm=self.olm,
            encryption=self.encryption,
            members=self._members,
            is_ours=lambda user: "_lin_" in user,
            ids=ids,
        )
        self.letters = Letters(
            accounts=self.accounts,
            publishing=self.publishing,
            lists=self.lists,
            olm=self.olm,
            decryption=self.decryption,
            encryption=self.encryption,
            sharing=self.sharing,
            held=self.held,
            requests=self.requests,
            mailbox=Mailbox(self.database),
            database=self.database,
            clock=lambda: self.now,
        )

    async def _members(self, room_id: str) -> list[str]:
        del room_id
        return self.members

    @property
    def bot_keys(self) -> JsonObject:
        """The bot's device as others see it."""
        own = self.accounts.make(BOT)
        return self.homeserver.keys.devices[BOT, own.device_id]

    async def bot(self) -> OwnDevice:
        return await self.publishing.device(BOT)

    async def client(self, user: str = ALICE, device: str = PHONE, **more: Any) -> EncryptingClient:
        made = client_of(self.homeserver, user, device)
        await made.publish(**more)
        return made

    def letter(self, content: JsonObject, sender: str = ALICE, kind: str = "m.room.encrypted") -> Letter:
        device = self.bot_keys["device_id"]
        return Letter(number=0, type=kind, sender=sender, to_user=BOT, to_device=device, content=content)

    async def give_key(self, client: EncryptingClient, **forged: Any) -> None:
        """A client gives the bot the key of its session."""
        sealed = await client.olm(self.bot_keys, "m.room_key", client.room_key(ROOM), **forged)
        await self.letters.handle(self.letter(sealed, client.user_id))

    def event(self, client: EncryptingClient, event_id: str = "$1", /, **forged: Any) -> JsonObject:
        """An event in which a client says hello, encrypted."""
        content = client.encrypt(ROOM, "m.room.message", {"msgtype": "m.text", "body": "hello"}, **forged)
        return {
            "type": "m.room.encrypted",
            "room_id": ROOM,
            "event_id": event_id,
            "sender": client.user_id,
            "content": content,
        }

    async def seal(self, settings: RoomSettings = WEEK) -> JsonObject:
        """What the bot sends to say something."""
        content = {"msgtype": "m.text", "body": "hello"}
        return await self.sharing.seal(ROOM, BOT, settings, "m.room.message", content)

    def received(self, client: EncryptingClient) -> list[JsonObject]:
        """To-device messages that came for a client; it reads them."""
        inbox = self.homeserver.keys.inboxes
        messages, inbox[client.user_id, client.device_id] = inbox[client.user_id, client.device_id], []
        client.take(messages)
        return messages


def devices_in(answer: JsonObject, user: str = ALICE, own: str | None = None) -> list[str]:
    """The IDs of the devices that count in an answer."""
    return [device.device_id for device in checked_devices(answer, user, own_identity=own)]
