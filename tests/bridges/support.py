"""A bridge between the fake homeserver and real providers, worked by hand, one round after another."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from bridges.matrix.config import BRIDGE, BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.parts import Environment
from bridges.matrix.runner import Bridge
from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, JsonObject, MatrixRoom
from tests.client.support import wall_clock
from tests.client.test_real_server import Club
from tests.server.support import Server

ALICE, BOB, CAROL = (f"@{name}:{DOMAIN}" for name in ("alice", "bob", "carol"))
BOT = f"@_lin_bot:{DOMAIN}"
GHOST_BOB = f"@_lin_b.example_bob:{DOMAIN}"
MATRIX_ROOM = f"!old:{DOMAIN}"
PROVISIONING_TOKEN = "provisioning" * 3
HS_TOKEN = "homeserver" * 4
AS_TOKEN = "appservice" * 4

_transactions = itertools.count(1)


def bridge_config(
    directory: Path, provider_token: str, operators: frozenset[str] = frozenset()
) -> BridgeConfig:
    return BridgeConfig(
        homeserver_url=f"https://{DOMAIN}",
        homeserver_domain=DOMAIN,
        as_token=AS_TOKEN,
        hs_token=HS_TOKEN,
        provider_url="https://a.example",
        provider_domain="a.example",
        provider_token=provider_token,
        listen="127.0.0.1:0",
        url="http://127.0.0.1:9009",
        database=directory / "bridge.sqlite",
        operators=operators,
        read_receipts=True,
        typing=True,
        provisioning_token=PROVISIONING_TOKEN,
    )


@dataclass
class World:
    """Everything: the homeserver, providers a.example and b.example, and the bridge between the first two."""

    homeserver: FakeHomeserver
    club: Club
    hub: Server
    bridge: Bridge
    directory: Path
    unanswered: tuple[str, list[JsonObject]] | None = None
    bridging: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def restart(self) -> None:
        """End the bridge and start it again."""
        await self.bridging.aclose()
        opened = opened_bridge(self.directory, self.homeserver, self.hub)
        self.bridge = await self.bridging.enter_async_context(opened)
        await self.bridge.start()
        await self.settle()

    async def push(self) -> None:
        """The homeserver delivers what it has to push. A transaction that a kill leaves unanswered comes
        again, as Synapse does it: with its events and nothing else.
        """
        keys = self.homeserver.keys
        while self.unanswered is not None or self.homeserver.pushes or keys.pushed:
            more: JsonObject = {}
            if self.unanswered is None:
                events, self.homeserver.pushes = self.homeserver.pushes[:100], self.homeserver.pushes[100:]
                self.unanswered, more = (str(next(_transactions)), events), keys.transaction()
            number, events = self.unanswered
            await push_events(self.bridge, events, txn_id=number, **more)
            self.unanswered = None

    async def settle(self) -> None:
        """Let the bridge work until neither side has anything new."""
        quiet = 0
        while quiet < 2:
            await self.push()
            moved = False
            while (incoming := await self.bridge.upcoming()) is not None:
                asked: list[str] = []
                await self.bridge.dispatch(incoming, asked.append)
                for room_id in asked:
                    await self.bridge.import_room(room_id)
                moved = True
            bot = self.bridge.puppets.bot
            await bot.step(50)
            for item in list(bot.device.state.inbox):
                await self.bridge.inbound.handle(item)
                bot.device.acknowledge(item)
                moved = True
            quiet = 0 if moved or self.homeserver.pushes else quiet + 1

    def room_id(self) -> str:
        link = self.bridge.links.of_matrix(MATRIX_ROOM)
        assert link is not None
        assert link.room_id is not None
        return link.room_id

    async def import_room(self, room: MatrixRoom) -> str:
        self.homeserver.member(room, BOT, "invite", sender=ALICE)
        await self.bridge.import_room(room.room_id)
        return self.room_id()


async def push_events(
    bridge: Bridge, events: list[JsonObject], *, txn_id: str | None = None, **more: Any
) -> int:
    body = {"events": events, "ephemeral": [], "de.sorunome.msc2409.ephemeral": [], **more}
    number = txn_id or str(next(_transactions))
    path = f"/_matrix/app/v1/transactions/{number}"
    return await call(bridge, "PUT", path, body, token=bridge.config.hs_token)


async def call(
    bridge: Bridge, method: str, path: str, body: Any = None, *, token: str | None = HS_TOKEN
) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=bridge.app)) as http:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content = None if body is None else json.dumps(body)
        answer = await http.request(method, f"http://bridge{path}", headers=headers, content=content)
        return answer.status_code


@asynccontextmanager
async def opened_bridge(
    directory: Path,
    homeserver: FakeHomeserver,
    hub: Server,
    operators: frozenset[str] = frozenset(),
    *,
    encrypted_rooms: str = BRIDGE,
) -> AsyncIterator[Bridge]:
    """A bridge process, so to speak: it can be opened again after a kill."""
    config = bridge_config(directory, hub.bridge_token, operators)
    config = replace(config, encrypted_rooms=encrypted_rooms)
    database = Database(config.database)
    try:
        async with homeserver.http() as to_homeserver, hub.http() as to_provider:
            environment = Environment(
                homeserver=to_homeserver,
                provider=to_provider,
                clock=wall_clock,
                ids=secrets.token_urlsafe,
                random=secrets.token_bytes,
            )
            yield Bridge(config, database, environment)
    finally:
        database.close()


@asynccontextmanager
async def open_world(directory: Path, *, operators: frozenset[str] = frozenset()) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        club = Club(directory, stack)
        hub = await club.server("a.example", bridged=(DOMAIN,))
        homeserver = FakeHomeserver()
        bridging = await stack.enter_async_context(AsyncExitStack())
        bridge = await bridging.enter_async_context(opened_bridge(directory, homeserver, hub, operators))
        await bridge.start()
        yield World(
            homeserver=homeserver, club=club, hub=hub, bridge=bridge, directory=directory, bridging=bridging
        )


async def bob_of_b(world: World) -> Session:
    """Bob, a user of another provider, with a device."""
    other = await world.club.server("b.example")
    return await world.club.device(other, "bob")
