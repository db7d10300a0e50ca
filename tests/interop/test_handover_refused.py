"""Rooms that are not handed over, and logs that are not taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linearized.exceptions import StoreError
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import read_checkpoint, sign_checkpoint
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server import handing_over
from linearized.server.deciding import Overloaded
from linearized.server.exchange import OutboundError
from linearized.server.federation import pages
from linearized.store.base import Role
from tests.interop.handover_support import Club, club
from tests.interop.hostile_hub import ALICE, BOB, CAROL, shared_room
from tests.server.support import Network


async def refused(world: Club, hub: str, code: Reason, words: str) -> None:
    before = world.log(world.a)
    with pytest.raises(Rejected) as caught:
        await world.a.node.moves.transfer(world.room_id, hub)
    assert caught.value.code is code
    assert words in str(caught.value)
    assert world.log(world.a) == before
    assert world.row(world.a).role is Role.HUB


async def test_only_a_participant_in_charge_takes_a_room(tmp_path: Path) -> None:
    async with club(tmp_path, power=0) as world:
        await refused(world, "d.example", Reason.FORBIDDEN, "takes no part")
        with pytest.raises(OutboundError) as caught:
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert "may take the room over" in str(caught.value)
        assert world.row(world.a).role is Role.HUB
        await world.heard("as before", world.carol, world.alice, world.bob)
        with pytest.raises(Rejected) as unknown:
            await world.a.node.moves.transfer("!unknown:a.example", "b.example")
        assert unknown.value.code is Reason.UNKNOWN_ROOM
        with pytest.raises(Rejected) as elsewhere:
            await world.b.node.moves.transfer(world.room_id, "c.example")
        assert elsewhere.value.code is Reason.WRONG_HUB


async def test_a_user_in_charge_cannot_take_a_room_that_its_hub_has_not_offered(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        after = world.log(world.a)[-1]
        event = LocalEvent(sender=BOB, type="m.room.hub", state_key="", content={"after": after})
        with pytest.raises(Rejected):
            await world.b.node.rooms.send(world.room_id, event)
        assert world.log(world.a)[-1] == after


async def test_a_room_of_another_version_stays_where_it_is(tmp_path: Path) -> None:
    async with shared_room(tmp_path, Network()) as (a, _, _, _):
        room_id = await a.node.rooms.create(creator=ALICE, version="I.1", creation_content={}, initial=[])
        with pytest.raises(Rejected, match="no hub transfers"):
            await a.node.moves.transfer(room_id, "b.example")


async def test_users_who_could_not_follow_keep_a_room_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        with monkeypatch.context() as patch:
            patch.setattr(
                handing_over, "joined_providers",
                lambda *_, **__: {"b.example": "linearized", "m.example": "mimi"},
            )  # fmt: skip
            await refused(world, "b.example", Reason.FORBIDDEN, "m.example does not say")
        with monkeypatch.context() as patch:
            patch.setattr(type(world.a.node), "bridged_domains", frozenset({"c.example"}))
            await refused(world, "b.example", Reason.FORBIDDEN, f"{CAROL} could not follow")


async def test_what_is_sent_while_the_room_is_paused_is_put_off_and_the_room_goes_on_if_nothing_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        real = world.a.node.federation.request
        event = LocalEvent(sender=ALICE, type="m.room.topic", state_key="", content={"topic": "?"})

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.endswith("transfer/accept"):
                with pytest.raises(Overloaded):
                    await world.a.node.rooms.send(world.room_id, event)
                with pytest.raises(Rejected, match="already"):
                    await world.a.node.moves.transfer(world.room_id, "b.example")
                return {"lpdu": {"type": "m.room.topic"}}
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", request)
        await refused(world, "b.example", Reason.MALFORMED, "something else than a transfer")
        assert await world.a.node.rooms.send(world.room_id, event) == world.log(world.a)[-1]


@pytest.mark.parametrize(
    "spoil", ["after", "size", "missing", "tampered", "short", "shape", "no epoch", "no list"]
)
async def test_a_log_that_does_not_hold_is_not_taken(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if not path.partition("?")[0].endswith("/log"):
                return answer
            pdus, epochs = list(answer["pdus"]), list(answer["epochs"])
            match spoil:
                case "missing" if pdus:
                    del pdus[3], epochs[3]
                case "tampered" if pdus:
                    pdus[3] = {**pdus[3], "content": {**pdus[3]["content"], "x": 1}}
                case "short":
                    epochs = [*epochs, 1]
                case "shape" if pdus:
                    pdus[3] = "?"
                case "no epoch" if pdus:
                    epochs[-1] = True
                case "no list":
                    return {"pdus": {}}
            return {"pdus": pdus, "epochs": epochs}

        monkeypatch.setattr(world.b.node.federation, "request", request)
        asked = world.a.node.federation.request

        async def ask(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.endswith("transfer/accept") and spoil in {"after", "size"}:
                more["json"] = {**more["json"], spoil: world.log(world.a)[0] if spoil == "after" else 3}
            return await asked(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", ask)
        with pytest.raises(OutboundError):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.row(world.a).role is Role.HUB
        assert world.row(world.b).role is Role.PARTICIPANT


async def test_a_log_other_than_the_one_that_was_signed_is_not_taken(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        assert await world.b.node.audits.audit(world.room_id) is None
        held = world.b.node.store.audit(world.room_id)
        assert held is not None
        size = read_checkpoint(held.checkpoint).size
        signed = sign_checkpoint(world.a.node.identity, world.room_id, size=size, root=bytes(32))
        await world.b.node.store.put_audit(replace(held, checkpoint=signed.note))
        with pytest.raises(OutboundError, match="another log than the one its hub signed"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.b.node.store.staged_head(world.room_id) == 0


async def test_the_log_is_for_nobody_but_who_takes_the_room_over(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        path = f"/_linearized/v1/rooms/{world.room_id.replace('!', '%21').replace(':', '%3A')}"
        ask = world.c.node.federation.request
        for server, method, what, body in (
            ("a.example", "GET", "log?after=0", None),
            ("a.example", "POST", "transfer/prepare", {}),
            ("b.example", "POST", "transfer/prepare", {}),
            ("b.example", "POST", "transfer/accept", {"after": "$x", "size": 1}),
        ):
            with pytest.raises(OutboundError) as caught:
                await ask(server, method, f"{path}/{what}", json=body)
            assert caught.value.errcode == "M_NOT_FOUND"
        ask = world.a.node.federation.request
        for wrong in (
            {},
            {"after": 3, "size": 1},
            {"after": "$x"},
            {"after": "$x", "size": 0},
            {"after": "$x", "size": True},
        ):
            with pytest.raises(OutboundError) as caught:
                await ask("b.example", "POST", f"{path}/transfer/accept", json=wrong)
            assert caught.value.errcode == "M_BAD_JSON"


async def test_a_room_comes_back_to_a_hub_that_had_it(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        await world.heard("at b's", world.carol, world.alice, world.bob)
        assert await world.b.node.moves.transfer(world.room_id, "a.example") == world.log(world.b)[-1]
        await world.ordered_by(world.a, "a.example", Role.HUB)
        await world.ordered_by(world.c, "a.example", Role.PARTICIPANT)
        await world.heard("home again", world.carol, world.alice, world.bob)
        assert world.log(world.a) == world.log(world.b)


async def test_a_new_hub_that_never_comes_to_the_end_of_the_log_does_not_get_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "MAX_ROUNDS", 3)
    monkeypatch.setattr(handing_over, "CLOSE_ENOUGH", 0)
    async with club(tmp_path) as world:
        real, asked = world.a.node.federation.request, 0

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            nonlocal asked
            if path.endswith("transfer/prepare"):
                asked += 1
                return {"staged": 1 if asked == 1 else "many"}
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", request)
        await refused(world, "b.example", Reason.FORBIDDEN, "does not come to the end")
        assert asked == 3


async def test_a_log_is_copied_in_pages_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1)  # then a page is one entry
    async with club(tmp_path) as world:
        await world.hand_over()
        asked = [path for _, _, _, path in world.network.log if "/log?" in path]
        assert len(asked) >= len(world.log(world.b))
        assert world.log(world.a) == world.log(world.b)


async def test_a_copy_that_broke_off_is_checked_again_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        store = world.b.node.store
        real, failures = store.stage_entries, [StoreError("the disk is full")]

        async def stage(room_id: str, entries: Any) -> None:
            if failures:
                raise failures.pop()
            await real(room_id, entries)

        monkeypatch.setattr(store, "stage_entries", stage)
        with pytest.raises(OutboundError):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        await world.hand_over()
        assert world.log(world.a) == world.log(world.b)


async def test_what_was_staged_is_believed_no_more_than_what_is_sent(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        first = world.a.node.store.entries(world.room_id, after=0, limit=1)[0]
        await world.b.node.store.stage_entries(world.room_id, [replace(first, sender="@eve:e.example")])
        with pytest.raises(OutboundError, match="does not hold"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.b.node.store.staged_head(world.room_id) == 0
        await world.hand_over()


async def test_a_hub_that_was_caught_hands_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        world.b.node.audits._stopped.add((world.room_id, "a.example"))
        with pytest.raises(OutboundError, match="two histories"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        with pytest.raises(Rejected, match="two histories"):
            await world.b.node.rooms.update(world.room_id, bundle=b"", user_id=BOB, initial_group=None)
