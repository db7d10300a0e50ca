"""Rooms with users of MIMI providers move to another hub: by transfer, and by takeover."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import openmls
import orjson
import pytest
import trio

from linearized.client import (
    DecryptedMessage,
    Joined,
    Session,
    tidying,
)
from linearized.config import ProviderConfig
from linearized.exceptions import InvalidInput
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle, RatchetTreeOption
from linearized.mimi.messages import SubmitMessageRequest
from linearized.protocol.identifiers import room_uri
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server import handing_over, hub_chain
from linearized.server.providers.client import HUB_MOVED, ProviderError
from linearized.store.base import Role
from tests.interop.handover_support import Club, club
from tests.interop.hostile_hub import BOB, PATIENCE, arrived
from tests.server.support import Server, running_server
from tests.server.test_two_providers import bodies, received, say, signed_in

DORA = "@dora:d.example"


@dataclass
class Followed(Club):
    """A club with a MIMI provider, d.example, whose Dora came by a Welcome."""

    d: Server
    dora: Session

    async def d_follows(self, hub: str) -> None:
        with trio.fail_after(PATIENCE):
            while True:
                ticket = self.d.node.notifier.ticket(DORA)
                if self.row(self.d).hub == hub:
                    return
                await ticket.wait()


@asynccontextmanager
async def followed(directory: Path, *, pulls: bool = False) -> AsyncIterator[Followed]:
    providers = {"a.example": ProviderConfig(delivery="pull")} if pulls else {}
    async with (
        club(directory) as world,
        running_server(
            "d.example",
            directory,
            world.network,
            peers=("a.example", "b.example", "c.example"),
            providers=providers,
        ) as d,
        signed_in(d, await d.user("dora")) as dora,
    ):
        await world.alice.groups.invite(world.room_id, [DORA])
        await received(dora, Joined)
        found = Followed(**vars(world), d=d, dora=dora)
        await found.heard("before", world.alice, dora)
        await found.heard("before", dora, world.alice)
        assert found.row(d).role is Role.FOLLOWER
        yield found


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "TIDY_SPREAD_MS", 0)


async def heard(world: Followed, sender: Session, *others: Session, body: str) -> None:
    """As ``heard``, but others may have read something before."""
    await say(sender, world.room_id, body)
    for other in others:
        while body not in bodies(await received(other, DecryptedMessage)):
            pass


async def test_a_mimi_follower_goes_with_the_room_and_sends_to_its_new_hub(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        await say(world.alice, world.room_id, "last words here")
        await world.hand_over()
        await world.d_follows("b.example")
        assert "last words here" in bodies(await received(world.dora, DecryptedMessage))
        await heard(world, world.bob, world.dora, world.alice, body="from the new hub")
        await heard(world, world.dora, world.bob, world.alice, body="to the new hub")
        # The client at the new hub makes it the group's hub, and the follower's client goes along.
        await world.bob.catch_up()
        await world.bob.tidy()
        await heard(world, world.bob, world.dora, body="with its own key")
        assert world.dora.device.group(world.room_id).external_senders() == (
            (world.b.node.mls_signer.public_key, b"mimi://b.example"),
        )
        assert world.dora.device.hub(world.room_id) == "b.example"
        (transfer,) = [
            entry
            for entry in world.d.node.store.entries(world.room_id, after=0, limit=1000)
            if entry.type == "m.room.hub"
        ]
        signers = orjson.loads(transfer.pdu)["signatures"].keys()
        assert signers == {"a.example", "b.example"}


async def test_the_old_hub_says_who_the_new_one_is(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        await world.hand_over()
        await world.d_follows("b.example")
        target = room_uri(world.room_id)
        commit = world.dora.device.group(world.room_id).commit()
        world.dora.device.group(world.room_id).clear_pending_commit()
        handshake = HandshakeBundle(
            message=commit.commit,
            welcome=None,
            group_info=GroupInfoOption(full=commit.group_info),
            ratchet_tree=RatchetTreeOption.full(commit.ratchet_tree),
        )
        late = SubmitMessageRequest(
            message=world.dora.device.group(world.room_id).encrypt(b"late"),
            sending_uri="mimi://d.example/u/dora",
        )
        bodies_of = {"update": handshake.encode(), "submitMessage": late.encode(), "groupInfo": b""}
        for endpoint, body in bodies_of.items():
            with pytest.raises(ProviderError, match=r"b\.example orders the room"):
                await world.d.node.providers.exchange("a.example", endpoint, target, body)
        # Who is not in the room is told nothing of it.
        async with running_server("e.example", tmp_path, world.network, peers=("a.example",)) as e:
            answer = await e.node.providers.post("a.example", "groupInfo", target, b"")
            assert b"b.example" not in answer.body
        row = world.row(world.a)
        assert (row.role, row.hub) == (Role.PARTICIPANT, "b.example")


async def test_after_a_takeover_a_follower_goes_along_once_its_operator_agrees(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert await world.b.node.audits.audit(world.room_id) is None
        assert await world.c.node.audits.audit(world.room_id) is None
        assert await world.b.node.copies.complete(world.room_id)
        world.network.down.add("a.example")
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=True)
        await world.ordered_by(world.b, "b.example", Role.HUB)
        await say(world.bob, world.room_id, "anybody there?")
        assert world.row(world.d).hub == "a.example"
        said = await world.d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        assert "follows" in said
        world.b.node.followers.contacted("d.example")
        await world.d_follows("b.example")
        while "anybody there?" not in bodies(await received(world.dora, DecryptedMessage)):
            pass
        await heard(world, world.dora, world.bob, body="here")


async def test_a_follower_believes_nobody_else(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        target = room_uri(world.room_id)
        state = world.a.node.rooms.state(world.room_id)
        create = state["m.room.create", ""].pdu
        before = world.row(world.d)
        for body in (
            b"{",
            b"[]",
            b"{}",
            orjson.dumps({hub_chain.EVENTS: []}),
            orjson.dumps({hub_chain.EVENTS: [create]}),
            orjson.dumps({hub_chain.EVENTS: [create, create]}),
            orjson.dumps({hub_chain.EVENTS: [create, {**create, "type": "m.room.hub"}]}),
        ):
            answer = await world.b.node.providers.post("d.example", HUB_MOVED, target, body)
            assert answer.status in {400, 403}
        await world.hand_over()
        await world.d_follows("b.example")
        events = hub_chain.hub_events_of(world.b.node.store, world.b.node.rooms.state(world.room_id))
        forged = [events[0], {**events[1], "signatures": {"b.example": events[1]["signatures"]["b.example"]}}]
        with pytest.raises(ProviderError):
            await hub_chain.show(world.b.node.providers, "d.example", world.room_id, forged)
        # What it knows it is told again in vain.
        for server in (world.a, world.b, world.c):
            await hub_chain.show(server.node.providers, "d.example", world.room_id, events)
        assert world.row(world.d).head_seq > before.head_seq
        # Messages of anybody but the hub are not taken.
        for server in (world.a, world.c):
            answer = await server.node.providers.post("d.example", "notify", target, b"")
            assert answer.status == 403


async def test_a_new_hub_alone_does_not_take_a_follower_along(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        # The old hub does not come to tell it.
        world.network.views["a.example", "d.example"] = None
        await world.hand_over()
        events = hub_chain.hub_events_of(world.b.node.store, world.b.node.rooms.state(world.room_id))
        with pytest.raises(ProviderError, match="403"):
            await hub_chain.show(world.b.node.providers, "d.example", world.room_id, events)
        assert world.row(world.d).hub == "a.example"
        await world.d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        await hub_chain.show(world.b.node.providers, "d.example", world.room_id, events)
        await world.d_follows("b.example")
        await heard(world, world.dora, world.bob, body="found you")


async def test_users_of_a_provider_that_never_heard_of_the_room_are_added_at_the_new_hub(
    tmp_path: Path,
) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        await world.bob.catch_up()
        async with (
            running_server(
                "d.example", tmp_path, world.network, peers=("a.example", "b.example", "c.example")
            ) as d,
            signed_in(d, await d.user("dora")) as dora,
        ):
            await world.bob.groups.invite(world.room_id, [DORA])
            await received(dora, Joined)
            await say(dora, world.room_id, "where am I?")
            while "where am I?" not in bodies(await received(world.bob, DecryptedMessage)):
                pass
            row = d.node.store.room(world.room_id)
            assert row is not None
            assert (row.role, row.hub) == (Role.FOLLOWER, "b.example")
            # Its copy begins with how the room came there, and its clients know the hub from that.
            (first,) = d.node.store.entries(world.room_id, after=0, limit=1)
            assert (first.type, first.sender) == ("m.room.hub", BOB)
            assert dora.device.hub(world.room_id) == "b.example"
            # Nobody else says that it orders a room that none of our users is in.
            chain = hub_chain.hub_events_of(world.b.node.store, world.b.node.rooms.state(world.room_id))
            async with running_server("e.example", tmp_path, world.network, peers=("a.example",)) as e:
                with pytest.raises(ProviderError):
                    await hub_chain.show(world.c.node.providers, "e.example", world.room_id, chain)
                assert not e.node.rooms.following.is_hub(world.room_id, "c.example")


async def test_where_a_room_has_been_it_is_not_again_because_somebody_shows_that_once_more(
    tmp_path: Path,
) -> None:
    async with (
        followed(tmp_path) as world,
        running_server(
            "e.example", tmp_path, world.network, peers=("a.example", "b.example", "c.example")
        ) as e,
    ):
        await world.hand_over()
        await world.d_follows("b.example")
        first = hub_chain.hub_events_of(world.b.node.store, world.b.node.rooms.state(world.room_id))
        levels = {"users": {"@alice:a.example": 100, "@bob:b.example": 100, "@carol:c.example": 100}}
        event = LocalEvent(sender="@bob:b.example", type="m.room.power_levels", state_key="", content=levels)
        await arrived(world.c, await world.b.node.rooms.send(world.room_id, event))
        await hub_chain.show(world.b.node.providers, "e.example", world.room_id, first)
        assert e.node.rooms.following.is_hub(world.room_id, "b.example")
        await world.b.node.moves.transfer(world.room_id, "c.example")
        await world.ordered_by(world.c, "c.example", Role.HUB)
        await world.d_follows("c.example")
        second = hub_chain.hub_events_of(world.c.node.store, world.c.node.rooms.state(world.room_id))
        await hub_chain.show(world.c.node.providers, "e.example", world.room_id, second)
        # Their operators agreed to b.example once, should that matter.
        for server in (world.d, e):
            await server.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        with pytest.raises(ProviderError, match="403"):
            await hub_chain.show(world.b.node.providers, "e.example", world.room_id, first)
        await hub_chain.show(world.b.node.providers, "d.example", world.room_id, first)
        for server in (world.d, e):
            assert server.node.rooms.following.is_hub(world.room_id, "c.example")


async def test_key_packages_claimed_before_the_move_are_good_after_it(tmp_path: Path) -> None:
    async with (
        club(tmp_path) as world,
        running_server(
            "d.example", tmp_path, world.network, peers=("a.example", "b.example", "c.example")
        ) as d,
        signed_in(d, await d.user("dora")) as dora,
    ):
        await world.bob.catch_up()
        claimed = {DORA: await world.bob.groups.key_packages(world.room_id, DORA)}
        anna = await world.a.user("anna")
        async with signed_in(world.a, anna) as at_a:
            claimed[anna] = await world.bob.groups.key_packages(world.room_id, anna)
            await world.hand_over()
            await world.bob.catch_up()
            await world.bob.groups.add_users(world.room_id, claimed)
            await received(at_a, Joined)
        reference = openmls.inspect_key_package(claimed[DORA][0], now=world.b.node.clock() // 1000).reference
        store = world.b.node.store
        assert store.key_package_route(reference) is None
        assert store.key_package_route(reference, room_id=world.room_id) == "d.example"
        assert store.key_package_route(reference, room_id="!other:a.example") is None
        # Its Welcome waits for it; it has not been shown that the room moved.
        assert store.to_device("@:d.example", world.room_id, after=0, limit=10) or dora


async def test_what_a_hub_says_of_routes_is_bounded_and_never_of_our_own_users(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        row = world.row(world.b)
        wrong: list[object] = [[], {"AAAA": 1}, {"AAAA": "no name!"}, {"A" * 200: "d.example"}]
        wrong += [
            {"_": "d.example"},
            {f"{number:04}": "d.example" for number in range(handing_over.MAX_ROUTES + 1)},
        ]
        for given in wrong:
            with pytest.raises(InvalidInput):
                await world.b.node.moves.take_routes(row, given)
        await world.b.node.moves.take_routes(row, {"AAAA": "b.example", "BBBB": "d.example"})
        kept = world.b.node.store.room_routes(world.room_id, now_ms=0, limit=9)
        assert [provider for provider, _ in kept.values()] == ["d.example"]


async def test_a_room_stays_if_a_mimi_provider_could_not_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(tmp_path) as world:

        async def no(_provider: str, _endpoint: str) -> bool:
            return False

        with monkeypatch.context() as patch:
            patch.setattr(world.a.node.providers, "offers", no)
            with pytest.raises(Rejected, match=r"d\.example could not follow"):
                await world.a.node.moves.transfer(world.room_id, "b.example")
        world.network.down.add("d.example")
        world.a.node.providers._directories.clear()
        with pytest.raises(Rejected, match="does not say"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        world.network.down.discard("d.example")
        await world.a.node.followers.pulls.add("d.example")
        with pytest.raises(Rejected, match=r"d\.example could not follow") as caught:
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert caught.value.code is Reason.FORBIDDEN
