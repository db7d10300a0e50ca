"""A room whose hub is gone for good is taken over by a participant, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from linearized.client import EpochChanged
from linearized.protocol.canonical import JsonObject
from linearized.room.checkpoint import read_checkpoint
from linearized.room.submissions import LocalEvent
from linearized.room_check import check_room
from linearized.server.deciding import Overloaded
from linearized.server.mls import OpenMls
from linearized.store.base import Role
from tests.interop.hostile_hub import BOB, CAROL, USERS, arrived
from tests.interop.takeover_support import bereft, named
from tests.interop.test_two_histories import schema
from tests.server.test_two_providers import received


async def test_a_room_goes_on_at_the_server_that_took_it_over(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        before = world.log(world.a)
        event_id = await world.agreed()

        # The whole log is there, from the first entry on, with the takeover behind it that b.example signed
        # alone.
        assert world.log(world.b) == [*before, event_id]
        assert (world.row(world.b).role, world.row(world.b).hub) == (Role.HUB, "b.example")
        entry = world.b.node.store.entry_by_id(event_id)
        assert entry is not None
        pdu = orjson.loads(entry.pdu)
        assert (set(pdu["signatures"]), pdu["sender"]) == ({"b.example"}, BOB)
        assert pdu["content"]["after"] == before[-1]
        assert pdu["content"]["takeover"]["size"] == len(before)
        assert pdu["content"]["takeover"]["hub"] == "a.example"

        # Messages and commits of those who are left go on, in the group that was there.
        await world.heard("from the new hub", world.bob, world.carol)
        await world.heard("from a participant", world.carol, world.bob)
        epoch = world.row(world.b).epoch
        await world.carol.groups.update_keys(world.room_id)
        await received(world.bob, EpochChanged)
        assert world.row(world.b).epoch == (epoch or 0) + 1
        await world.heard("in the new epoch", world.bob, world.carol)

        keys = {
            name: server.node.identity.key.verify_key
            for name, server in zip(USERS, (world.a, world.b, world.c), strict=True)
        }
        report = check_room(
            world.b.node.store, world.room_id,
            keys=lambda server, _: keys.get(server), mls=OpenMls(world.b.node.clock),
        )  # fmt: skip
        assert report.entries == len(world.log(world.b))


async def test_checkpoints_go_on_over_the_same_log(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        old = world.c.node.store.audit(world.room_id)
        assert old is not None
        await world.agreed()
        assert await world.c.node.audits.audit(world.room_id) is None
        held = world.c.node.store.audit(world.room_id)
        assert held is not None
        assert (held.hub, held.anchor_size) == ("b.example", old.anchor_size)
        assert read_checkpoint(held.checkpoint).size == len(world.log(world.b))
        assert not world.c.node.store.findings()
        # What b.example checked as a participant counted as its copy did.
        assert world.b.node.store.audit(world.room_id) is None


async def test_what_only_another_participant_was_sent_is_not_lost(tmp_path: Path) -> None:
    async with bereft(tmp_path, only_c="the last words") as world:
        last = world.log(world.c)[-1]
        assert world.b.node.store.entry_by_id(last) is None
        event_id = await world.agreed()
        assert world.log(world.b)[-2:] == [last, event_id]


async def test_a_participant_that_was_behind_gets_all_that_it_missed(tmp_path: Path) -> None:
    async with bereft(tmp_path, only_b="the last words") as world:
        event_id = await world.agreed()
        assert world.log(world.c)[-2:] == world.log(world.b)[-2:]
        assert world.log(world.c)[-1] == event_id


async def test_a_participant_that_agrees_late_follows_then(tmp_path: Path) -> None:
    async with bereft(tmp_path, voters_of_two=False) as world:
        # Of b.example, c.example and d.example two agree, and that is enough.
        await world.agreed()
        d = world.network_servers["d.example"]
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert row.hub == "a.example"
        await named(world.b, world.room_id, BOB, "for those who follow")
        await d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert (row.hub, row.role) == ("b.example", Role.PARTICIPANT)
        assert (
            d.node.store.event_ids(world.room_id, after=row.head_seq - 1, limit=1) == world.log(world.b)[-1:]
        )


async def test_a_taker_that_stops_in_between_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        moves = world.b.node.moves
        with monkeypatch.context() as patch:

            async def stops(room_id: str) -> None:
                raise Overloaded(room_id)

            patch.setattr(moves, "adopt", stops)
            patch.setattr(moves, "due", lambda _: None)
            with pytest.raises(Overloaded):
                await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        assert (world.row(world.b).role, world.row(world.b).hub) == (Role.PARTICIPANT, "b.example")
        moves._incoming.clear()  # as after a restart
        moves.begin()
        await world.ordered_by(world.b, "b.example", Role.HUB)
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        assert world.log(world.b) == [*world.log(world.a), world.log(world.b)[-1]]


async def test_a_room_that_was_taken_over_is_handed_over_as_any_other(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        levels = {"users": {BOB: 100, CAROL: 100}}
        event = LocalEvent(sender=BOB, type="m.room.power_levels", state_key="", content=levels)
        await arrived(world.c, await world.b.node.rooms.send(world.room_id, event))
        await world.b.node.moves.transfer(world.room_id, "c.example")
        await world.ordered_by(world.c, "c.example", Role.HUB)
        assert world.log(world.c) == world.log(world.b)
        await world.heard("at c's", world.bob, world.carol)


async def test_what_servers_say_to_each_other_is_what_the_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path, only_c="the last words") as world:
        real, seen = world.b.node.federation.request, set()

        async def request(name: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.endswith("/takeover"):
                both = schema("takeover")["$defs"]
                Draft202012Validator(both["request"]).validate(more["json"])
            answer = await real(name, method, path, **more)
            if path.endswith("/takeover"):
                Draft202012Validator(both["response"]).validate(answer)
            elif "/tail?" in path:
                Draft202012Validator(schema("tail")).validate(answer)
            seen.add(path.partition("?")[0].rpartition("/")[2])
            return answer

        monkeypatch.setattr(world.b.node.federation, "request", request)
        await world.agreed()
        assert seen >= {"tail", "takeover"}
