"""Entering rooms through other servers, also those that we have a copy of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linearized.exceptions import LinearizedError
from linearized.room.submissions import Rejected
from linearized.server import entering
from linearized.store.base import MembershipRow, Role, RoomAppend
from tests.server.linearized_pair import BILL, HubPair, hub_pair, joined_pair
from tests.server.support import running_server

CAROL = "@carol:c.example"


async def join(pair: HubPair, user_id: str = BILL, via: str = "a.example") -> None:
    rooms = pair.b.node.rooms
    await entering.join(pair.b.node, rooms.participating, pair.room_id, user_id=user_id, via=[via])


async def knock(pair: HubPair, via: str = "a.example") -> None:
    await entering.knock(pair.b.node, pair.room_id, user_id=BILL, via=[via], reason=None)


def membership(pair: HubPair, user_id: str = BILL) -> MembershipRow | None:
    return pair.b.node.store.membership(pair.room_id, user_id)


async def test_who_is_not_let_in_is_told_the_same_with_a_copy_as_without(tmp_path: Path) -> None:
    async with (
        joined_pair(tmp_path) as pair,
        running_server("c.example", tmp_path, pair.network) as c,
    ):
        await pair.arrived(await pair.state("m.room.join_rules", "", {"join_rule": "invite"}))
        before = pair.log(pair.b)
        for act in ("join", "knock"):
            told = []
            for server, user_id in ((pair.b, BILL), (c, CAROL)):
                node, via = server.node, ["a.example"]
                rooms = node.rooms
                asked = (
                    rooms.join_elsewhere(pair.room_id, user_id=user_id, via=via)
                    if act == "join"
                    else rooms.knock_elsewhere(pair.room_id, user_id=user_id, via=via, reason=None)
                )
                with pytest.raises(LinearizedError) as refused:
                    await asked
                told.append((type(refused.value), str(refused.value).replace(user_id, "USER")))
            assert told[0] == told[1]
        assert pair.log(pair.b) == before
        assert membership(pair) is None


async def test_who_is_let_in_joins_a_room_that_we_have_a_copy_of_once(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        await join(pair)
        await pair.arrived(await pair.say(pair.a, "welcome"))
        found = membership(pair)
        assert found is not None
        assert found.membership == "join"
        pair.agree()


async def test_a_knock_on_a_room_that_we_have_a_copy_of_leaves_the_copy_as_it_is(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        await pair.arrived(await pair.state("m.room.join_rules", "", {"join_rule": "knock"}))
        row = pair.row(pair.b)
        await knock(pair)
        await pair.arrived(await pair.say(pair.a, "who is there?"))
        assert (pair.row(pair.b).role, pair.row(pair.b).hub) == (row.role, row.hub)
        found = membership(pair)
        assert found is not None
        assert found.membership == "knock"
        pair.agree()


@pytest.mark.parametrize(("hub", "role"), [("c.example", Role.PARTICIPANT), ("b.example", Role.HUB)])
async def test_a_server_that_lets_us_in_and_is_not_the_hub_of_our_copy_changes_nothing(
    tmp_path: Path, hub: str, role: Role
) -> None:
    async with joined_pair(tmp_path) as pair:
        row = replace(pair.row(pair.b), hub=hub, role=role)
        await pair.b.node.store.append(RoomAppend(room_id=pair.room_id, room=row))
        before = (pair.log(pair.b), pair.log(pair.a))
        with pytest.raises(Rejected, match="not this room's hub"):
            await join(pair)
        assert (pair.log(pair.b), pair.log(pair.a)) == before
        assert (pair.row(pair.b).hub, pair.row(pair.b).role) == (hub, role)


async def test_without_a_server_to_ask_there_is_no_way_in(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        node = pair.b.node
        with pytest.raises(Rejected, match="No server is known to join"):
            await entering.join(node, node.rooms.participating, pair.room_id, user_id=BILL, via=[])
        with pytest.raises(Rejected, match="No server is known to knock"):
            await entering.knock(node, pair.room_id, user_id=BILL, via=[], reason=None)
