"""A hub is gone that had a room and one that depends on it: both go on at the server that takes them over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from linearized.client import ApiError, DecryptedMessage, GroupLost, Joined, Session
from linearized.mimi.policy.choice import chosen_policy
from linearized.protocol.state import membership
from linearized.room.submissions import LocalEvent, Rejected
from linearized.store.base import Role
from tests.interop.handover_support import PEERS
from tests.interop.hostile_hub import ALICE, BOB, CAROL, PATIENCE, USERS, arrived
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, received, say, signed_in

ADMIN = chosen_policy("open").creator_role


@dataclass
class Estate:
    """Alice's room with Anna, Bob and Carol, and one that depends on it, with Bob and Carol. Her server is
    gone.
    """

    a: Server
    b: Server
    c: Server
    anna: str
    bob: Session
    carol: Session
    parent: str
    child: str
    network: Network

    async def take(self, room_id: str) -> None:
        """b.example takes a room over with the agreement of c.example."""
        await self.c.node.takeovers.accept(room_id, "b.example", hub_is_gone=False)
        await arrived(self.c, await self.b.node.takeovers.take(room_id, hub_is_gone=False))

    def role(self, server: Server, room_id: str) -> tuple[Role, str]:
        row = server.node.store.room(room_id)
        assert row is not None
        return row.role, row.hub

    async def out(self, user_id: str) -> None:
        """Wait until the new hub has taken a user out of the dependent room."""
        with trio.fail_after(PATIENCE):
            while membership(self.b.node.rooms.state(self.child), user_id) == "join":
                ticket = self.b.node.notifier.ticket(BOB)
                if membership(self.b.node.rooms.state(self.child), user_id) == "join":
                    await ticket.wait()


@asynccontextmanager
async def estate(directory: Path) -> AsyncIterator[Estate]:
    network = Network()
    async with AsyncExitStack() as stack:
        a, b, c = [
            await stack.enter_async_context(running_server(name, directory, network, peers=PEERS))
            for name in USERS
        ]
        alice, bob, carol = [
            await stack.enter_async_context(
                signed_in(server, await server.user(USERS[server.name][1:].partition(":")[0]))
            )
            for server in (a, b, c)
        ]
        anna = await a.user("anna")
        parent = await alice.create_room(policy="open")
        await a.node.rooms.invite(parent, sender=ALICE, target=anna)
        joins = LocalEvent(sender=anna, type="m.room.member", state_key=anna, content={"membership": "join"})
        await a.node.rooms.send(parent, joins)
        child = await alice.create_room(policy="open", parent=parent)
        for room_id in (parent, child):
            for server in (b, c):
                user = USERS[server.name]
                await a.node.rooms.invite(room_id, sender=ALICE, target=user)
                await server.node.rooms.join_remote(room_id, user_id=user, via=["a.example"])
            await alice.groups.invite(room_id, [BOB, CAROL], roles={BOB: ADMIN})
            for session in (bob, carol):
                await received(session, Joined)
            last = a.node.store.entries(room_id, after=0, limit=1000)[-1].event_id
            for server in (b, c):
                await arrived(server, last)
                assert await server.node.audits.audit(room_id) is None
            assert await b.node.copies.complete(room_id)
        # Nothing reaches it, and nothing of it reaches anybody.
        network.down.add("a.example")
        network.views |= {("a.example", name): None for name in PEERS}
        yield Estate(a, b, c, anna, bob, carol, parent, child, network)


async def test_a_dependent_room_goes_on_with_its_parent_at_the_server_that_took_both(tmp_path: Path) -> None:
    async with estate(tmp_path) as world:
        for room_id in (world.parent, world.child):
            await world.take(room_id)
            assert world.role(world.b, room_id) == (Role.HUB, "b.example")
            assert world.role(world.c, room_id) == (Role.PARTICIPANT, "b.example")
            await say(world.carol, room_id, "still here")
            assert bodies(await received(world.bob, DecryptedMessage)) == ["still here"]
        # The parent is not handed over without its dependant.
        with pytest.raises(Rejected, match="Other rooms depend"):
            await world.b.node.moves.transfer(world.parent, "c.example")
        # The new hub holds both to what the old one did: who is not in the parent does not come in, and who
        # leaves it is taken out.
        dora = await world.b.user("dora")
        with pytest.raises(ApiError, match="is not in the parent room"):
            await world.bob.api.invite(world.child, dora)
        await world.bob.groups.remove_users(world.parent, [CAROL])
        await world.out(CAROL)
        with pytest.raises(ApiError):
            await say(world.carol, world.child, "after")
        await world.bob.catch_up()
        await world.bob.groups.update_keys(world.child)
        assert CAROL not in {owner.user_id for owner in world.bob.device.members(world.child).values()}
        await received(world.carol, GroupLost)


async def test_a_dependent_room_that_was_taken_first_goes_by_what_is_known_of_its_parent(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path) as world:
        await world.take(world.child)
        assert world.role(world.b, world.child) == (Role.HUB, "b.example")
        assert world.role(world.b, world.parent) == (Role.PARTICIPANT, "a.example")
        await say(world.bob, world.child, "nobody orders the parent")
        assert bodies(await received(world.carol, DecryptedMessage)) == ["nobody orders the parent"]
        # Carol leaves the parent once it has a hub again, and is taken out of its dependant by that same hub.
        await world.take(world.parent)
        await world.bob.groups.remove_users(world.parent, [CAROL])
        await world.out(CAROL)
