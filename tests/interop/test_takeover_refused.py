"""Rooms that are not taken over, and what is left as it was then."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import read_checkpoint, sign_checkpoint
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server.deciding import Overloaded
from linearized.server.exchange import OutboundError
from linearized.server.takeover_consents import MAX_DECISIONS
from linearized.store.base import Reply, Role
from tests.interop.hostile_hub import ALICE, BOB, CAROL, arrived, shared_room
from tests.interop.takeover_support import Bereft, bereft, named
from tests.server.support import Network, Server


async def refused(world: Bereft, words: str, *, server: Server | None = None) -> None:
    taker = server or world.b
    before = world.log(taker)
    with pytest.raises(Rejected, match=words):
        await taker.node.takeovers.take(world.room_id, hub_is_gone=True)
    assert world.log(taker) == before
    assert (world.row(taker).hub, world.row(taker).role) == ("a.example", Role.PARTICIPANT)


async def goes_on_with_its_hub(world: Bereft) -> None:
    world.a_is_back()
    event_id = await named(world.a, world.room_id, ALICE, "as before")
    for server in (world.b, world.c):
        await arrived(server, event_id)


async def test_a_room_whose_hub_answers_is_not_taken_without_the_operators_word(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        world.network.down.discard("a.example")
        with pytest.raises(Rejected, match=r"a\.example answers"):
            await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        with pytest.raises(Rejected, match=r"a\.example answers"):
            await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=True)
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=True)
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)


@pytest.mark.parametrize("failure", ["slow", "proxy"])
async def test_a_hub_that_gives_no_answer_is_gone(
    tmp_path: Path, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path) as world:
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if server == "a.example" and failure == "proxy":
                raise OutboundError("the server behind is away", status=502)
            if server == "a.example":
                raise trio.TooSlowError
            return await real(server, method, path, **more)

        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        monkeypatch.setattr(world.b.node.federation, "request", request)
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)


async def test_only_a_server_with_a_complete_copy_takes_a_room(tmp_path: Path) -> None:
    async with bereft(tmp_path, copies=False) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await refused(world, "not complete: of its beginning 0 entries")
        await world.b.node.store.delete_audit(world.room_id)
        await refused(world, "those before its own are needed")
        await world.c.node.takeovers.withdraw(world.room_id)
        await goes_on_with_its_hub(world)


async def test_only_a_server_with_a_user_in_charge_takes_a_room(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await refused(world, "No user of c.example may take the room over", server=world.c)
        assert not await world.c.node.copies.complete(world.room_id)
        await goes_on_with_its_hub(world)


async def test_a_room_is_not_taken_without_the_agreement_of_more_than_half(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await refused(world, r"1 of 2 servers in the room agree.*c\.example: .*has not agreed")
        world.network.down.add("c.example")
        await refused(world, r"1 of 2 servers in the room agree.*c\.example cannot be reached")
        world.network.down.discard("c.example")
        # What was agreed here for it is taken back with it.
        await goes_on_with_its_hub(world)


async def test_one_of_three_is_not_enough_and_two_are(tmp_path: Path) -> None:
    async with bereft(tmp_path, voters_of_two=False) as world:
        await refused(world, "1 of 3 servers in the room agree")
        await world.agreed()


async def test_a_participant_agrees_to_one_taker(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        accept = world.c.node.takeovers.accept
        await accept(world.room_id, "b.example", hub_is_gone=False)
        await accept(world.room_id, "b.example", hub_is_gone=False)
        with pytest.raises(Rejected, match=r"agreed that b\.example takes the room over"):
            await accept(world.room_id, "d.example", hub_is_gone=False)
        for nonsense in ("c.example", "a.example"):
            with pytest.raises(Rejected, match="not another server"):
                await accept(world.room_id, nonsense, hub_is_gone=False)
        # Meanwhile its own users cannot send either, as nobody would see it.
        with pytest.raises(Overloaded, match=r"taken over by b\.example"):
            await named(world.c, world.room_id, CAROL, "anybody there?")


async def test_a_server_that_agreed_to_another_does_not_take_the_room_itself(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.b.node.takeovers.accept(world.room_id, "c.example", hub_is_gone=False)
        await refused(world, r"agreed that c\.example takes the room over")


async def test_what_was_agreed_is_taken_back_and_outlives_a_restart_till_then(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        world.c.node.takeover_consents.forget(world.room_id)  # as after a restart
        assert world.c.node.takeover_consents.current(world.row(world.c)) == "b.example"
        with pytest.raises(Rejected) as wrong:
            await world.c.node.rooms.receive_pdus(world.room_id, [{}], "a.example")
        assert wrong.value.code is Reason.WRONG_HUB
        assert await world.c.node.takeovers.withdraw(world.room_id) == "b.example"
        with pytest.raises(Rejected, match="No takeover of this room was agreed to"):
            await world.c.node.takeovers.withdraw(world.room_id)
        world.c.node.takeover_consents.forget(world.room_id)
        await refused(world, "has not agreed")
        await goes_on_with_its_hub(world)


async def test_minds_are_changed_so_often_and_no_more(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        takes = world.c.node.takeovers
        for _ in range(MAX_DECISIONS // 2):
            await takes.accept(world.room_id, "b.example", hub_is_gone=True)
            await takes.withdraw(world.room_id)
        with pytest.raises(Rejected, match="decisions about this takeover were made"):
            await takes.accept(world.room_id, "b.example", hub_is_gone=True)


async def test_of_two_decisions_at_once_one_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bereft(tmp_path) as world:
        store = world.c.node.store
        real = store.put_reply

        async def late(reply: Reply) -> None:
            await real(replace(reply, value="d.example"))  # the other one was faster
            await real(reply)

        monkeypatch.setattr(store, "put_reply", late)
        with pytest.raises(Rejected, match="Another decision"):
            await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)


async def sign_more(world: Bereft, server: Server) -> None:
    """Let a server hold a checkpoint of its hub about one entry more than anybody has."""
    held = server.node.store.audit(world.room_id)
    assert held is not None
    size = max(read_checkpoint(held.checkpoint).size, len(world.log(world.a))) + 1
    more = sign_checkpoint(world.a.node.identity, world.room_id, size=size, root=bytes(32))
    await server.node.store.put_audit(replace(held, checkpoint=more.note))


async def test_the_last_checkpoint_decides_what_cannot_be_dropped(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await sign_more(world, world.c)
        size = len(world.log(world.a))
        await refused(world, rf"a\.example signed a log of {size + 1} entries, of which {size} are here")


async def test_an_operator_accepts_the_loss_of_what_was_signed_and_nobody_has(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await sign_more(world, world.c)
        accept = partial(world.c.node.takeovers.accept, world.room_id, "b.example", hub_is_gone=False)
        text = await accept()
        assert "if it has 1 entry that a.example signed" in text
        assert "--accept-loss" in text
        await refused(world, r"the last 1 entry would be lost.*--accept-loss")
        assert "also without 1 entry that a.example signed" in await accept(accept_loss=True)
        # Said once, it holds until the agreement is withdrawn.
        assert "also without" in await accept()
        with structlog.testing.capture_logs() as logs:
            await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
            await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        assert [(entry["event"], entry["entries"]) for entry in logs if "lost" in entry["event"]] == [
            ("signed_entries_lost", 1)
        ]
        # What the old hub signed about them is held against nobody; the new hub is audited from here on.
        assert await world.c.node.audits.audit(world.room_id) is None
        held = world.c.node.store.audit(world.room_id)
        assert held is not None
        assert (held.hub, read_checkpoint(held.checkpoint).size) == ("b.example", len(world.log(world.b)))
        assert not world.c.node.store.findings()


async def test_a_taker_accepts_the_loss_of_what_it_knows_was_signed(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await sign_more(world, world.b)
        await refused(world, r"the last 1 entry would be lost")
        with structlog.testing.capture_logs() as logs:
            await world.b.node.takeovers.take(world.room_id, hub_is_gone=False, accept_loss=True)
        assert [entry["lost"] for entry in logs if entry["event"] == "took_over"] == [1]
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        # Who lost nothing goes on with the checkpoint that it has.
        assert world.c.node.store.audit(world.room_id) is not None
        assert await world.c.node.audits.audit(world.room_id) is None


async def test_who_withdraws_accepts_no_loss_any_more(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await sign_more(world, world.c)
        takeovers = world.c.node.takeovers
        await takeovers.accept(world.room_id, "b.example", hub_is_gone=False, accept_loss=True)
        await takeovers.withdraw(world.room_id)
        assert not world.c.node.takeover_consents.accepts_loss(world.row(world.c))
        await takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await refused(world, r"the last 1 entry would be lost")


async def test_a_loss_that_was_accepted_and_is_none_leaves_the_checkpoint(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        before = world.c.node.store.audit(world.room_id)
        assert before is not None
        text = await world.c.node.takeovers.accept(
            world.room_id, "b.example", hub_is_gone=False, accept_loss=True
        )
        assert "signed" not in text
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=False, accept_loss=True)
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        held = world.c.node.store.audit(world.room_id)
        assert held is not None
        assert held.anchor_size == before.anchor_size


async def test_a_taker_does_not_drop_what_it_knows_was_signed(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await sign_more(world, world.b)
        await refused(world, r"a\.example signed a log of")


async def test_a_room_of_a_hub_that_was_caught_is_not_taken(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        world.b.node.audits._stopped.add((world.room_id, "a.example"))
        await refused(world, "two histories")


async def test_rooms_that_are_ours_unknown_or_of_another_version_are_not_taken(tmp_path: Path) -> None:
    async with shared_room(tmp_path, Network()) as (a, b, _, room_id):
        with pytest.raises(Rejected, match="takes no part in that room, or orders it"):
            await a.node.takeovers.take(room_id, hub_is_gone=True)
        with pytest.raises(Rejected, match="takes no part"):
            await b.node.takeovers.take("!unknown:a.example", hub_is_gone=True)
        public = LocalEvent(
            sender=ALICE, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        old = await a.node.rooms.create(creator=ALICE, version="I.1", creation_content={}, initial=[public])
        await b.node.rooms.join_remote(old, user_id=BOB, via=["a.example"])
        with pytest.raises(Rejected, match=r"version I\.1 cannot be taken over"):
            await b.node.takeovers.take(old, hub_is_gone=True)
        with pytest.raises(Rejected, match=r"nobody confirms that b\.example does"):
            await a.node.takeovers.accept(room_id, "b.example", hub_is_gone=True)


async def test_a_whole_copy_is_for_servers_in_charge_that_may_read_all_of_it(tmp_path: Path) -> None:
    async with bereft(tmp_path, copies=False) as world:
        world.a_is_back()
        path = f"/_linearized/v1/rooms/{world.room_id.replace('!', '%21').replace(':', '%3A')}/log?after=0"
        with pytest.raises(OutboundError) as hidden:
            await world.c.node.federation.request("a.example", "GET", path)
        assert hidden.value.errcode == "M_NOT_FOUND"
        closed = LocalEvent(
            sender=ALICE, type="m.room.history_visibility", state_key="",
            content={"history_visibility": "joined"},
        )  # fmt: skip
        answer = await world.b.node.federation.request("a.example", "GET", path)
        assert len(answer["pdus"]) == len(world.log(world.a))
        await world.a.node.rooms.send(world.room_id, closed)
        with pytest.raises(OutboundError) as hidden:
            await world.b.node.federation.request("a.example", "GET", path)
        assert hidden.value.errcode == "M_NOT_FOUND"
        world.b.node.copies.due(world.room_id)


async def test_who_asks_for_what_it_has_no_part_in_is_told_nothing(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        ask = world.b.node.federation.request
        room = f"/_linearized/v1/rooms/{world.room_id.replace('!', '%21').replace(':', '%3A')}"
        last = world.log(world.c)[-1]
        for server, method, path, code in (
            ("c.example", "GET", f"{room}/tail?after=$unknown", "M_NOT_FOUND"),
            ("c.example", "GET", f"{room}/tail?after=x", "M_NOT_FOUND"),
            ("c.example", "GET", f"{room}/tail", "M_MISSING_PARAM"),
            ("c.example", "GET", f"/_linearized/v1/rooms/%21no%3Aa.example/tail?after={last}", "M_NOT_FOUND"),
            ("c.example", "POST", "/_linearized/v1/rooms/no/takeover", "M_NOT_FOUND"),
            ("c.example", "POST", f"{room}/takeover", "M_BAD_JSON"),
        ):
            body: dict[str, Any] = {"json": {}} if method == "POST" else {}
            with pytest.raises(OutboundError) as caught:
                await ask(server, method, path, **body)
            assert caught.value.errcode == code
        wrong = {"sender": BOB, "after": last, "takeover": {"hub": "x.example", "size": 1, "root": ""}}
        with pytest.raises(OutboundError) as caught:
            await ask("c.example", "POST", f"{room}/takeover", json=wrong)
        assert caught.value.errcode == "M_WRONG_SERVER"
        await world.agreed()
        with pytest.raises(OutboundError) as caught:
            await world.c.node.federation.request("b.example", "POST", f"{room}/takeover", json=wrong)
        assert caught.value.errcode == "M_NOT_FOUND"  # a hub is not asked
