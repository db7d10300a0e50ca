"""The signed log of the bridged room, read from A over its client API and verified like a client would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from linearized.client import ProviderApi
from linearized.client.verify import KeyLookup, LogBroken, LogReport, LogVerifier
from linearized.demo.bridging import BOT_TOKEN_FILE
from linearized.demo.homeserver import JsonObject
from linearized.demo.participant import provider_api
from linearized.demo.world import World
from linearized.protocol.events import Event


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


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """The events that passed, in order, and what is wrong with the first that did not."""

    events: list[Event]
    report: LogReport
    broken: str | None


def verify_pdus(pdus: Iterable[JsonObject], keys: KeyLookup) -> VerifiedLog:
    """Check format, hash, signature, link, authorisation and MLS epoch of every event, as the SDK does."""
    verifier = LogVerifier(keys)
    events: list[Event] = []
    try:
        for pdu in pdus:
            events.append(verifier.take(pdu))
    except LogBroken as broken:
        return VerifiedLog(events, verifier.report, str(broken))
    return VerifiedLog(events, verifier.report, None)
