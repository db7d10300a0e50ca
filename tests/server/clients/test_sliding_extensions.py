"""What sliding sync tells beside rooms."""

from __future__ import annotations

from typing import Any

import orjson
import trio

from linearized.store.base import NewToDevice
from tests.server.clients.sliding_support import ALL, ask, slide
from tests.server.clients.support import Client, Server, part, room


async def test_messages_to_a_device_stay_until_their_position_comes_back(server: Server, bob: Client) -> None:
    content = orjson.dumps({"n": 1})
    await server.store.put_to_device(
        [NewToDevice(user_id=bob.user_id, device_id="DEVICE", type="x", sender="@a:x", content=content)]
    )

    async def told(pos: str | None = None, **settings: Any) -> Any:
        answer = await slide(bob, pos, extensions={"to_device": {"enabled": True, **settings}})
        return answer["pos"], answer["extensions"]["to_device"]

    pos, first = await told()
    assert first["events"] == [{"type": "x", "sender": "@a:x", "content": {"n": 1}}]
    assert (await told(pos))[1] == first
    assert (await told(pos, since=first["next_batch"], limit=1))[1]["events"] == []
    assert server.store.to_device(bob.user_id, "DEVICE", after=0, limit=9) == []
    body = {"extensions": {"to_device": {"enabled": True, "since": "x"}}}
    (await ask(bob, body)).refused(400, "M_INVALID_PARAM")


async def test_who_comes_and_goes_is_told_for_encryption(server: Server, alice: Client, bob: Client) -> None:
    wish: Any = {"extensions": {"e2ee": {"enabled": True}}}
    room_id = await alice.create_room(invite=[bob.user_id])
    hers, his = (await slide(alice, **wish))["pos"], (await slide(bob, **wish))["pos"]
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    first, joined = await slide(alice, hers, **wish), await slide(bob, his, **wish)
    assert first["extensions"]["e2ee"]["device_lists"] == {"changed": [bob.user_id], "left": []}
    assert joined["extensions"]["e2ee"]["device_lists"] == {"changed": [alice.user_id], "left": []}
    (await bob.call("POST", f"{room(room_id)}/leave")).ok()
    second, left = await slide(alice, first["pos"], **wish), await slide(bob, joined["pos"], **wish)
    assert second["extensions"]["e2ee"]["device_lists"] == {"changed": [], "left": [bob.user_id]}
    assert left["extensions"]["e2ee"]["device_lists"] == {"changed": [], "left": [alice.user_id]}
    quiet = (await slide(alice, second["pos"], **wish))["extensions"]["e2ee"]
    assert quiet == {"device_one_time_keys_count": {"mls": 0}, "device_unused_fallback_key_types": []}


async def test_account_data_receipts_and_typing_are_told_once(alice: Client, bob: Client) -> None:
    names = ("account_data", "receipts", "typing")
    wish: Any = {"lists": {"all": ALL}, "extensions": {name: {"enabled": True} for name in names}}
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    event_id = (await alice.send(room_id, "hello", "t")).ok()["event_id"]
    for body in ({}, {"thread_id": "main"}):
        (await bob.call("POST", f"{room(room_id)}/receipt/m.read/{part(event_id)}", body)).ok()
    path = f"{room(room_id)}/typing/{part(bob.user_id)}"
    (await bob.call("PUT", path, {"typing": True})).ok()
    own = f"/user/{part(alice.user_id)}"
    (await alice.call("PUT", f"{own}/account_data/m.direct", {})).ok()
    (await alice.call("PUT", f"{own}/rooms/{part(room_id)}/tags/x", {})).ok()
    first = await slide(alice, **wish)
    told = first["extensions"]
    assert told["account_data"]["global"] == [{"type": "m.direct", "content": {}}]
    assert [event["type"] for event in told["account_data"]["rooms"][room_id]] == ["m.tag"]
    assert told["typing"]["rooms"][room_id]["content"] == {"user_ids": [bob.user_id]}
    read = told["receipts"]["rooms"][room_id]["content"][event_id]["m.read"]
    assert read[bob.user_id]["thread_id"] == "main"
    assert (await slide(alice, first["pos"], **wish))["extensions"] == {}
    (await bob.call("PUT", path, {"typing": False})).ok()
    second = await slide(alice, first["pos"], **wish)
    assert second["extensions"] == {
        "typing": {"rooms": {room_id: {"type": "m.typing", "content": {"user_ids": []}}}}
    }
    assert (await slide(alice, lists={}))["extensions"] == {}


def chosen(**settings: Any) -> Any:
    return {name: {"enabled": True, **settings} for name in ("account_data", "receipts", "typing")}


