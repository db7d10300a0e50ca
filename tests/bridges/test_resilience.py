"""Poison, limits, repetitions and crowds."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from bridges.matrix import aside as aside_module
from bridges.matrix import failures
from bridges.matrix.aside import SetAside
from bridges.matrix.commands import PREFIX
from bridges.matrix.content import NotBridged
from bridges.matrix.database import Database
from bridges.matrix.failures import MAX_PAUSE, RETRY_PAUSE, carried, pause_after, persist
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.media import MediaCopier
from bridges.matrix.status import bridged_rooms
from linearized.client import ApiError, DecryptedMessage, ServerUnreachable, transport
from linearized.mimi.content import MimiContent, MultiPart, PartSemantics, SinglePart
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import ALICE, AS_TOKEN, CAROL, GHOST_BOB, open_world, push_events
from tests.bridges.test_bot_commands import tell
from tests.bridges.test_import import history
from tests.bridges.test_live import body_of, by, heard, talking
from tests.client.support import drain, message


async def test_a_fault_that_one_event_brings_about_is_a_reason_without_its_text() -> None:
    async def work() -> None:
        raise ValueError("what alice said")

    reason = await carried(work)
    assert reason is not None
    assert reason.startswith("ValueError at test_resilience.py:")
    assert "alice" not in reason


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk full"), OSError("no"), NotBridged("no")])
async def test_a_machine_that_fails_and_a_decision_are_no_reasons(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await carried(work)


async def test_a_poisonous_event_is_set_aside_reported_and_skipped_in_both_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (world, room, bob):
        with monkeypatch.context() as patched:

            async def broken(*arguments: object, **more: object) -> Any:
                raise KeyError("secret words")

            patched.setattr(MediaCopier, "to_part", broken)
            content = {"msgtype": "m.file", "body": "x", "url": f"mxc://{DOMAIN}/abc"}
            poison = world.homeserver.emit(room, ALICE, "m.room.message", content)
            world.homeserver.say(room, ALICE, "after it")
            await world.settle()
        assert [body_of(item) for item in await heard(bob)] == ["after it"]
        status = await tell(world, room, CAROL, f"{PREFIX} status")
        assert "set aside: 1" in status
        assert f"{poison['event_id']}: KeyError at test_resilience.py:" in status
        assert "secret" not in status

        with monkeypatch.context() as patched:
            patched.setattr(DecryptedMessage, "content", property(lambda item: item.no_such_thing))
            await bob.send(world.room_id(), message("poison"))
            await world.settle()
        await bob.send(world.room_id(), message("good again"))
        await world.settle()
        assert [event["content"]["body"] for event in by(room, GHOST_BOB)] == ["good again"]
        (found,) = bridged_rooms(world.bridge.config)
        assert found.aside == 2


def test_only_the_newest_reasons_of_a_room_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside_module, "ASIDE_KEPT", 3)
    database = Database(":memory:")
    aside = SetAside(database)
    for number in range(5):
        aside.put("!a:hs", f"$a{number}", "why")
        aside.put("!b:hs", "$b", "why")
    assert (aside.count("!a:hs"), aside.count("!b:hs")) == (3, 1)
    assert [event_id for event_id, _ in aside.last("!a:hs", 2)] == ["$a4", "$a3"]
    database.close()


def test_a_server_that_limits_us_is_left_alone_as_long_as_it_asks() -> None:
    assert pause_after(ApiError(429, "M_LIMIT_EXCEEDED", "x", retry_after=90.0)) == 90.0
    assert pause_after(ApiError(429, "M_LIMIT_EXCEEDED", "x", retry_after=1e9)) == MAX_PAUSE
    assert pause_after(ApiError(503, "M_UNKNOWN", "x")) == RETRY_PAUSE
    assert pause_after(ServerUnreachable("x")) == RETRY_PAUSE


@pytest.mark.parametrize(
    ("headers", "body"), [({"Retry-After": "120"}, {}), ({}, {"retry_after_ms": 120_000})]
)
async def test_a_limit_is_honoured_for_every_request_to_the_homeserver(
    headers: dict[str, str], body: dict[str, int], autojump_clock: MockClock
) -> None:
    asked: list[tuple[str, float]] = []

    async def limited(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        first = path not in [known for known, _ in asked]
        asked.append((path, trio.current_time()))
        if first:
            answer = {"errcode": "M_LIMIT_EXCEEDED", "error": "slow down", **body}
            return httpx.Response(429, json=answer, headers=headers)
        return httpx.Response(200, json={"event_id": "$e", "content_uri": "mxc://a/b"})

    async def a_byte() -> AsyncIterator[bytes]:
        yield b"x"

    async with httpx.AsyncClient(transport=httpx.MockTransport(limited)) as http:
        api = HomeserverApi(f"https://{DOMAIN}", token=AS_TOKEN, http=http, user_id=ALICE)
        requests: list[Any] = [
            lambda: api.join("!r"),
            lambda: api.send("!r", "m.x", {}, txn_id="t"),
            lambda: api.set_state("!r", "m.x", "", {}),
            lambda: api.upload_stream(a_byte(), size=1, content_type="a/b"),
            lambda: api.register("ghost"),
        ]
        for request in requests:
            del asked[:]
            assert await persist(request) is None
            (_, first), (_, second) = asked
            assert second - first >= 120


async def test_transactions_again_and_in_another_order_carry_each_event_once(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        for number in range(3):
            world.homeserver.say(room, ALICE, str(number))
        events, world.homeserver.pushes = world.homeserver.pushes, []
        await push_events(world.bridge, [events[2]], txn_id="1009")
        await push_events(world.bridge, events[:2], txn_id="1008")
        await push_events(world.bridge, events, txn_id="1009")
        await push_events(world.bridge, events[:2], txn_id="1008")
        await world.settle()
        # Numbers that do not follow one another have the bridge ask for the homeserver's own order.
        assert [body_of(item) for item in await heard(bob, 3)] == ["0", "1", "2"]
        assert [item for item in await drain(bob) if isinstance(item, DecryptedMessage)] == []


async def test_a_crowd_that_joins_is_added_by_a_few_commits(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        await world.settle()
        bot = world.bridge.puppets.bot
        before = bot.device.epoch(world.room_id())
        crowd = [f"@fan{number}:{DOMAIN}" for number in range(25)]
        for user in crowd:
            world.homeserver.member(room, user, "join")
        # Somebody's new name in between is nobody's joining, and changes no order.
        world.homeserver.member(room, crowd[0], "join")
        world.homeserver.member(room, crowd[1], "leave")
        await world.settle()
        inside = {owner.user_id for owner in bot.device.members(world.room_id()).values()}
        assert inside >= {crowd[0], *crowd[2:]}
        assert crowd[1] not in inside
        # One for those who came, one for who left.
        assert bot.device.epoch(world.room_id()) - before == 2
        assert bridged_rooms(world.bridge.config)[0].aside == 0


@pytest.mark.parametrize("refusal", [False, True])
async def test_a_message_of_two_parts_is_whole_whatever_happens_between_them(
    tmp_path: Path, refusal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (world, room, bob):
        # Each ends an attempt, and the bridge begins anew.
        monkeypatch.setattr(transport, "MAX_ATTEMPTS", 1)
        monkeypatch.setattr(failures, "RETRY_PAUSE", 0.0)
        left = [2]

        def fault(when: str, request: httpx.Request) -> None:
            if when == "before" and "/send/" in request.url.path and request.url.path.endswith("-1"):
                if refusal:
                    room.forbidden.add((GHOST_BOB, "m.room.message"))
                elif left[0]:
                    left[0] -= 1
                    raise httpx.ConnectError("away")

        world.homeserver.fault = fault
        halves = tuple(
            SinglePart(content_type="text/plain;charset=utf-8", content=words) for words in (b"one", b"two")
        )
        both = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=halves)
        await bob.send(world.room_id(), MimiContent(salt=bytes(16), part=both))
        await world.settle()
        shown = [event["content"]["body"] for event in by(room, GHOST_BOB)]
        assert shown == (["one"] if refusal else ["one", "two"])
        # What was shown is known, so that an answer to it is one.
        first = by(room, GHOST_BOB)[0]["event_id"]
        reply = {"m.relates_to": {"m.in_reply_to": {"event_id": first}}}
        world.homeserver.say(room, ALICE, "yes", extra=reply)
        await world.settle()
        (item,) = await heard(bob)
        assert item.content.in_reply_to is not None
