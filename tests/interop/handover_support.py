"""Three providers in one encrypted room, whose hub hands it over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from linearized.client import DecryptedMessage, Joined, Session
from linearized.room.submissions import LocalEvent
from linearized.store.base import Role, RoomRow
from tests.interop.hostile_hub import ALICE, BOB, CAROL, PATIENCE, USERS, arrived
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

PEERS = (*USERS, "d.example")


@dataclass
class Club:
    """Three providers with a user each in one encrypted room, which a.example orders."""

    a: Server
    b: Server
    c: Server
    alice: Session
    bob: Session
    carol: Session
    room_id: str
    network: Network

    def row(self, server: Server) -> RoomRow:
        found = server.node.store.room(self.room_id)
        assert found is not None
        return found

    async def ordered_by(self, server: Server, hub: str, role: Role) -> None:
        """Wait until a server sees a hub, and itself in a role."""
        with trio.fail_after(PATIENCE):
            while (self.row(server).hub, self.row(server).role) != (hub, role):
                ticket = server.node.notifier.ticket(USERS[server.name])
                if (self.row(server).hub, self.row(server).role) != (hub, role):
                    await ticket.wait()

    async def hand_over(self) -> str:
        event_id = await self.a.node.moves.transfer(self.room_id, "b.example")
        await self.ordered_by(self.b, "b.example", Role.HUB)
        await self.ordered_by(self.c, "b.example", Role.PARTICIPANT)
        return event_id

    async def heard(self, body: str, sender: Session, *others: Session) -> None:
        await say(sender, self.room_id, body)
        for other in others:
            assert bodies(await received(other, DecryptedMessage)) == [body]

    def log(self, server: Server) -> list[str]:
        return [row.event_id for row in server.node.store.entries(self.room_id, after=0, limit=1000)]


@asynccontextmanager
async def club(directory: Path, *, power: int = 100) -> AsyncIterator[Club]:
    network = Network()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running_server(name, directory, network, peers=PEERS))
            for name in USERS
        ]
        sessions = [
            await stack.enter_async_context(
                signed_in(server, await server.user(USERS[server.name][1:].partition(":")[0]))
            )
            for server in servers
        ]
        a, b, c = servers
        alice, bob, carol = sessions
        room_id = await encrypted_room(alice)
        for server in (b, c):
            user = USERS[server.name]
            await a.node.rooms.invite(room_id, sender=ALICE, target=user)
            await server.node.rooms.join_remote(room_id, user_id=user, via=["a.example"])
        await alice.groups.invite(room_id, [BOB, CAROL])
        await received(bob, Joined)
        await received(carol, Joined)
        levels = {"users": {ALICE: 100, BOB: power}}
        last = await a.node.rooms.send(
            room_id, LocalEvent(sender=ALICE, type="m.room.power_levels", state_key="", content=levels)
        )
        for server in (b, c):
            await arrived(server, last)
        yield Club(a, b, c, alice, bob, carol, room_id, network)
