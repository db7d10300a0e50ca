"""Receipts and read markers: who is told, once; forward only; refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from linearized.server.clients import ephemeral as ephemeral_module
from linearized.server.clients import sync as sync_module
from linearized.server.clients import window as window_module
from linearized.server.clients.ephemeral import receipt_events
from linearized.store.receipts import ReceiptRow
from tests.server.clients.support import START_MS, Client, Server, part, room


@pytest.fixture
async def shared(alice: Client, bob: Client) -> str:
    """A room with both in it."""
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    return room_id


async def said(client: Client, room_id: str, text: str) -> str:
    event_id: str = (await client.send(room_id, text, text)).ok()["event_id"]
    return event_id


def path(room_id: str, kind: str, event_id: str) -> str:
    return f"{room(room_id)}/receipt/{kind}/{part(event_id)}"


async def read(client: Client, room_id: str, event_id: str, kind: str = "m.read", **body: Any) -> None:
    assert (await client.call("POST", path(room_id, kind, event_id), body)).ok() == {}


def receipts(answer: Any, room_id: str) -> list[Any]:
    section = answer["rooms"]["join"].get(room_id)
    return [] if section is None else section["ephemeral"]["events"]


def receipt(event_id: str, user_id: str, kind: str = "m.read", **more: Any) -> Any:
    return {"type": "m.receipt", "content": {event_id: {kind: {user_id: {"ts": START_MS, **more}}}}}


async def test_a_receipt_is_told_to_everybody_in_the_room_once(
    alice: Client, bob: Client, shared: str
) -> None:
    event_id = await said(alice, shared, "hello")
    since = {client.user_id: (await client.sync())["next_batch"] for client in (alice, bob)}
    await read(bob, shared, event_id)
    for client in (alice, bob):
        answer = await client.sync(since[client.user_id])
        assert receipts(answer, shared) == [receipt(event_id, bob.user_id)]
        assert answer["rooms"]["join"][shared]["timeline"]["events"] == []
        assert (await client.sync(answer["next_batch"]))["rooms"]["join"] == {}
    assert receipts(await alice.sync(), shared) == [receipt(event_id, bob.user_id)]


async def test_a_private_receipt_is_told_to_its_user_alone(
    server: Server, alice: Client, bob: Client, shared: str
) -> None:
    event_id = await said(alice, shared, "hello")
    phone = await server.user("bob", "PHONE")
    hers, his = (await alice.sync())["next_batch"], (await phone.sync())["next_batch"]
    await read(bob, shared, event_id, "m.read.private")
    assert (await alice.sync(hers))["rooms"]["join"] == {}
    assert receipts(await phone.sync(his), shared) == [receipt(event_id, bob.user_id, "m.read.private")]


async def test_a_receipt_never_moves_back(alice: Client, bob: Client, shared: str) -> None:
    first, second = await said(alice, shared, "one"), await said(alice, shared, "two")
    await read(bob, shared, second)
    since = (await alice.sync())["next_batch"]
    await read(bob, shared, first)
    await read(bob, shared, second)
    assert (await alice.sync(since))["rooms"]["join"] == {}
    assert receipts(await alice.sync(), shared) == [receipt(second, bob.user_id)]


async def test_each_thread_has_its_receipt(alice: Client, bob: Client, shared: str) -> None:
    root = await said(alice, shared, "root")
    await read(bob, shared, root)
    await read(bob, shared, root, thread_id=root)
    await read(bob, shared, root, thread_id="main")
    assert receipts(await alice.sync(), shared) == [
        receipt(root, bob.user_id),
        receipt(root, bob.user_id, thread_id=root),
        receipt(root, bob.user_id, thread_id="main"),
    ]


def test_receipts_of_one_event_are_one_event_unless_one_user_has_several() -> None:
    rows = [
        ReceiptRow(room_id="!r", user_id=user, kind="m.read", thread_id=thread, event_id="$1", seq=1, ts=ts)
        for user, thread, ts in (("@a:x", "", 1), ("@b:x", "", 2), ("@a:x", "main", 3), ("@b:x", "main", 4))
    ]
    assert receipt_events([]) == []
    assert [event["content"]["$1"]["m.read"] for event in receipt_events(rows)] == [
        {"@a:x": {"ts": 1}, "@b:x": {"ts": 2}},
        {"@a:x": {"ts": 3, "thread_id": "main"}, "@b:x": {"ts": 4, "thread_id": "main"}},
    ]


async def test_a_newcomer_is_told_the_receipts_of_before(server: Server, alice: Client, shared: str) -> None:
    event_id = await said(alice, shared, "hello")
    await read(alice, shared, event_id)
    other = await alice.create_room()
    await read(alice, other, await said(alice, other, "mine"))
    carol = await server.user("carol")
    (await alice.call("POST", f"{room(shared)}/invite", {"user_id": carol.user_id})).ok()
    since = (await carol.sync())["next_batch"]
    (await carol.call("POST", f"/join/{part(shared)}", {})).ok()
    answer = await carol.sync(since)
    assert receipts(answer, shared) == [receipt(event_id, alice.user_id)]
    assert (await carol.sync(answer["next_batch"]))["rooms"]["join"] == {}


async def test_more_receipts_than_fit_come_with_the_next_answers(
    alice: Client, bob: Client, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ephemeral_module, "MAX_RECEIPTS", 1)
    event_id = await said(alice, shared, "hello")
    since = (await alice.sync())["next_batch"]
    for kind in ("m.read", "m.read.private"):
        await read(alice, shared, event_id, kind)
    await read(bob, shared, event_id)
    told = []
    while found := receipts(answer := await alice.sync(since), shared):
        told += found
        since = answer["next_batch"]
    assert told == [
        receipt(event_id, alice.user_id),
        receipt(event_id, alice.user_id, "m.read.private"),
        receipt(event_id, bob.user_id),
    ]


async def test_receipts_wait_until_every_room_has_been_told_of(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_room = partial(window_module.read_window, max_rooms=1)
    monkeypatch.setattr(sync_module, "read_window", one_room)
    rooms = [await alice.create_room() for _ in range(3)]
    for room_id in rooms:
        await read(alice, room_id, await said(alice, room_id, "hello"))
    since, told = None, []
    for _ in range(8):
        answer = await alice.sync(since)
        since = answer["next_batch"]
        known = set(answer["rooms"]["join"])
        told += [room_id for room_id in rooms if receipts(answer, room_id)]
        assert {room_id for room_id in rooms if receipts(answer, room_id)} <= known
    assert sorted(told) == sorted(rooms)


async def test_a_receipt_ends_the_waits_of_who_is_told(
    alice: Client, bob: Client, shared: str, autojump_clock: trio.testing.MockClock
) -> None:
    event_id = await said(alice, shared, "hello")
    since = (await alice.sync())["next_batch"]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert receipts(await alice.sync(since, timeout=30_000), shared)
            assert trio.current_time() - began == 5

        nursery.start_soon(wait)
        await trio.sleep(5)
        await read(bob, shared, event_id)


async def test_the_fully_read_marker_is_account_data_and_moves_forward(alice: Client, shared: str) -> None:
    first, second = await said(alice, shared, "one"), await said(alice, shared, "two")
    since = (await alice.sync())["next_batch"]
    for event_id in (first, second, first):
        await read(alice, shared, event_id, "m.fully_read")
    section = (await alice.sync(since))["rooms"]["join"][shared]
    marker = {"type": "m.fully_read", "content": {"event_id": second}}
    assert (section["account_data"]["events"], section["ephemeral"]["events"]) == ([marker], [])


async def test_all_markers_can_be_set_at_once(alice: Client, bob: Client, shared: str) -> None:
    first, second = await said(alice, shared, "one"), await said(alice, shared, "two")
    body = {"m.fully_read": first, "m.read": second, "m.read.private": second}
    assert (await bob.call("POST", f"{room(shared)}/read_markers", body)).ok() == {}
    section = (await bob.sync())["rooms"]["join"][shared]
    assert section["account_data"]["events"][0]["content"] == {"event_id": first}
    assert section["ephemeral"]["events"][0]["content"][second].keys() == {"m.read", "m.read.private"}
    assert (await bob.call("POST", f"{room(shared)}/read_markers", {})).ok() == {}


async def test_messages_of_others_are_unread_until_they_are_read(
    alice: Client, bob: Client, shared: str
) -> None:
    async def unread() -> int:
        count: int = (await bob.sync())["rooms"]["join"][shared]["unread_notifications"]["notification_count"]
        return count

    assert await unread() == 0
    events = [await said(alice, shared, text) for text in ("one", "two", "three")]
    assert await unread() == 3
    since = (await bob.sync())["next_batch"]
    await read(bob, shared, events[1], "m.read.private")
    section = (await bob.sync(since))["rooms"]["join"][shared]
    assert section["unread_notifications"] == {"highlight_count": 0, "notification_count": 1}
    await said(bob, shared, "answer")
    assert await unread() == 0


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("m.seen", {}),
        ("m.read", {"thread_id": ""}),
        ("m.fully_read", {"thread_id": "main"}),
    ],
)
async def test_what_is_no_receipt_is_refused(alice: Client, shared: str, kind: str, body: Any) -> None:
    event_id = await said(alice, shared, "hello")
    (await alice.call("POST", path(shared, kind, event_id), body)).refused(400, "M_INVALID_PARAM")


async def test_what_one_may_not_see_cannot_be_read_and_nothing_is_marked(
    server: Server, alice: Client, shared: str
) -> None:
    event_id, other = await said(alice, shared, "hello"), await alice.create_room()
    eve = await server.user("eve")
    refusals = [
        (await eve.call("POST", path(room_id, "m.read", event_id), {})).refused(403, "M_FORBIDDEN")
        for room_id in (shared, "!no:a.example")
    ]
    markers = await eve.call("POST", f"{room(shared)}/read_markers", {"m.read": event_id})
    assert refusals[0] == refusals[1] == markers.refused(403, "M_FORBIDDEN")
    (await alice.call("POST", path(other, "m.read", event_id), {})).refused(404, "M_NOT_FOUND")
    (await alice.call("POST", path(shared, "m.read", "$no"), {})).refused(404, "M_NOT_FOUND")
    thread = await alice.call("POST", path(shared, "m.read", event_id), {"thread_id": "$no"})
    thread.refused(404, "M_NOT_FOUND")
    body = {"m.read": event_id, "m.fully_read": "$no"}
    (await alice.call("POST", f"{room(shared)}/read_markers", body)).refused(404, "M_NOT_FOUND")
    (await alice.call("POST", f"{room(shared)}/read_markers", {"m.read": 1})).refused(400, "M_BAD_JSON")
    assert receipts(await alice.sync(), shared) == []
