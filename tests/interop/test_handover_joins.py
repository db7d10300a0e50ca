"""Joining, and being invited to, a room that has moved to another hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server.exchange import OutboundError
from linearized.store.base import Role
from tests.interop.handover_support import PEERS, club
from tests.interop.hostile_hub import BOB
from tests.server.support import running_server


async def test_a_transferred_room_is_joined_through_its_present_hub(tmp_path: Path) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        await world.hand_over()
        public = LocalEvent(
            sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        await world.b.node.rooms.send(world.room_id, public)
        dora = await d.user("dora")
        # The server in the room's ID says where the room has gone.
        await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["a.example"])
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert (row.hub, row.role) == ("b.example", Role.PARTICIPANT)
        assert await d.node.audits.audit(world.room_id) is None
        held = d.node.store.audit(world.room_id)
        assert held is not None
        assert held.size == len(world.log(world.b))


async def test_the_new_hub_invites_and_the_old_one_cannot_any_more(tmp_path: Path) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        dora = await d.user("dora")
        await world.hand_over()
        await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert row.hub == "b.example"
        await d.node.rooms.join_remote(world.room_id, user_id=dora, via=[])
        assert [m.membership for m in d.node.store.memberships(world.room_id) if m.user_id == dora] == [
            "join"
        ]


@pytest.mark.parametrize(
    "spoil", ["nothing", "no transfers", "no create", "another room", "forged", "too many", "no list"]
)
async def test_an_invite_from_a_server_that_is_not_shown_to_be_the_hub_is_refused(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        dora = await d.user("dora")
        await world.hand_over()
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "/invite/" in path:
                body = more["json"]
                create, transfer = body["dev.linearized.hub_events"]
                signatures = {**transfer["signatures"], "a.example": transfer["signatures"]["b.example"]}
                body["dev.linearized.hub_events"] = {
                    "nothing": None,
                    "no transfers": [create],
                    "no create": [transfer, transfer],
                    "another room": [{**create, "room_id": "!other:a.example"}, transfer],
                    "forged": [create, {**transfer, "signatures": signatures}],
                    "too many": [create, *[transfer] * 21],
                    "no list": {"0": create},
                }[spoil]
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.b.node.federation, "request", request)
        with pytest.raises(OutboundError) as refused:
            await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        assert refused.value.errcode == "M_FORBIDDEN" or refused.value.status == 400
        assert d.node.store.room(world.room_id) is None


async def test_a_join_through_a_server_without_the_links_of_the_chain_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        await world.hand_over()
        public = LocalEvent(
            sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        await world.b.node.rooms.send(world.room_id, public)
        dora = await d.user("dora")
        real = d.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if "send_join" in path:
                answer["state"] = [pdu for pdu in answer["state"] if pdu["type"] != "m.room.hub"]
            return answer

        monkeypatch.setattr(d.node.federation, "request", request)
        with pytest.raises(Rejected) as refused:
            await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["b.example"])
        assert refused.value.code is Reason.WRONG_HUB
        assert d.node.store.room(world.room_id) is None
