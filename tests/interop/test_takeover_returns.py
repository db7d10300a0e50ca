"""A hub that comes back and finds its room taken over."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import get_version
from linearized.room.submissions import Reason, Rejected
from linearized.server.exchange import OutboundError
from linearized.server.returns import Returns
from linearized.store.base import Role
from tests.interop.hostile_hub import ALICE, BOB, PATIENCE, arrived
from tests.interop.takeover_support import Bereft, bereft, named


async def stopped(world: Bereft) -> None:
    """Wait until a.example has learnt of the takeover, and others confirmed it."""
    with trio.fail_after(PATIENCE):
        while True:
            ticket = world.a.node.notifier.ticket(ALICE)
            if world.a.node.takeovers.successor(world.room_id) is not None:
                return
            await ticket.wait()


async def test_the_old_hub_learns_of_it_and_orders_nothing_more(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        event_id = await world.agreed()
        world.a_is_back()
        await stopped(world)
        before = world.log(world.a)
        with pytest.raises(Rejected, match=r"b\.example has taken this room over") as refused:
            await named(world.a, world.room_id, ALICE, "mine")
        assert refused.value.code is Reason.WRONG_HUB
        assert world.log(world.a) == before
        assert world.row(world.a).role is Role.HUB  # until its operator has decided
        (finding,) = [row for row in world.a.node.store.findings() if row.dismissed_at is None]
        assert (finding.hub, finding.proven) == ("b.example", True)
        assert event_id != before[-1]

        room = world.room_id.replace("!", "%21").replace(":", "%3A")
        with pytest.raises(OutboundError) as wrong:
            await world.c.node.federation.request(
                "a.example",
                "GET",
                f"/_matrix/federation/v1/make_join/{room}/%40cleo%3Ac.example?ver=dev.linearized.1",
            )
        assert (wrong.value.errcode, wrong.value.hub) == ("M_WRONG_SERVER", "b.example")


async def test_the_old_hub_takes_part_when_its_operator_agrees(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        await named(world.b, world.room_id, BOB, "while it was away")
        world.a_is_back()
        await stopped(world)
        with pytest.raises(Rejected, match=r"nobody confirms that c\.example does"):
            await world.a.node.takeovers.accept(world.room_id, "c.example", hub_is_gone=False)
        await world.a.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        assert (world.row(world.a).role, world.row(world.a).hub) == (Role.PARTICIPANT, "b.example")
        assert world.log(world.a) == world.log(world.b)
        assert world.a.node.takeovers.successor(world.room_id) is None
        await world.heard("all here", world.bob, world.carol)
        await arrived(world.a, world.log(world.b)[-1])
        await arrived(world.b, await named(world.a, world.room_id, ALICE, "back again"))
        assert world.log(world.a) == world.log(world.b)
        assert await world.a.node.audits.audit(world.room_id) is None
        assert not [row for row in world.a.node.store.findings() if row.dismissed_at is None]


async def test_what_the_old_hub_appended_alone_is_kept_and_not_passed_off_as_the_rooms(
    tmp_path: Path,
) -> None:
    async with bereft(tmp_path) as world:
        alone = await named(world.a, world.room_id, ALICE, "nobody has this")
        await world.agreed()
        world.a_is_back()
        await stopped(world)
        with pytest.raises(Rejected, match=r"appended 1 entries that b\.example does not have"):
            await world.a.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        assert world.log(world.a)[-1] == alone
        for server in (world.b, world.c):
            assert server.node.store.entry_by_id(alone) is None


async def test_what_the_old_hub_still_sends_is_answered_with_who_orders_the_room(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        alone = world.a.node.store.entry_by_id(await named(world.a, world.room_id, ALICE, "late"))
        assert alone is not None
        world.network.views.clear()  # it reaches others again, and is not reached itself
        for server in ("b.example", "c.example"):
            body: JsonObject = {"pdus": [orjson.loads(alone.pdu)]}
            with pytest.raises(OutboundError) as wrong:
                await world.a.node.federation.request(
                    server, "PUT", "/_matrix/federation/v2/send/late", json=body
                )
            assert (wrong.value.errcode, wrong.value.hub) == ("M_WRONG_SERVER", "b.example")


async def test_a_stopped_room_is_stopped_after_a_restart(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        world.a_is_back()
        await stopped(world)
        hub = world.a.node.takeovers._returns._hub
        hub.resume(world.room_id)
        again = Returns(world.a.node, hub)
        assert again.successor(world.room_id) == "b.example"
        with pytest.raises(Rejected, match="taken this room over"):
            await named(world.a, world.room_id, ALICE, "mine")


async def test_a_takeover_that_others_do_not_confirm_stops_nothing(tmp_path: Path) -> None:
    async with bereft(tmp_path, voters_of_two=False) as world:
        event_id = await world.agreed()
        entry = world.b.node.store.entry_by_id(event_id)
        assert entry is not None
        world.network.down |= {"c.example", "d.example"}
        world.a_is_back()
        pdu: JsonObject = orjson.loads(entry.pdu)
        assert await world.a.node.takeovers.noticed(world.row(world.a), [pdu], "b.example")
        assert world.a.node.takeovers.successor(world.room_id) is None
        await world.a.node.takeovers.confirm_all()
        await named(world.a, world.room_id, ALICE, "as ever")
        # The operator is told all the same, and it is asked again.
        assert [row.hub for row in world.a.node.store.findings()] == ["b.example"]
        world.network.down.clear()
        await world.a.node.takeovers.confirm_all()
        assert world.a.node.takeovers.successor(world.room_id) == "b.example"
        await world.a.node.takeovers.confirm_all()


@pytest.mark.parametrize("spoil", ["origin", "hub", "power", "place", "room", "signature"])
async def test_a_takeover_that_does_not_hold_is_refused_by_the_hub(tmp_path: Path, spoil: str) -> None:
    async with bereft(tmp_path, power=0 if spoil == "power" else 100, copies=False) as world:
        row = world.row(world.a)
        after = world.log(world.a)[-1] if spoil != "place" else "$" + "x" * 43
        state = world.a.node.rooms.state(world.room_id)
        keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", BOB)]
        said = {"hub": "c.example" if spoil == "hub" else "a.example", "size": 3, "root": "cm9vdA"}
        event = build_event(
            identity=world.b.node.identity, version=get_version("dev.linearized.1"),
            room_id=world.room_id if spoil != "room" else "!other:a.example", type="m.room.hub",
            sender=BOB, content={"after": after, "takeover": said}, origin_server_ts=1,
            auth_events=[state[key].event_id for key in keys], prev_events=[after], state_key="",
        )  # fmt: skip
        pdu = event.pdu
        if spoil == "signature":
            pdu = {**pdu, "origin_server_ts": 2}
        world.a_is_back()
        with pytest.raises(InvalidInput):
            await world.a.node.takeovers.noticed(
                row, [pdu], "c.example" if spoil == "origin" else "b.example"
            )
        assert not world.a.node.store.findings()
        await named(world.a, world.room_id, ALICE, "as ever")
