from __future__ import annotations

from pathlib import Path

from tests.bridges.fake_homeserver import FakeHomeserver, MatrixRoom
from tests.bridges.support import ALICE, BOB, CAROL, MATRIX_ROOM, open_world


def history(homeserver: FakeHomeserver, messages: int) -> MatrixRoom:
    room = homeserver.create(MATRIX_ROOM, ALICE)
    for user in (BOB, CAROL):
        homeserver.member(room, user, "join", push=False)
    homeserver.emit(room, ALICE, "m.room.topic", {"topic": "the old days"}, state_key="", push=False)
    for number in range(messages):
        homeserver.say(room, (ALICE, BOB, CAROL)[number % 3], f"old {number}", push=False)
    return room


async def test_a_room_is_imported_in_order_with_its_senders_and_times(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 120)
        room_id = await world.import_room(room)
        page = await world.bridge.puppets.bot.api.log(room_id, after=0, limit=500)
        wanted = [
            (e["sender"], e["origin_server_ts"], e["content"])
            for e in room.timeline
            if e["type"] == "m.room.message"
        ]
        got = [
            (pdu["sender"], pdu["origin_server_ts"], pdu["content"])
            for pdu in page.pdus
            if pdu["type"] == "m.room.message"
        ]
        assert got == wanted
        sources = [pdu["provenance"] for pdu in page.pdus if pdu["type"] == "m.room.message"]
        assert sources[0]["event_id"] == next(
            e["event_id"] for e in room.timeline if e["type"] == "m.room.message"
        )
        create = page.pdus[0]
        assert create["content"]["dev.linearized.origin"]["room_id"] == MATRIX_ROOM


async def test_everybody_of_the_homeserver_is_in_the_group_afterwards(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room_id = await world.import_room(history(world.homeserver, 3))
        members = {o.client_uri for o in world.bridge.puppets.bot.device.members(room_id).values()}
        assert members == {
            "mimi://a.example/d/_bridge/BRIDGE",
            *(f"mimi://matrix.example/d/{name}/BRIDGE" for name in ("alice", "bob", "carol")),
        }
        for user in (ALICE, BOB, CAROL):
            assert world.bridge.puppets.session(user).device.in_group(room_id)


async def test_nobodys_power_changes_by_the_import(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 0)
        levels = {"users": {ALICE: 100, BOB: "50"}, "users_default": 0}
        world.homeserver.emit(room, ALICE, "m.room.power_levels", levels, state_key="", push=False)
        room_id = await world.import_room(room)
        state = await world.bridge.puppets.bot.api.state(room_id)
        (content,) = [e["content"] for e in state if e["type"] == "m.room.power_levels"]
        assert content["users"] == {ALICE: 100, BOB: 50, "@_bridge:a.example": 100}
