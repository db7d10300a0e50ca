"""A room is handed over to another hub while a third participant follows and the MLS group goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from linearized.client import EpochChanged
from linearized.exceptions import InvalidInput
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import get_version
from linearized.room.checkpoint import read_checkpoint
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.room_check import check_room
from linearized.server import moves
from linearized.server.deciding import Overloaded
from linearized.server.exchange import OutboundError
from linearized.server.mls import OpenMls
from linearized.server.moves import Moves
from linearized.store.base import Role
from tests.interop.handover_support import club
from tests.interop.hostile_hub import ALICE, BOB, USERS, arrived
from tests.interop.test_two_histories import schema
from tests.server.support import Server
from tests.server.test_two_providers import received, say


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


async def test_what_the_hubs_say_to_each_other_is_what_the_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def watched(server: Server) -> None:
        real = server.node.federation.request

        async def request(name: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(name, method, path, **more)
            kind = path.partition("?")[0].rpartition("/")[2]
            if kind in {"log", "prepare"}:
                Draft202012Validator(schema("log" if kind == "log" else "transfer_prepare")).validate(answer)
            elif kind == "accept":
                both = schema("transfer_accept")["$defs"]
                Draft202012Validator(both["request"]).validate(more["json"])
                Draft202012Validator(both["response"]).validate(answer)
            seen.add(kind)
            return answer

        monkeypatch.setattr(server.node.federation, "request", request)

    async with club(tmp_path) as world:
        watched(world.a)
        watched(world.b)
        await world.hand_over()
        assert seen >= {"log", "prepare", "accept"}


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


# --- who was away ---


async def test_a_participant_that_missed_the_transfer_learns_of_it_from_the_new_hub(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        world.network.down.add("c.example")
        await world.a.node.moves.transfer(world.room_id, "b.example")
        await world.ordered_by(world.b, "b.example", Role.HUB)
        world.network.down.add("a.example")  # the old hub is gone for good
        await world.b.node.rooms.send(
            world.room_id, LocalEvent(sender=BOB, type="m.room.name", state_key="", content={"name": "b's"})
        )
        world.network.down.discard("c.example")
        world.b.node.followers.contacted("c.example")
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        await world.heard("still here", world.carol, world.bob)


async def test_a_stranger_and_a_participant_that_was_not_handed_the_room_do_not_become_its_hub(
    tmp_path: Path,
) -> None:
    async with club(tmp_path) as world:
        last = world.a.node.store.entries(world.room_id, after=0, limit=1000)[-1]
        forged = build_event(
            identity=world.b.node.identity, version=get_version("dev.linearized.1"), room_id=world.room_id,
            type="m.room.name", sender=BOB, content={"name": "mine"}, origin_server_ts=1, state_key="",
            auth_events=orjson.loads(last.pdu)["auth_events"], prev_events=[last.event_id],
        )  # fmt: skip
        for origin in ("b.example", "d.example"):
            with pytest.raises(InvalidInput):
                await world.c.node.rooms.receive_pdu(world.room_id, forged.pdu, origin)
        assert world.row(world.c).hub == "a.example"


async def test_a_new_hub_that_stops_in_between_takes_over_when_it_is_back(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Moves, "due", lambda *_: None)
            transfer = await world.a.node.moves.transfer(world.room_id, "b.example")
            await arrived(world.b, transfer)
            assert world.row(world.b).role is Role.PARTICIPANT
            with pytest.raises(Overloaded):
                await world.b.node.rooms.send(
                    world.room_id, LocalEvent(sender=BOB, type="m.room.topic", state_key="", content={})
                )
            # As after a restart: nothing in memory, everything in the store.
            world.b.node.moves._incoming.clear()
        world.b.node.moves.begin()
        await world.ordered_by(world.b, "b.example", Role.HUB)
        assert world.log(world.b) == world.log(world.a)


async def test_taking_over_waits_for_the_old_hub_to_be_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "RETRY_SECONDS", 0.05)
    async with club(tmp_path) as world:
        real, failures = world.b.node.federation.request, [OutboundError("down")] * 2

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.partition("?")[0].endswith("/log") and world.row(world.b).hub == "b.example" and failures:
                raise failures.pop()
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.b.node.federation, "request", request)
        await world.hand_over()
        assert not failures


async def test_clients_of_the_new_hub_sync_on_without_a_gap_or_a_repetition(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        api = world.bob.api
        since = (await api.sync(since=None, timeout_ms=0))["next_batch"]
        await say(world.alice, world.room_id, "unread")
        unread = world.log(world.a)[-1]
        await arrived(world.b, unread)
        transfer = await world.hand_over()
        await say(world.carol, world.room_id, "after")
        answer = await api.sync(since=since, timeout_ms=0)
        timeline = answer["rooms"]["join"][world.room_id]["timeline"]
        assert [event["event_id"] for event in timeline["events"]] == [
            unread, transfer, world.log(world.b)[-1],
        ]  # fmt: skip
        assert not timeline.get("limited")
