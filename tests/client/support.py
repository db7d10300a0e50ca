"""Devices against the fake provider."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from linearized.client import Item, MemoryStorage, MlsDevice, ProviderApi, Session
from linearized.mimi.content import MimiContent, text
from tests.client.fake_provider import FakeProvider

ALICE = "@alice:a.example"
BOB = "@bob:a.example"
CAROL = "@carol:a.example"
ROOM = "!club:a.example"

_counter = itertools.count(1)


def wall_clock() -> int:
    """OpenMLS checks lifetimes against the system's clock, so key packages have to be made by it."""
    return int(time.time() * 1000)


def next_id(size: int) -> str:
    return f"id{next(_counter):0{size}}"


def message(body: str) -> MimiContent:
    return text(body, salt=next(_counter).to_bytes(16, "big"))


@asynccontextmanager
async def connected(
    provider: FakeProvider, user_id: str, device_id: str = "DEV", storage: MemoryStorage | None = None
) -> AsyncIterator[Session]:
    """A session for a device, continuing from ``storage``."""
    async with provider.http() as http:
        api = ProviderApi(
            "https://a.example",
            token=f"{user_id}|{device_id}",
            http=http,
            clock=wall_clock,
            ids=next_id,
        )
        device = MlsDevice.open(storage or MemoryStorage(), user_id=user_id, device_id=device_id)
        yield Session(api, device, key_packages=2)


async def drain(session: Session) -> list[Item]:
    """Catch up and take everything that waits."""
    await session.catch_up()
    items = list(session.device.state.inbox)
    for item in items:
        session.device.acknowledge(item)
    return items