async def noted(alice: Client) -> str:
    """A room with account data, a receipt, and somebody who types."""
    room_id = await alice.create_room()
    event_id = (await alice.send(room_id, "hello", "t")).ok()["event_id"]
    (await alice.call("POST", f"{room(room_id)}/receipt/m.read/{part(event_id)}", {})).ok()
    (await alice.call("PUT", f"{room(room_id)}/typing/{part(alice.user_id)}", {"typing": True})).ok()
    own = f"/user/{part(alice.user_id)}/rooms/{part(room_id)}"
    (await alice.call("PUT", f"{own}/tags/x", {})).ok()
    return room_id


async def told(alice: Client, pos: str | None = None, **wish: Any) -> tuple[str, list[set[str]]]:
    """The position after an answer, and of which rooms each extension tells something."""
    answer = await slide(alice, pos, **wish)
    parts = answer["extensions"]
    names = ("account_data", "receipts", "typing")
    return answer["pos"], [set(parts.get(name, {}).get("rooms", ())) for name in names]


async def test_extensions_are_for_the_rooms_of_the_request_or_those_that_are_chosen(alice: Client) -> None:
    old, new, subscribed = [await noted(alice) for _ in range(3)]
    await alice.send(old, "hello", "u")
    await alice.send(new, "hello", "u")
    wish: Any = {
        "lists": {"top": {**ALL, "ranges": [[0, 0]]}, "next": {**ALL, "ranges": [[1, 1]]}},
        "room_subscriptions": {subscribed: {"timeline_limit": 1}, "!none:a.example": {"timeline_limit": 1}},
    }
    for settings, rooms in (
        ({}, {old, new, subscribed}),
        ({"lists": ["*"], "rooms": ["*"]}, {old, new, subscribed}),
        ({"lists": ["top"]}, {new, subscribed}),
        ({"lists": ["top"], "rooms": []}, {new}),
        ({"lists": [], "rooms": [subscribed, old, "!none:a.example"]}, {subscribed}),
        ({"lists": ["other"], "rooms": []}, set()),
    ):
        assert (await told(alice, extensions=chosen(**settings), **wish))[1] == [rooms] * 3, settings
    assert (await told(alice, extensions=chosen()))[1] == [set()] * 3
    body = {"extensions": {"typing": {"enabled": True, "lists": 7}}}
    (await ask(alice, body)).refused(400, "M_BAD_JSON")


async def test_a_room_that_comes_into_the_window_is_told_from_the_beginning(alice: Client) -> None:
    old, new = [await noted(alice) for _ in range(2)]
    top: Any = {"lists": {"top": {**ALL, "ranges": [[0, 0]]}}, "extensions": chosen()}
    pos, rooms = await told(alice, **top)
    assert rooms == [{new}] * 3
    assert (await told(alice, pos, **top))[1] == [set()] * 3
    await alice.send(old, "hello", "u")
    pos, rooms = await told(alice, pos, **top)
    assert rooms == [{old}] * 3
    await alice.send(new, "hello", "u")
    pos, rooms = await told(alice, pos, **top)
    assert rooms == [{new}] * 3


async def test_what_happens_beside_other_rooms_is_no_news(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    old, new = [await noted(alice) for _ in range(2)]
    top: Any = {"lists": {"top": {**ALL, "ranges": [[0, 0]]}}, "extensions": chosen()}
    pos = (await slide(alice, **top))["pos"]
    began = trio.current_time()
    own = f"/user/{part(alice.user_id)}/rooms"
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            answer = await slide(alice, pos, wait=30_000, **top)
            assert answer["extensions"]["account_data"]["rooms"].keys() == {new}
            assert trio.current_time() - began == 20

        await trio.sleep(10)
        (await alice.call("PUT", f"{own}/{part(old)}/tags/y", {})).ok()
        await trio.sleep(10)
        (await alice.call("PUT", f"{own}/{part(new)}/tags/y", {})).ok()


async def test_of_a_room_that_one_was_put_out_of_nobodys_reading_or_typing_is_told(
    alice: Client, bob: Client
) -> None:
    room_id = await noted(alice)
    (await alice.call("POST", f"{room(room_id)}/invite", {"user_id": bob.user_id})).ok()
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    wish: Any = {"lists": {"all": ALL}, "extensions": chosen()}
    assert (await told(bob, **wish))[1] == [set(), {room_id}, {room_id}]
    (await alice.call("POST", f"{room(room_id)}/kick", {"user_id": bob.user_id})).ok()
    answer = await slide(bob, **wish)
    assert (list(answer["rooms"]), answer["extensions"]) == ([room_id], {})
