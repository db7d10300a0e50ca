"""The people on both sides: of the homeserver over its client API, of b.example by our SDK."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx
import trio

from linearized.client import ApiError, Item, ProviderApi, ServerUnreachable
from linearized.demo.homeserver import HomeserverFiles, MatrixUser, register
from linearized.demo.participant import Participant, now_ms, participant
from tests.bridges.encrypting_client import EncryptingClient
from tests.homeserver.stage import PASSWORD, Stage, provider_of

JsonObject = dict[str, Any]
T = TypeVar("T")
# For anything that is to happen at all. What is late on a loaded machine is not wrong.
PATIENCE = 300.0
# Between two tries of what asks a program that may be away.
AWAY_PAUSE = 0.2
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100)
_FILTER = json.dumps({"room": {"timeline": {"limit": 1000}}, "presence": {"types": []}})


async def until_taken(offer: Callable[[], Awaitable[T]]) -> T:
    """Offer the same again until it is taken, as a client does whose server is away."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return await offer()
            except (httpx.TransportError, ServerUnreachable):
                await trio.sleep(AWAY_PAUSE)
            except ApiError as error:
                if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                await trio.sleep(AWAY_PAUSE)  # our provider is there, the hub behind it is not


@dataclass
class Eyes:
    """What one user of the homeserver sees, room by room, in the homeserver's order; decrypted if need be."""

    user: MatrixUser
    crypto: EncryptingClient | None = None
    events: dict[str, list[JsonObject]] = field(default_factory=lambda: defaultdict(list))
    # By event, when it came (``time.monotonic``).
    arrivals: dict[str, float] = field(default_factory=dict)
    _since: str = ""
    _news: trio.Event = field(default_factory=trio.Event)

    async def watch(self) -> None:
        """Sync for ever; a homeserver that is away is asked again."""
        while True:
            query = {"timeout": "20000", "filter": _FILTER, **({"since": self._since} if self._since else {})}
            try:
                answer = await self.user.call("GET", "/sync", query=query)
            except httpx.TransportError:
                await trio.sleep(AWAY_PAUSE)
                continue
            self._since = answer["next_batch"]
            if self.crypto is not None:
                self.crypto.take(answer.get("to_device", {}).get("events", []))
            for room_id, room in answer.get("rooms", {}).get("join", {}).items():
                for event in room["timeline"]["events"]:
                    self.arrivals[event["event_id"]] = time.monotonic()
                    self.events[room_id].append(self._opened({**event, "room_id": room_id}))
            self._news.set()
            self._news = trio.Event()

    def _opened(self, event: JsonObject) -> JsonObject:
        if event["type"] != "m.room.encrypted" or self.crypto is None or "ciphertext" not in event["content"]:
            return event
        if (event["room_id"], event["content"]["session_id"]) not in self.crypto.keys:
            return event
        inner = self.crypto.decrypt(event)
        content = inner["content"]
        if "m.relates_to" in event["content"]:
            content = {**content, "m.relates_to": event["content"]["m.relates_to"]}
        return {**event, "type": inner["type"], "content": content}

    async def news(self) -> None:
        """Wait until something new has come."""
        await self._news.wait()

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for something to hold, which only changes when there is something new to see."""
        with trio.move_on_after(PATIENCE):
            while not holds():
                await self.news()
            return
        raise AssertionError(f"{self.user.user_id} did not see {what}")


@dataclass
class Crowd:
    """Users of the homeserver; ``crypto`` of those who have a client that encrypts, and the rooms where they
    do.
    """

    http: httpx.AsyncClient
    users: dict[str, MatrixUser]
    crypto: dict[str, EncryptingClient] = field(default_factory=dict)
    encrypted: set[str] = field(default_factory=set)

    async def send(self, name: str, room_id: str, kind: str, content: JsonObject) -> str:
        """Send an event, encrypted by a client that does so for this room; gives its ID."""
        user = self.users[name]
        if kind == "m.room.redaction":
            path = f"/rooms/{room_id}/redact/{content['redacts']}/{secrets.token_hex(8)}"
            return str((await user.call("PUT", path, body={}))["event_id"])
        if room_id in self.encrypted and kind != "m.reaction":
            kind, content = await self.sealed(name, room_id, kind, content)
        return await user.send(room_id, kind, content)

    async def sealed(self, name: str, room_id: str, kind: str, content: JsonObject) -> tuple[str, JsonObject]:
        """An event as a client that encrypts sends it, once everybody has the key."""
        user, crypto = self.users[name], self.crypto[name]
        joined = await until_taken(partial(user.call, "GET", f"/rooms/{room_id}/joined_members"))
        await crypto.share(room_id, joined["joined"])
        sealed = crypto.encrypt(room_id, kind, content)
        if "m.relates_to" in content:
            sealed["m.relates_to"] = content["m.relates_to"]
        return "m.room.encrypted", sealed

    async def download(self, mxc: str) -> bytes:
        """The file behind an ``mxc://`` URI."""
        user = next(iter(self.users.values()))
        path = f"/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}"
        answer = await self.http.get(path, headers={"Authorization": f"Bearer {user.token}"})
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.content


@asynccontextmanager
async def crowd(
    files: HomeserverFiles, names: Sequence[str], *, encrypting: Sequence[str] = ()
) -> AsyncIterator[Crowd]:
    """Users of a homeserver with new accounts."""
    async with httpx.AsyncClient(base_url=files.url, limits=_LIMITS) as http:
        users: dict[str, MatrixUser] = {}

        async def make(name: str) -> None:
            users[name] = await register(http, files.shared_secret, name, PASSWORD)

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(make, name)
        found = Crowd(http, {name: users[name] for name in names})
        for name in encrypting:
            found.crypto[name] = await _encrypting(users[name])
        yield found


async def _encrypting(user: MatrixUser) -> EncryptingClient:
    async def call(method: str, path: str, body: JsonObject | None) -> JsonObject:
        return await until_taken(partial(user.call, method, f"/{path}", body=body))

    device = (await user.call("GET", "/account/whoami"))["device_id"]
    client = EncryptingClient(call, user.user_id, device)
    await client.publish()
    return client


@asynccontextmanager
async def people(stage: Stage, names: Sequence[str], test: str) -> AsyncIterator[dict[str, Participant]]:
    """Users of the providers at work, each with a device of its own for this ``test``."""
    tls = ssl.create_default_context(cafile=str(stage.ca))
    # Not HTTP/2: of several long polls on one connection, httpcore lets one keep others from their answers.
    async with httpx.AsyncClient(verify=tls, limits=_LIMITS) as http, AsyncExitStack() as stack:
        found = {}
        for name in names:
            url = stage.url_of(provider_of(name))
            api = ProviderApi(url, token=None, http=http, clock=now_ms, ids=secrets.token_urlsafe)
            login = await api.login(name, PASSWORD, device_id=f"{test}{name}".upper())
            state = stage.directory / f"{test}-{name}.state"
            found[name] = await stack.enter_async_context(participant(api, login, state))
        yield found


async def heard(person: Participant, what: str, holds: Callable[[list[Item]], bool]) -> None:
    """Wait until what somebody was handed fits."""
    with trio.move_on_after(PATIENCE):
        while not holds(person.items):
            await person.news()
        return
    raise AssertionError(f"{person.login.user_id} did not see {what}")
