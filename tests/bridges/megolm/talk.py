"""Two people who talk across the bridge: Alice in an encrypted Matrix room, Bob at another provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridges.matrix.config import BRIDGE
from linearized.client import Session
from tests.bridges.encrypting_client import EncryptingClient
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, MatrixRoom
from tests.bridges.megolm.support import client_of, encrypted_room, hears, says
from tests.bridges.support import ALICE, GHOST_BOB, World, bob_of_b, opened_bridge
from tests.bridges.test_live import body_of, heard
from tests.client.support import drain, message
from tests.client.test_real_server import Club


@dataclass
class Talk:
    world: World
    room: MatrixRoom
    alice: EncryptingClient
    bob: Session

    async def bob_says(self, body: str) -> None:
        await self.bob.send(self.world.room_id(), message(body))
        await self.world.settle()

    async def bob_hears(self, count: int = 1) -> list[str]:
        return [body_of(item) for item in await heard(self.bob, count)]

    async def alice_says(self, body: str, **more: Any) -> str:
        event_id = await says(self.world, self.room, self.alice, body, **more)
        await self.world.settle()
        return event_id

    async def alice_hears(self) -> list[str]:
        return await hears(self.world, self.room, self.alice)


@asynccontextmanager
async def talking(
    tmp_path: Path, *, to_device: bool = True, encrypted_rooms: str = BRIDGE, **settings: Any
) -> AsyncIterator[Talk]:
    """A bridged encrypted room with Alice's phone in it and Bob of another provider."""
    async with AsyncExitStack() as stack:
        club = Club(tmp_path, stack)
        hub = await club.server("a.example", bridged=(DOMAIN,))
        homeserver = FakeHomeserver()
        homeserver.keys.pushes_to_device = to_device
        bridging = await stack.enter_async_context(AsyncExitStack())
        bridge = await bridging.enter_async_context(
            opened_bridge(tmp_path, homeserver, hub, encrypted_rooms=encrypted_rooms)
        )
        await bridge.start()
        world = World(
            homeserver=homeserver, club=club, hub=hub, bridge=bridge, directory=tmp_path, bridging=bridging
        )
        alice = client_of(homeserver, ALICE)
        await alice.publish()
        room = encrypted_room(homeserver, **settings)
        await world.import_room(room)
        bob = await bob_of_b(world)
        homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        assert await bridge.ghosts.answer_query(GHOST_BOB)
        await world.settle()
        await bob.step(5000)
        await drain(bob)
        yield Talk(world, room, alice, bob)
