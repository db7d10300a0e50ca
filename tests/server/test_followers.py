"""Delivery to other providers: what is sent when, where it goes on, and where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import trio
import trio.testing

from linearized.protocol.canonical import JsonObject
from linearized.server import batches, fanout
from linearized.server import delivering as delivering_module
from linearized.server.batches import MAX_PDUS
from linearized.server.delivering import Worker
from linearized.server.outbound import OutboundError
from linearized.server.pauses import LONGEST_PAUSE
from linearized.server.welcomes import provider_address
from tests.room.support import BOB, NOW, ROOM, Member, grouped_room
from tests.server.deliveries import (
    OTHER,
    Setting,
    delivering,
    linear,
    messages,
    mimi,
    quiet,
    roles,
    welcome,
)
from tests.server.test_fanout import rows


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3") as running:
        yield running


# --- what is sent ---


async def test_linearized_matrix_servers_get_at_most_50_events_at_a_time_in_order(setting: Setting) -> None:
    await setting.room(linear())
    await setting.append(2 * MAX_PDUS + 20)
    await quiet()
    assert [len(pdus) for *_, pdus in setting.peer.sent] == [50, 50, 20]
    assert setting.cursor() == [120]


async def test_a_transaction_is_named_by_its_content(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    names: list[str] = []
    for attempt in ("one", "two"):
        async with delivering(tmp_path / attempt) as setting:
            await setting.room(linear())
            setting.peer.send_answer = OutboundError("unreachable")
            await setting.append(3)
            await trio.sleep(1)
            setting.peer.send_answer = {}
            await trio.sleep(10)
            await setting.append()
            await quiet()
            sent = [txn for _, _, txn, _ in setting.peer.sent]
            assert len(set(sent[:-1])) == 1
            assert sent[-1] != sent[0]
            names.append(sent[0])
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "answer",
    [{"failed_pdus": {"$x": {"error": "No"}}}, {"failed_pdus": ["?"]}, {"failed_pdus": None}, {"?": 1}],
)
async def test_what_a_server_refuses_or_mumbles_in_a_200_is_not_sent_again(
    setting: Setting, answer: JsonObject
) -> None:
    setting.peer.send_answer = answer
    await setting.room(linear())
    await setting.append()
    await quiet()
    assert setting.cursor() == [1]
    assert len(setting.peer.sent) == 1


async def test_an_answer_that_is_no_json_is_asked_for_again(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    setting.peer.send_answer = OutboundError("no JSON object", status=200)
    await setting.room(linear())
    await setting.append()
    await quiet()
    assert setting.cursor() == [0]
    setting.peer.send_answer = {}
    await trio.sleep(1)
    assert setting.cursor() == [1]


async def test_what_mimi_has_no_message_for_moves_the_cursor_without_a_request(setting: Setting) -> None:
    await setting.room(mimi())
    await setting.append(250)
    await quiet()
    assert setting.cursor() == [250]
    assert not setting.peer.notified


async def test_a_welcome_is_sent_once_and_then_forgotten(setting: Setting) -> None:
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    entries = rows(added)
    await setting.room(mimi())
    await setting.append_rows(entries, welcome(added, seq=len(entries)))
    await quiet()
    ((_, _, target, body),) = setting.peer.notified
    assert target == "mimi://a.example/r/clubhouse"
    assert roles(body) == ["commit", "welcome"]
    assert not setting.store.to_device(provider_address("b.example"), ROOM, after=0, limit=9)


async def test_a_linearized_matrix_server_gets_its_welcome_ahead_of_the_events(setting: Setting) -> None:
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    entries = rows(added)
    await setting.room(linear())
    await setting.append_rows(entries, welcome(added, seq=len(entries)))
    await quiet()
    ((*_, body),) = setting.peer.notified
    assert roles(body) == ["welcome"]
    assert [len(pdus) for *_, pdus in setting.peer.sent] == [len(entries)]
    assert not setting.store.to_device(provider_address("b.example"), ROOM, after=0, limit=9)


@pytest.mark.parametrize(
    ("module", "bound"), [(delivering_module, "WELCOME_PAGE"), (fanout, "MAX_NOTIFY_BYTES")]
)
async def test_more_welcomes_than_a_page_or_a_request_holds_wait_for_no_further_event(
    setting: Setting,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    bound: str,
) -> None:
    monkeypatch.setattr(module, bound, 1)
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    await setting.room(linear())
    await setting.append_rows(rows(added), *[welcome(added, seq=3) for _ in range(3)])
    await trio.sleep(1)
    assert [roles(body) for *_, body in setting.peer.notified] == [["welcome"]] * 3
    assert len(setting.peer.sent) == 1


async def test_a_welcome_that_is_not_taken_holds_up_no_event(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    await setting.room(linear())
    setting.peer.refused_rooms.add("mimi://a.example/r/clubhouse")
    await setting.append_rows(rows(added), welcome(added, seq=3))
    await quiet()
    assert setting.cursor() == [3]
    setting.peer.refused_rooms.clear()
    await trio.sleep(1)
    assert not setting.store.to_device(provider_address("b.example"), ROOM, after=0, limit=9)


# --- where it goes on and where it ends ---


async def test_a_delivery_goes_on_after_a_restart_where_it_was(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "store.sqlite3"
    async with delivering(path) as setting:
        setting.followers.start()
        await setting.room(linear())
        await setting.append(50)
        await quiet()
        setting.peer.send_answer = OutboundError("unreachable")
        await setting.append(10)
        await quiet()
    async with delivering(path) as again:
        again.followers.start()
        await quiet()
        assert [len(pdus) for *_, pdus in again.peer.sent] == [10]
        assert again.cursor() == [60]


async def test_a_follower_that_was_removed_gets_the_log_up_to_there_and_is_left_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with delivering(tmp_path / "store.sqlite3") as setting:
        await setting.room(linear())
        await setting.append(3, followers=(linear(stop_seq=2),))
        await quiet()
        assert [len(pdus) for *_, pdus in setting.peer.sent] == [2]
        assert setting.cursor() == [2]
        monkeypatch.setattr(setting.store, "entries", None)  # nothing is read for it any more
        await setting.append(5)
        setting.followers.start()
        await trio.sleep(LONGEST_PAUSE)
        assert len(setting.peer.sent) == 1


async def test_a_removal_during_a_delivery_holds(setting: Setting) -> None:
    (entry,) = messages(1)
    await setting.room(mimi())
    setting.peer.gate = trio.Event()
    await setting.append_rows([entry])
    await quiet()
    await setting.append(2, followers=(mimi(stop_seq=2),))  # the row as it was before the delivery
    setting.peer.gate.set()
    await quiet()
    assert list(map(setting.followers.progress.of, setting.store.followers(ROOM))) == [mimi(2, stop_seq=2)]
    await setting.append_rows(messages(1))
    await quiet()
    assert len(setting.peer.notified) == 1


async def test_a_provider_that_changes_its_protocol_gets_every_entry_once(setting: Setting) -> None:
    await setting.room(mimi())
    setting.peer.gate = trio.Event()
    await setting.append_rows(messages(1))
    await quiet()
    await setting.append(2, followers=(mimi(stop_seq=2), linear(2)))
    setting.peer.gate.set()
    await quiet()
    assert len(setting.peer.notified) == 1
    assert [len(pdus) for *_, pdus in setting.peer.sent] == [1]
    assert sorted(setting.cursor()) == [2, 3]


async def test_a_room_without_its_follower_is_passed_over(setting: Setting) -> None:
    await setting.room()
    Worker.changed(setting.followers._worker("b.example"), ROOM)
    await setting.append()
    await quiet()
    assert not setting.peer.sent


async def test_busy_rooms_take_turns(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(batches, "MAX_PDUS", 1)
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    setting.peer.send_answer = OutboundError("unreachable")
    await setting.append(3)
    await setting.append(1, room_id=OTHER)
    await quiet()
    setting.peer.send_answer = {}
    await trio.sleep(1)
    rooms = [pdus[0]["room_id"] for *_, pdus in setting.peer.sent[1:]]
    assert rooms in ([ROOM, OTHER, ROOM, ROOM], [OTHER, ROOM, ROOM, ROOM])
    assert (setting.cursor(), setting.cursor(OTHER)) == ([3], [1])
