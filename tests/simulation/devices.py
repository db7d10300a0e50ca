"""Clients of the simulated servers' users: real MLS devices that follow their rooms, and what they read."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import trio

from linearized.client import (
    ApiError,
    Item,
    MemoryStorage,
    MlsDevice,
    ProviderApi,
    ServerUnreachable,
    Session,
)
from linearized.mimi.content import text
from linearized.protocol.identifiers import user_domain
from linearized.server.clients.auth import token_hash
from linearized.store.base import DeviceRow
from tests.simulation.world import World, clock

T = TypeVar("T")

# Simulated seconds between two tries of a request that a stopped server did not answer.
PAUSE = 5.0
_IDS = itertools.count()


def ids(size: int) -> str:
    """A name nothing else has."""
    return f"{next(_IDS):0{size}}"


@dataclass
class Device:
    """One client of a user. ``read`` is every item it was given, in order."""

    user_id: str
    session: Session
    read: list[Item] = field(default_factory=list)

    @property
    def client_uri(self) -> str:
        return self.session.device.owner.client_uri

    async def follow(self) -> None:
        """Read what comes, for ever."""
        async for item in self.session.items():
            self.read.append(item)

    async def insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something again and again until a server answers; what it refuses is raised."""
        while True:
            try:
                return await work()
            except ServerUnreachable:
                pass
            except ApiError as error:
                if error.status < 500:
                    raise
            await trio.sleep(PAUSE)

    async def say(self, room_id: str, body: str) -> str:
        """Say something, however often it takes; the event ID it has in the log."""
        content = text(body, salt=body.encode().ljust(16))
        sent = await self.insist(lambda: self.session.send(room_id, content, txn_id=body))
        return sent.event_id


async def sign_in(world: World, user_id: str, device_id: str, http: httpx.AsyncClient) -> Device:
    """A new device of a user, with key packages at its server. Its session is there without a password,
    whose hashing would take longer than the rest.
    """
    server = user_domain(user_id)
    token = f"token of {user_id} {device_id}"
    row = DeviceRow(user_id=user_id, device_id=device_id, display_name=None, token_hash=token_hash(token))
    await world.server(server).node.store.put_device(row)
    api = ProviderApi(f"https://{server}", token=token, http=http, clock=clock, ids=ids)
    device = MlsDevice.open(MemoryStorage(), user_id=user_id, device_id=device_id)
    found = Device(user_id, Session(api, device, key_packages=4))
    await found.session.upload_key_packages()
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Let simulated time go by until something holds."""
    with trio.fail_after(600):
        while not condition():  # noqa: ASYNC110 - a device's progress is no event
            await trio.sleep(1)
