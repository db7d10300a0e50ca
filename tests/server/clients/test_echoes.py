"""Whose transaction an entry came of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from linearized.server.clients import echoes as echoes_module
from linearized.server.clients.echoes import Echoes
from tests.server.clients.rows import entry
from tests.server.clients.support import V3, Answer, Client, Server, part, room

ROOM = "!r:a.example"
CONTENT = {"body": "hello"}
TEXT = {"msgtype": "m.text", "body": "hello"}
SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"


def begin(echoes: Echoes, transaction_id: str) -> Callable[[], None]:
    return echoes.begin(
        "d", room_id=ROOM, event_type="m.room.message", content=CONTENT, transaction_id=transaction_id
    )


@dataclass(slots=True)
class Watch:
    """When things came, in seconds after it was made, by the name they were awaited under."""

    began: float = field(default_factory=trio.current_time)
    came: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    async def until(self, name: str, answer: Awaitable[Any]) -> None:
        self.answers[name] = await answer
        self.came[name] = pytest.approx(trio.current_time() - self.began)


def send(client: Client, room_id: str, *, writing: float) -> Awaitable[Answer]:
    path = f"{V3}{room(room_id)}/send/m.room.message/t1"
    return client.server.call("PUT", path, TEXT, token=client.token, writing=writing)


def test_an_entry_is_recognised_while_its_send_is_on_its_way_and_after() -> None:
    echoes, row = Echoes(), entry(ROOM, 1, content=CONTENT)
    answered = begin(echoes, "t1")
    assert echoes.transaction_of("d", row, CONTENT) == "t1"
    assert echoes.transaction_of("d", row, {"body": "other"}) is None
    assert echoes.transaction_of("other", row, CONTENT) is None
    assert echoes.transaction_of("d", entry("!other:a.example", 1), CONTENT) is None
    answered()
    assert echoes.transaction_of("d", row, CONTENT) is None
    echoes.sent("d", row.event_id, "t1")
    assert echoes.transaction_of("d", row, CONTENT) == "t1"


def test_equal_messages_on_their_way_together_end_independently() -> None:
    echoes, row = Echoes(), entry(ROOM, 1, content=CONTENT)
    begin(echoes, "t1")
    begin(echoes, "t2")()
    assert echoes.transaction_of("d", row, CONTENT) == "t1"


def test_sends_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echoes_module, "MAX_SENT", 2)
    echoes = Echoes()
    for seq in range(1, 4):
        echoes.sent("d", f"${seq}.{ROOM}", f"t{seq}")
    found = [echoes.transaction_of("d", entry(ROOM, seq), {}) for seq in range(1, 4)]
    assert found == [None, "t2", "t3"]


async def test_a_device_hears_of_what_it_sent_after_the_answer_to_its_send_and_others_at_once(
    server: Server, alice: Client, bob: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    elsewhere = await server.user("alice", "ELSEWHERE")
    since, theirs, other = [(await one.sync())["next_batch"] for one in (alice, bob, elsewhere)]
    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.until, "own", alice.sync(since, timeout=30_000))
        nursery.start_soon(watch.until, "bob's", bob.sync(theirs, timeout=30_000))
        nursery.start_soon(watch.until, "elsewhere", elsewhere.sync(other, timeout=30_000))
        await trio.sleep(5)
        nursery.start_soon(watch.until, "send", send(alice, room_id, writing=0.3))
    # The answer is written in two pieces.
    assert watch.came == {"own": 5.6, "send": 5.6, "bob's": 5, "elsewhere": 5}
    for name in ("own", "bob's", "elsewhere"):
        (told,) = watch.answers[name]["rooms"]["join"][room_id]["timeline"]["events"]
        assert told["event_id"] == watch.answers["send"].ok()["event_id"]
    assert (await alice.sync(watch.answers["own"]["next_batch"]))["rooms"]["join"] == {}


async def test_a_device_that_does_not_take_its_answer_hears_of_its_event_all_the_same(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    since = (await alice.sync())["next_batch"]
    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.until, "sync", alice.sync(since, timeout=30_000))
        await trio.sleep(5)
        nursery.start_soon(watch.until, "send", send(alice, room_id, writing=10))
    assert watch.came == {"sync": 5 + echoes_module.MAX_HOLD_SECONDS, "send": 25}


async def test_what_others_say_meanwhile_does_not_wait_for_the_answer_to_a_send(
    alice: Client, bob: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.until, "send", send(alice, room_id, writing=10))
        await trio.sleep(0.1)
        since = (await alice.sync())["next_batch"]
        began = trio.current_time()
        (await bob.send(room_id, "hello", "t2")).ok()
        (told,) = (await alice.sync(since))["rooms"]["join"][room_id]["timeline"]["events"]
    assert told["sender"] == bob.user_id
    assert "transaction_id" not in told["unsigned"]  # it is word for word what Alice is sending
    assert began - watch.began == pytest.approx(0.1 + echoes_module.MAX_HOLD_SECONDS)


async def test_sliding_sync_tells_of_what_a_device_sent_after_the_answer_to_its_send(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    body = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}
    pos = (await alice.call("POST", SLIDING, body)).ok()["pos"]
    watch = Watch()
    async with trio.open_nursery() as nursery:
        wait = alice.call("POST", SLIDING, body, {"pos": pos, "timeout": 30_000})
        nursery.start_soon(watch.until, "sync", wait)
        await trio.sleep(5)
        nursery.start_soon(watch.until, "send", send(alice, room_id, writing=0.3))
    assert watch.came == {"sync": 5.6, "send": 5.6}
    (told,) = watch.answers["sync"].ok()["rooms"][room_id]["timeline"]
    assert told["event_id"] == watch.answers["send"].ok()["event_id"]


async def test_a_send_that_is_refused_holds_nothing_back(alice: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    too_large = {"msgtype": "m.text", "body": "x" * 70_000}
    refused = await alice.call("PUT", f"{room(room_id)}/send/m.room.message/t1", too_large)
    refused.refused(413, "M_TOO_LARGE")
    (await alice.call("PUT", f"{room(room_id)}/send/m.room.message/t1", TEXT)).ok()
    answer = await alice.sync()
    (*_, told) = answer["rooms"]["join"][room_id]["timeline"]["events"]
    assert told["unsigned"]["transaction_id"] == "t1"
