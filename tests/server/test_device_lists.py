"""Device list updates between two servers of ours, and by a foreign one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
import trio.testing

from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import LocalEvent
from linearized.server import batches, device_lists
from linearized.server.batches import EDUS
from linearized.server.device_lists import MAX_DEVICES, announce, linearized_servers
from linearized.server.welcomes import provider_address
from linearized.store.base import DeviceRow, MembershipRow, RoomAppend
from tests.server.device_support import device_object
from tests.server.federation.schemas import check
from tests.server.federation.support import ALICE, BOB, DEV, UNSTABLE, World, account, room, world
from tests.server.federation.test_two_servers import pair

PATIENCE = 20


def update(
    changed: Any = None, removed: Any = None, *, user: str = BOB, field: str = "sender_id"
) -> JsonObject:
    content = {"changed": [] if changed is None else changed, "removed": removed or []}
    return {"type": "m.device_list_update", field: user, "content": content}


async def test_a_new_and_a_removed_device_are_known_at_the_servers_its_user_meets(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b, _, _):
        said = device_object(BOB)
        await announce(b.node, BOB, changed=[said])
        with trio.fail_after(PATIENCE):
            while not a.node.store.device_objects(BOB):
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert orjson.loads(a.node.store.device_objects(BOB)["PHONE"]) == said
        await announce(b.node, BOB, removed=["PHONE"])
        with trio.fail_after(PATIENCE):
            while a.node.store.device_objects(BOB):
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert b.node.store.to_device_addresses(EDUS) == []


async def test_what_is_announced_matches_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(tmp_path) as (_, b, network, _):
        network.down.add("a.example")
        await announce(b.node, BOB, changed=[device_object(BOB)], removed=["LAPTOP"])
        (row,) = b.node.store.to_device(provider_address("a.example"), EDUS, after=0, limit=9)
        check("device_list_update", orjson.loads(row.content))
        monkeypatch.setattr(batches, "MAX_WAITING_EDUS", 1)
        await announce(b.node, BOB, removed=["LAPTOP"])
        assert len(b.node.store.to_device(provider_address("a.example"), EDUS, after=0, limit=9)) == 1
        network.down.discard("a.example")
        b.node.followers.contacted("a.example")
        with trio.fail_after(PATIENCE):
            while b.node.store.to_device_addresses(EDUS):
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_only_linearized_matrix_servers_in_ones_rooms_are_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        node = w.server.node
        await account(w.server, ALICE)
        imported = {"protocol": "matrix", "provider": "m.example", "imported": True, "event_id": "$past"}
        past = [
            LocalEvent(
                sender="@mia:m.example",
                type="m.room.member",
                state_key="@mia:m.example",
                content={"membership": "join"},
                provenance=imported,
            )
        ]
        room_id = await room(w.server, version=DEV, more=tuple(past))
        assert await linearized_servers(node, ALICE) == []
        await w.foreign.join(room_id, version=DEV)
        assert await linearized_servers(node, ALICE) == ["b.example"]
        assert await linearized_servers(node, "@nobody:a.example") == []
        await node.store.append(
            RoomAppend(
                room_id=room_id,
                memberships=(MembershipRow(room_id=room_id, user_id=ALICE, membership="leave", seq=0),),
            )
        )
        assert await linearized_servers(node, ALICE) == []


async def taken(w: World, unit: JsonObject, txn: str = "1") -> dict[str, bytes]:
    """What is known of Bob's devices after a unit from his server."""
    assert (await w.foreign.send(txn, edus=[unit])).status == 200
    return w.server.node.store.device_objects(BOB)


async def test_a_users_update_is_taken_whatever_its_field_is_called(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.foreign.join(await room(w.server))
        assert set(await taken(w, update([device_object(BOB)]))) == {"PHONE"}
        assert set(await taken(w, update([device_object(BOB, "TV")], field="sender"), "2")) == {"PHONE", "TV"}
        assert set(await taken(w, update(removed=["PHONE", 5]), "3")) == {"TV"}


@pytest.mark.parametrize(
    "unit",
    [
        update([device_object("@eve:c.example")], user="@eve:c.example"),
        update([device_object(ALICE)], user=ALICE),
        update([device_object(BOB)], user="bob"),
        {"type": "m.device_list_update", "sender_id": BOB},
        update([device_object("@bill:b.example")]),
        update([{**device_object(BOB), "signatures": {}}]),
        update({"PHONE": device_object(BOB)}),
        update(5),
        update(["PHONE"]),
    ],
)
async def test_what_is_not_the_users_own_is_dropped(tmp_path: Path, unit: JsonObject) -> None:
    async with world(tmp_path) as w:
        await w.foreign.join(await room(w.server))
        assert await taken(w, unit) == {}
        for user_id in (ALICE, "@eve:c.example", "@bill:b.example"):
            assert w.server.node.store.device_objects(user_id) == {}


async def test_a_server_that_shares_no_room_with_us_tells_us_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await taken(w, update([device_object(BOB)])) == {}


async def test_the_devices_kept_of_one_user_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lists, "MAX_DEVICES", 2)
    async with world(tmp_path) as w:
        await w.foreign.join(await room(w.server))
        assert len(await taken(w, update([device_object(BOB, f"D{n}") for n in range(5)]))) == 2
        assert len(await taken(w, update([device_object(BOB, "D9")]), "2")) == 2
    assert MAX_DEVICES == 100


async def test_a_device_of_ours_is_shown_as_it_signed_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        store, said = w.server.node.store, device_object(ALICE)
        await store.put_device(
            DeviceRow(user_id=ALICE, device_id="PHONE", display_name="Secret name", token_hash=None)
        )
        await store.put_device_object(ALICE, "PHONE", orjson.dumps(said))
        await store.put_device_object(ALICE, "GONE", orjson.dumps(said))
        await store.put_device_object(BOB, "PHONE", orjson.dumps(device_object(BOB)))
        for base in ("/_matrix/federation/v1", UNSTABLE):
            answer = await w.foreign.ask("GET", f"{base}/user/{ALICE}/device/PHONE")
            assert answer.status == 200
            check("device.response", answer.body)
            assert answer.body == said
            for user, device in ((ALICE, "GONE"), (ALICE, "TV"), (BOB, "PHONE"), ("@no:a.example", "PHONE")):
                answer = await w.foreign.ask("GET", f"{base}/user/{user}/device/{device}")
                assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_a_waiting_sync_ends_when_a_remote_device_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.foreign.join(await room(w.server))
        ticket = w.server.node.notifier.ticket(ALICE)
        await taken(w, update([device_object(BOB)]))
        assert ticket.is_set()
        users, _ = device_lists.changed_since(w.server.node, ALICE, after=0, until=None)
        assert users == [BOB]
