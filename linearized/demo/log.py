"""The signed log of the bridged room, read from A over its client API and verified like a client would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from linearized.client import ProviderApi
from linearized.demo.bridging import BOT_TOKEN_FILE
from linearized.demo.homeserver import JsonObject
from linearized.demo.participant import provider_api
from linearized.demo.world import World
from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.signing import verify_json
from linearized.protocol.verify import verify_event
from linearized.protocol.versions import RoomVersion, get_version


@asynccontextmanager
async def bot_api(world: World) -> AsyncIterator[ProviderApi]:
    """A's client API as the bridge's bot, who made the room."""
    token = (world.a.directory / BOT_TOKEN_FILE).read_text(encoding="ascii").strip()
    async with provider_api(world.a.url, world.a.ca, token=token) as api:
        yield api


async def whole_log(api: ProviderApi, room_id: str) -> list[JsonObject]:
    """The signed PDUs of a room, oldest first."""
    pdus: list[JsonObject] = []
    while True:
        page = await api.log(room_id, after=len(pdus))
        pdus.extend(page.pdus)
        if len(pdus) >= page.head_seq or not page.pdus:
            return pdus


async def verify_keys(api: ProviderApi) -> dict[str, bytes]:
    """The provider's own keys, by key ID, from its self-signed key document.

    Raises:
        SignatureError: the document is not signed by the keys it lists.
    """
    document = await api.server_keys()
    keys = {key_id: decode_base64(key["key"]) for key_id, key in document["verify_keys"].items()}
    verify_json(document, name=document["server_name"], keys=keys)
    return keys


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """The events that passed, in order, and what is wrong with the others."""

    events: list[Event]
    broken: list[str]


def verify_pdus(pdus: list[JsonObject], *, server: str, keys: dict[str, bytes]) -> VerifiedLog:
    """Check format, hash, signature and link of every event."""
    version: RoomVersion = get_version(pdus[0]["content"]["room_version"])
    events: list[Event] = []
    broken: list[str] = []
    previous: tuple[str, ...] = ()
    for seq, pdu in enumerate(pdus, start=1):
        try:
            event = parse_pdu(pdu, version)
            checked = verify_event(
                event, version=version, keys=lambda name, key_id: keys.get(key_id) if name == server else None
            )
        except InvalidInput as error:
            broken.append(f"entry {seq}: {error}")
            continue
        if checked.redacted:
            broken.append(f"entry {seq}: the content hash does not match")
        if event.prev_events != previous:
            broken.append(f"entry {seq}: prev_events is not the entry before")
        previous = (event.event_id,)
        events.append(event)
    return VerifiedLog(events, broken)
