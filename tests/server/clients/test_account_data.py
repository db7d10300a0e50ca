"""Account data and tags: kept for one user, told to that user's devices once, bounded."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from linearized.server.clients import account_data as module
from linearized.server.clients import window as window_module
from linearized.server.clients.account_data import (
    MAX_CONTENT_BYTES,
    MAX_TAG_BYTES,
    MAX_TAGS,
    MAX_TYPE_BYTES,
)
from tests.server.clients.support import Answer, Client, Server, part

DIRECT = {"@bob:b.example": ["!r:a.example"]}


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["errcode"]


def own(client: Client, rest: str, room_id: str | None = None) -> str:
    path = f"/user/{part(client.user_id)}"
    return f"{path}/{rest}" if room_id is None else f"{path}/rooms/{part(room_id)}/{rest}"


async def put(client: Client, kind: str, content: Any, room_id: str | None = None) -> None:
    (await client.call("PUT", own(client, f"account_data/{kind}", room_id), content)).ok()


async def test_what_was_put_can_be_got_and_replaced(alice: Client) -> None:
    path = own(alice, "account_data/m.direct")
    assert refusal(await alice.call("GET", path)) == (404, "M_NOT_FOUND")
    await put(alice, "m.direct", {"old": 1.5})
    await put(alice, "m.direct", DIRECT)
    assert (await alice.call("GET", path)).ok() == DIRECT


async def test_each_room_has_its_own(alice: Client) -> None:
    rooms = [await alice.create_room(), await alice.create_room()]
    for number, room_id in enumerate(rooms):
        await put(alice, "org.example.n", {"n": number}, room_id)
    await put(alice, "org.example.n", {"n": "account"})
    for number, room_id in enumerate(rooms):
        assert (await alice.call("GET", own(alice, "account_data/org.example.n", room_id))).ok() == {
            "n": number
        }
    assert (await alice.call("GET", own(alice, "account_data/org.example.n"))).ok() == {"n": "account"}


async def test_a_sync_tells_each_change_once(alice: Client) -> None:
    room_id = await alice.create_room()
    await put(alice, "m.direct", DIRECT)
    await put(alice, "m.direct", {})
    await put(alice, "org.example.note", {"text": "mine"}, room_id)
    first = await alice.sync()
    assert first["account_data"]["events"] == [{"type": "m.direct", "content": {}}]
    note = {"type": "org.example.note", "content": {"text": "mine"}}
    assert first["rooms"]["join"][room_id]["account_data"]["events"] == [note]
    second = await alice.sync(first["next_batch"])
    assert (second["account_data"]["events"], second["rooms"]["join"]) == ([], {})
    await put(alice, "org.example.note", {"text": "new"}, room_id)
    third = await alice.sync(second["next_batch"])
    section = third["rooms"]["join"][room_id]
    assert section["account_data"]["events"] == [{"type": "org.example.note", "content": {"text": "new"}}]
    assert (section["timeline"]["events"], section["state"]["events"]) == ([], [])
    assert (await alice.sync(third["next_batch"], full_state="true"))["account_data"] == first["account_data"]


async def test_a_change_ends_a_wait_of_the_users_other_device_and_of_nobody_else(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    phone, bob = await server.user("alice", "PHONE"), await server.user("bob")
    began = trio.current_time()
    waited: dict[str, float] = {}

    async def wait(name: str, client: Client) -> None:
        since = (await client.sync())["next_batch"]
        await client.sync(since, timeout=30_000)
        waited[name] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "phone", phone)
        nursery.start_soon(wait, "bob", bob)
        await trio.sleep(5)
        await put(alice, "m.direct", DIRECT)
    assert waited == {"phone": 5, "bob": 30}


async def test_account_data_waits_until_every_room_has_been_told_of(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [await alice.create_room() for _ in range(3)]
    for room_id in rooms:
        await put(alice, "org.example.n", {}, room_id)
    monkeypatch.setattr(window_module, "MAX_ROOMS", 1)
    monkeypatch.setattr(window_module.read_window, "__kwdefaults__", {"unchanged": False, "max_rooms": 1})
    since, told = None, list[str]()
    for _ in range(8):
        answer = await alice.sync(since)
        for room_id, section in answer["rooms"]["join"].items():
            assert section["timeline"]["events"] or room_id in told
            told.append(room_id)
        since = answer["next_batch"]
        if answer["rooms"]["join"] and section["account_data"]["events"]:
            break
    assert {room_id for room_id in answer["rooms"]["join"] if room_id in rooms} == set(rooms)


async def test_a_room_that_was_left_is_told_of_no_more(alice: Client) -> None:
    room_id = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    (await alice.call("POST", f"/rooms/{part(room_id)}/leave")).ok()
    await put(alice, "org.example.n", {}, room_id)
    assert room_id not in (await alice.sync(since))["rooms"]["join"]


async def test_tags_are_given_listed_and_taken_away(alice: Client) -> None:
    room_id = await alice.create_room()
    path = own(alice, "tags", room_id)
    assert (await alice.call("GET", path)).ok() == {"tags": {}}
    (await alice.call("PUT", f"{path}/m.favourite", {"order": 0.25})).ok()
    (await alice.call("PUT", f"{path}/u.work", {})).ok()
    assert (await alice.call("GET", path)).ok() == {"tags": {"m.favourite": {"order": 0.25}, "u.work": {}}}
    since = (await alice.sync())["next_batch"]
    (await alice.call("DELETE", f"{path}/m.favourite")).ok()
    (await alice.call("DELETE", f"{path}/m.favourite")).ok()
    told = (await alice.sync(since))["rooms"]["join"][room_id]["account_data"]["events"]
    assert told == [{"type": "m.tag", "content": {"tags": {"u.work": {}}}}]


@pytest.mark.parametrize(
    ("rest", "body", "refused"),
    [
        ("account_data/m.fully_read", {}, (405, "M_BAD_JSON")),
        ("account_data/m.push_rules", {}, (405, "M_BAD_JSON")),
        (f"account_data/{'x' * (MAX_TYPE_BYTES + 1)}", {}, (400, "M_INVALID_PARAM")),
        ("account_data/x", {"x": "x" * MAX_CONTENT_BYTES}, (413, "M_TOO_LARGE")),
        ("account_data/x", [], (400, "M_BAD_JSON")),
        ("account_data/m.tag", {"tags": []}, (400, "M_BAD_JSON")),
        ("account_data/m.tag", {"tags": {"u.x": 1}}, (400, "M_BAD_JSON")),
        ("tags/u.x", {"order": "0.5"}, (400, "M_BAD_JSON")),
        ("tags/u.x", {"order": True}, (400, "M_BAD_JSON")),
        (f"tags/{'x' * (MAX_TAG_BYTES + 1)}", {}, (400, "M_INVALID_PARAM")),
        ("account_data/m.tag", {"tags": {str(n): {} for n in range(MAX_TAGS + 1)}}, (400, "M_INVALID_PARAM")),
    ],
)
async def test_what_does_not_belong_there_is_refused(
    alice: Client, rest: str, body: Any, refused: tuple[int, str]
) -> None:
    room_id = await alice.create_room()
    assert refusal(await alice.call("PUT", own(alice, rest, room_id), body)) == refused
    assert (await alice.sync())["rooms"]["join"][room_id]["account_data"]["events"] == []


async def test_what_is_nested_too_deeply_to_be_told_is_refused(server: Server, alice: Client) -> None:
    body: Any = {}
    for _ in range(300):
        body = {"x": body}
    text = str(body).replace("'", '"').encode()
    path = f"/_matrix/client/v3{own(alice, 'account_data/x')}"
    answer = await server.call("PUT", path, raw=text, token=alice.token)
    assert refusal(answer) == (400, "M_BAD_JSON")
    assert refusal(await server.call("PUT", path, raw=b"{", token=alice.token)) == (400, "M_NOT_JSON")


@pytest.mark.parametrize("bound", ["MAX_ROWS", "MAX_USER_BYTES"])
async def test_a_user_has_so_much_and_no_more(
    alice: Client, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, bound, {"MAX_ROWS": 2, "MAX_USER_BYTES": 14}[bound])
    for kind in ("a", "b"):
        await put(alice, kind, {"n": 1})
    answer = await alice.call("PUT", own(alice, "account_data/c"), {"n": 1})
    assert refusal(answer) == (400, "M_LIMIT_EXCEEDED")
    await put(alice, "b", {"n": 2})


async def test_others_account_data_and_rooms_are_none_of_ones_business(server: Server, alice: Client) -> None:
    bob, room_id = await server.user("bob"), await alice.create_room()
    await put(alice, "m.direct", DIRECT)
    for method, body in (("GET", None), ("PUT", {})):
        answer = await bob.call(method, own(alice, "account_data/m.direct"), body)
        assert refusal(answer) == (403, "M_FORBIDDEN")
        unknown = [
            refusal(await bob.call(method, own(bob, "account_data/x", where), body))
            for where in (room_id, "!nowhere:a.example")
        ]
        assert unknown == [(403, "M_FORBIDDEN")] * 2
    for method, rest in (("GET", "tags"), ("PUT", "tags/x"), ("DELETE", "tags/x")):
        body = {} if method == "PUT" else None
        assert refusal(await bob.call(method, own(alice, rest, room_id), body)) == (403, "M_FORBIDDEN")
        assert refusal(await bob.call(method, own(bob, rest, room_id), body)) == (403, "M_FORBIDDEN")
