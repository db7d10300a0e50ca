"""An encrypted room of the fake homeserver, with somebody in it who encrypts."""

from __future__ import annotations

from typing import Any

from tests.bridges.encrypting_client import EncryptingClient, JsonObject
from tests.bridges.fake_homeserver import FakeHomeserver, MatrixRoom
from tests.bridges.support import ALICE, MATRIX_ROOM, World

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}
PHONE = "PHONE"


def client_of(homeserver: FakeHomeserver, user: str, device: str = PHONE) -> EncryptingClient:
    """A device of a user of the fake homeserver."""

    async def call(method: str, path: str, body: JsonObject | None) -> JsonObject:
        return homeserver.keys.answer(user, device, method, path.split("/"), body or {})

    return EncryptingClient(call, user, device)


def encrypted_room(homeserver: FakeHomeserver, **settings: Any) -> MatrixRoom:
    """A room of Alice's in which everything is encrypted."""
    room = homeserver.create(MATRIX_ROOM, ALICE)
    content = {**ENCRYPTION, **settings}
    homeserver.emit(room, ALICE, "m.room.encryption", content, state_key="", push=False)
    return room


async def says(world: World, room: MatrixRoom, client: EncryptingClient, body: str, **more: Any) -> str:
    """Somebody says something in the room, encrypted for whoever is in it."""
    joined = [user for user, membership in room.members.items() if membership == "join"]
    await client.share(room.room_id, joined)
    content = client.encrypt(room.room_id, "m.room.message", {"msgtype": "m.text", "body": body, **more})
    event = world.homeserver.emit(room, client.user_id, "m.room.encrypted", content)
    return str(event["event_id"])


async def hears(world: World, room: MatrixRoom, client: EncryptingClient) -> list[str]:
    """The texts that somebody can read of what the bridge's users sent into the room."""
    client.take((await client.call("GET", "sync", None))["to_device"]["events"])
    sent = [
        event for event in room.timeline if "_lin_" in event["sender"] and event["type"] == "m.room.encrypted"
    ]
    return [str(client.decrypt(event)["content"].get("body")) for event in sent]
