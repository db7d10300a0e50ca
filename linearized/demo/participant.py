"""A user of a provider with an MLS client, through the SDK, in the demonstration's own process."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import trio

from linearized.client import (
    DecryptedMessage,
    FileStorage,
    Item,
    LoginResult,
    MlsDevice,
    ProviderApi,
    Session,
)
from linearized.demo.failures import StepFailed

# One hop is a few tens of milliseconds; after a restart a follower's backoff may add seconds.
ARRIVAL_DEADLINE_S = 60.0

ItemT = TypeVar("ItemT", bound=Item)


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def provider_api(url: str, ca: Path, *, token: str | None = None) -> AsyncIterator[ProviderApi]:
    """A provider's client API, trusting the development CA."""
    tls = ssl.create_default_context(cafile=str(ca))
    async with httpx.AsyncClient(verify=tls, http2=True) as http:
        yield ProviderApi(url, token=token, http=http, clock=now_ms, ids=secrets.token_urlsafe)


@dataclass(slots=True)
class Participant:
    """A session, and everything it was handed so far, each with the time it came (``time.monotonic``)."""

    session: Session
    login: LoginResult
    items: list[Item] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def messages(self) -> list[DecryptedMessage]:
        """The decrypted messages among the items."""
        return [item for item in self.items if isinstance(item, DecryptedMessage)]

    async def collect(self) -> None:
        """Take items for ever; run as a task."""
        async for item in self.session.items():
            self.items.append(item)
            self.arrivals.append(time.monotonic())
            self._news.set()
            self._news = trio.Event()

    async def news(self) -> None:
        """Wait for another item."""
        await self._news.wait()

    async def wait_for(
        self,
        kind: type[ItemT],
        what: str,
        fits: Callable[[ItemT], bool] = lambda item: True,
        *,
        after: int = 0,
    ) -> tuple[ItemT, float]:
        """The first item from index ``after`` on that fits, and when it came.

        Raises:
            StepFailed: none came before the deadline.
        """
        with trio.move_on_after(ARRIVAL_DEADLINE_S):
            while True:
                for item, arrival in zip(self.items[after:], self.arrivals[after:], strict=True):
                    if isinstance(item, kind) and fits(item):
                        return item, arrival
                await self._news.wait()
        seen = "\n".join(str(item)[:300] for item in self.items[-5:])
        raise StepFailed(f"{self.login.user_id} did not see {what} in {ARRIVAL_DEADLINE_S:.0f} s", seen)


@asynccontextmanager
async def participant(api: ProviderApi, login: LoginResult, state_file: Path) -> AsyncIterator[Participant]:
    """A participant at work, with its state in a file, until the block ends."""
    with FileStorage(state_file) as storage:
        device = MlsDevice.open(storage, user_id=login.user_id, device_id=login.device_id)
        person = Participant(Session(api.with_login(login), device), login)
        await person.session.upload_key_packages()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(person.collect)
            yield person
            nursery.cancel_scope.cancel()
