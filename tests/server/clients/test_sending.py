"""Sending: once for each transaction ID, with the right errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from linearized.room.submissions import Reason, Rejected
from linearized.server.deciding import Overloaded
from linearized.server.outbound import OutboundError
from linearized.server.providers.client import ProviderError
from linearized.server.rooms import Rooms
from tests.server.clients.support import Client, Server, part, room, running_server


def head(server: Server, room_id: str) -> int:
    row = server.store.room(room_id)
    assert row is not None
    return row.head_seq


async def test_the_same_transaction_is_sent_once(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    first = (await alice.send(room_id, "hello", "t1")).ok()
    before = head(server, room_id)
    assert (await alice.send(room_id, "hello", "t1")).ok() == first
    assert head(server, room_id) == before
    assert (await alice.send(room_id, "hello", "t2")).ok() != first


async def test_a_transaction_id_belongs_to_its_device_room_and_type(server: Server, alice: Client) -> None:
    room_id, other = await alice.create_room(), await alice.create_room()
    tablet = await server.user("alice", "TABLET")
    events = {
        (await alice.send(room_id, "x", "t")).ok()["event_id"],
        (await alice.send(other, "x", "t")).ok()["event_id"],
        (await tablet.send(room_id, "x", "t")).ok()["event_id"],
        (await alice.call("PUT", f"{room(room_id)}/send/m.other/t", {})).ok()["event_id"],
    }
    assert len(events) == 4


async def test_a_repetition_while_the_first_is_on_its_way_is_the_first(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    before = head(server, room_id)
    answers: list[str] = []

    async def send() -> None:
        answers.append((await alice.send(room_id, "hello", "t1")).ok()["event_id"])

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(send)
    assert len(set(answers)) == 1
    assert head(server, room_id) == before + 1


async def test_a_repetition_after_a_restart_is_the_first(
    server: Server, alice: Client, tmp_path: Path
) -> None:
    room_id = await alice.create_room()
    first = (await alice.send(room_id, "hello", "t1")).ok()
    await server.store.aclose()
    async with running_server(tmp_path) as again:
        same = Client(again, alice.user_id, alice.token, alice.device_id)
        assert (await same.send(room_id, "hello", "t1")).ok() == first


async def test_what_is_refused_can_be_sent_again(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await alice.create_room()

    async def refuse(*_: object, **__: object) -> str:
        raise Rejected(Reason.FORBIDDEN, "not now")

    with monkeypatch.context() as patch:
        patch.setattr(Rooms, "send", refuse)
        (await alice.send(room_id, "hello", "t1")).refused(403, "M_FORBIDDEN")
    (await alice.send(room_id, "hello", "t1")).ok()


@pytest.mark.parametrize(
    ("error", "status", "errcode"),
    [
        (Rejected(Reason.TOO_LARGE, "x"), 413, "M_TOO_LARGE"),
        (Rejected(Reason.MALFORMED, "x"), 400, "M_BAD_JSON"),
        (Rejected(Reason.WRONG_HUB, "x"), 400, "M_WRONG_SERVER"),
        (Rejected(Reason.UNKNOWN_ROOM, "x"), 404, "M_NOT_FOUND"),
        (Overloaded("x"), 429, "M_LIMIT_EXCEEDED"),
        (OutboundError("no", status=403, errcode="M_FORBIDDEN"), 403, "M_FORBIDDEN"),
        (OutboundError("no", status=401, errcode="M_UNKNOWN_TOKEN"), 502, "M_UNKNOWN"),
        (OutboundError("gone"), 502, "M_UNKNOWN"),
        (ProviderError("gone"), 502, "M_UNKNOWN"),
        (trio.TooSlowError(), 504, "M_UNKNOWN"),
    ],
)
async def test_every_failure_has_its_answer(
    alice: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, errcode: str
) -> None:
    room_id = await alice.create_room()

    async def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(Rooms, "send", fail)
    body = (await alice.send(room_id, "hello", "t1")).refused(status, errcode)
    if status == 429:
        assert body["retry_after_ms"] > 0


async def test_a_wrong_epoch_is_a_conflict_that_names_the_current_one(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_id = await alice.create_room()

    async def refuse(*_: object, **__: object) -> str:
        raise Rejected(Reason.WRONG_EPOCH, "too late", current_epoch=7)

    monkeypatch.setattr(Rooms, "send", refuse)
    assert (await alice.send(room_id, "x", "t")).refused(409, "M_WRONG_EPOCH")["current_epoch"] == 7


async def test_nobody_sends_into_a_room_they_are_not_in(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.send(room_id, "hello", "t1")).refused(403, "M_FORBIDDEN")
    (await bob.send("!nothing:a.example", "hello", "t1")).refused(403, "M_FORBIDDEN")
    stranger = f"{room('!nothing:a.example')}/state/m.room.name"
    (await bob.call("PUT", stranger, {"name": "x"})).refused(403, "M_FORBIDDEN")


async def test_the_rules_decide_about_state(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"{room(room_id)}/join", {})).ok()
    (await bob.call("PUT", f"{room(room_id)}/state/m.room.name", {"name": "Bob's"})).refused(
        403, "M_FORBIDDEN"
    )
    for path in ("m.room.name", "m.room.name/", f"dev.test/{part('a/b')}"):
        (await alice.call("PUT", f"{room(room_id)}/state/{path}", {"name": "x"})).ok()
    assert (await alice.call("GET", f"{room(room_id)}/state/dev.test/{part('a/b')}")).ok() == {"name": "x"}


async def test_an_event_that_is_too_large_is_refused(alice: Client) -> None:
    room_id = await alice.create_room()
    (await alice.send(room_id, "x" * 70_000, "t1")).refused(413, "M_TOO_LARGE")


async def test_a_transaction_id_has_its_limit(alice: Client) -> None:
    room_id = await alice.create_room()
    (await alice.send(room_id, "x", "t" * 256)).refused(400, "M_INVALID_PARAM")


async def test_content_has_to_be_an_object_of_what_canonical_json_has(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    path = f"/_matrix/client/v3{room(room_id)}/send/m.room.message/t"
    for raw, errcode in ((b"{", "M_NOT_JSON"), (b"[]", "M_BAD_JSON"), (b'{"n":1.5}', "M_BAD_JSON")):
        (await server.call("PUT", path, raw=raw, token=alice.token)).refused(400, errcode)


async def test_only_a_bridge_sets_the_time(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    event_id = (await alice.send(room_id, "x", "t1", ts=5)).ok()["event_id"]
    event = (await alice.call("GET", f"{room(room_id)}/event/{part(event_id)}")).ok()
    assert event["origin_server_ts"] == server.clock.now
    bot = server.bridge()
    theirs = await bot.create_room()
    event_id = (await bot.send(theirs, "x", "t1", ts=5)).ok()["event_id"]
    assert (await bot.call("GET", f"{room(theirs)}/event/{part(event_id)}")).ok()["origin_server_ts"] == 5
    (await bot.send(theirs, "x", "t2", ts="soon")).refused(400, "M_INVALID_PARAM")


async def test_a_bridge_says_that_somebody_knocks_who_never_was_in_the_room(
    server: Server, alice: Client
) -> None:
    room_id = await alice.create_room(room_version="dev.linearized.1")
    (await alice.call("PUT", f"{room(room_id)}/state/m.room.join_rules", {"join_rule": "knock"})).ok()
    dan, knock = server.bridge("@dan:matrix.example"), {"membership": "knock", "reason": "it is me"}
    state = f"{room(room_id)}/state"
    dans = f"{state}/m.room.member/{part(dan.user_id)}"
    (await dan.call("PUT", dans, {"membership": "join"})).refused(403, "M_FORBIDDEN")
    (await dan.call("PUT", f"{state}/m.room.topic", {"topic": "x"})).refused(403, "M_FORBIDDEN")
    (await dan.call("PUT", f"{state}/m.room.member/@eve:matrix.example", knock)).refused(403, "M_FORBIDDEN")
    nowhere = f"{room('!nothing:a.example')}/state/m.room.member/{part(dan.user_id)}"
    (await dan.call("PUT", nowhere, knock)).refused(404, "M_NOT_FOUND")
    (await dan.call("PUT", dans, knock)).ok()
    assert (await alice.call("GET", dans)).ok() == knock


async def test_the_sending_device_and_no_other_is_told_its_transaction_id(
    server: Server, alice: Client, bob: Client
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    tablet = await server.user("alice", "TABLET")
    event_id = (await alice.send(room_id, "hello", "t1")).ok()["event_id"]

    async def told(client: Client) -> str | None:
        event = (await client.call("GET", f"{room(room_id)}/event/{part(event_id)}")).ok()
        found: str | None = event["unsigned"].get("transaction_id")
        return found

    assert [await told(client) for client in (alice, tablet, bob)] == ["t1", None, None]
