"""A room is handed over to another hub while a third participant follows and the MLS group goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import trio

from linearized.client import DecryptedMessage, EpochChanged, Joined, Session
from linearized.room.checkpoint import read_checkpoint
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.room_check import check_room
from linearized.server.exchange import OutboundError
from linearized.server.mls import OpenMls
from linearized.store.base import Role, RoomRow
from tests.interop.hostile_hub import ALICE, BOB, CAROL, PATIENCE, USERS, arrived
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in


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
            await stack.enter_async_context(running_server(name, directory, network)) for name in USERS
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


async def test_a_room_goes_on_at_its_new_hub(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.heard("before", world.alice, world.bob, world.carol)
        before = world.log(world.a)
        transfer = await world.hand_over()

        # The log is the old one with the transfer after it, whole at the new hub, and both have signed that.
        assert world.log(world.b) == [*before, transfer] == world.log(world.a)
        event = world.b.node.store.entry_by_id(transfer)
        assert event is not None
        pdu = orjson.loads(event.pdu)
        assert set(pdu["signatures"]) == {"a.example", "b.example"}
        assert (pdu["sender"], pdu["hub_server"]) == (BOB, "a.example")
        assert (world.row(world.a).role, world.row(world.a).hub) == (Role.PARTICIPANT, "b.example")

        # Messages and commits of all three go through the new hub, and reach everybody.
        await world.heard("from the new hub", world.bob, world.alice, world.carol)
        await world.heard("from the old one", world.alice, world.bob, world.carol)
        await world.heard("from a participant", world.carol, world.alice, world.bob)
        epoch = world.row(world.b).epoch
        await world.alice.groups.update_keys(world.room_id)
        for session in (world.bob, world.carol):
            await received(session, EpochChanged)
        assert world.row(world.b).epoch == (epoch or 0) + 1
        await world.heard("in the new epoch", world.carol, world.alice, world.bob)
        assert world.log(world.a) == world.log(world.b)

        # The new hub's log holds under the same check as any.
        keys = {
            name: server.node.identity.key.verify_key
            for name, server in zip(USERS, (world.a, world.b, world.c), strict=True)
        }
        report = check_room(
            world.b.node.store, world.room_id,
            keys=lambda server, _: keys.get(server), mls=OpenMls(world.b.node.clock),
        )  # fmt: skip
        assert report.entries == len(world.log(world.b))


async def test_the_old_hub_names_the_new_one(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        room = world.room_id.replace("!", "%21").replace(":", "%3A")
        with pytest.raises(OutboundError) as refused:
            await world.c.node.federation.request(
                "a.example",
                "GET",
                f"/_matrix/federation/v1/make_join/{room}/%40cleo%3Ac.example?ver=dev.linearized.1",
            )
        assert (refused.value.errcode, refused.value.hub) == ("M_WRONG_SERVER", "b.example")
        with pytest.raises(Rejected) as rejected:
            await world.a.node.rooms.submit(
                world.room_id, LocalEvent(sender=ALICE, type="m.room.topic", state_key="", content={})
            )
        assert rejected.value.code is Reason.WRONG_HUB
        assert "b.example" in str(rejected.value)


async def test_checkpoints_of_the_new_hub_continue_those_of_the_old_one(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        assert await world.c.node.audits.audit(world.room_id) is None
        old = world.c.node.store.audit(world.room_id)
        await world.hand_over()
        for server in (world.a, world.c):  # a.example's first one; c.example's goes on
            assert await server.node.audits.audit(world.room_id) is None
            held = server.node.store.audit(world.room_id)
            assert held is not None
            assert held.hub == "b.example"
            assert read_checkpoint(held.checkpoint).size == len(world.log(world.b))
        # It is one log: the anchor of before still holds, and so does the old hub's root.
        assert old is not None
        assert held is not None
        assert (held.anchor_seq, held.anchor_size) == (old.anchor_seq, old.anchor_size)
        assert not world.c.node.store.findings()
