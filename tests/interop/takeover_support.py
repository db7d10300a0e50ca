"""Three or four providers in one encrypted room, whose hub is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from linearized.room.submissions import LocalEvent
from linearized.store.base import Role
from tests.interop.handover_support import PEERS, Club, club
from tests.interop.hostile_hub import ALICE, arrived
from tests.server.support import Server, running_server


class Bereft(Club):
    """A club with whoever else is in it, by name."""

    network_servers: dict[str, Server]

    async def agreed(self) -> str:
        """b.example takes the room over with the agreement of c.example; the takeover's event ID."""
        await self.c.node.takeovers.accept(self.room_id, "b.example", hub_is_gone=False)
        event_id = await self.b.node.takeovers.take(self.room_id, hub_is_gone=False)
        await self.ordered_by(self.c, "b.example", Role.PARTICIPANT)
        return event_id

    def a_is_back(self) -> None:
        self.network.down.discard("a.example")
        self.network.views.clear()
        for server in (self.a, self.b, self.c):
            for name in PEERS:
                server.node.followers.contacted(name)


async def named(server: Server, room_id: str, sender: str, name: str) -> str:
    """Give a room a name; the event's ID."""
    event = LocalEvent(sender=sender, type="m.room.name", state_key="", content={"name": name})
    return await server.node.rooms.send(room_id, event)


@asynccontextmanager
async def bereft(
    directory: Path,
    *,
    power: int = 100,
    copies: bool = True,
    only_b: str | None = None,
    only_c: str | None = None,
    voters_of_two: bool = True,
) -> AsyncIterator[Bereft]:
    """A club of which a.example is gone.

    Args:
        power: Bob's, of b.example.
        copies: whether b.example has completed its copy.
        only_b, only_c: a last entry that reached only one of the two.
        voters_of_two: without d.example, as a third beside the two.
    """
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(club(directory, power=power))
        world = Bereft(**vars(found))
        world.network_servers = {}
        if not voters_of_two:
            d = await stack.enter_async_context(
                running_server("d.example", directory, world.network, peers=PEERS)
            )
            world.network_servers["d.example"] = d
            dora = await d.user("dora")
            await world.a.node.rooms.invite(world.room_id, sender=ALICE, target=dora)
            await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["a.example"])
            for server in (world.b, world.c):
                await arrived(server, world.log(world.a)[-1])
        for server in (world.b, world.c):
            assert await server.node.audits.audit(world.room_id) is None
        if copies:
            assert await world.b.node.copies.complete(world.room_id)
        for text, receiver, away in ((only_b, world.b, "c.example"), (only_c, world.c, "b.example")):
            if text is not None:
                world.network.down.add(away)
                await arrived(receiver, await named(world.a, world.room_id, ALICE, text))
        # Nothing reaches it, and nothing of it reaches anybody.
        world.network.down.add("a.example")
        world.network.views |= {("a.example", name): None for name in PEERS}
        world.network.down -= {"b.example", "c.example"}
        yield world
