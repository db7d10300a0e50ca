"""Delivery to other providers: what is sent when, what a failure costs whom, and where it goes on."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import orjson
import pytest
import trio
import trio.testing

from linearized.exceptions import StoreError
from linearized.mimi.messages import decode_fanout_stream, message_role
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import Accepted
from linearized.server import batches, fanout
from linearized.server import delivering as delivering_module
from linearized.server.batches import MAX_PDUS
from linearized.server.cursors import LINEARIZED, MIMI
from linearized.server.delivering import Worker
from linearized.server.followers import Followers
from linearized.server.outbound import FederationClient, OutboundError
from linearized.server.pauses import LONGEST_ASKED_PAUSE, LONGEST_PAUSE
from linearized.server.providers.client import Answer, ProviderClient, ProviderError
from linearized.server.pull_followers import PullFollowers
from linearized.server.welcomes import PROVIDER_TYPE, provider_address
from linearized.store.base import EntryRow, FollowerRow, NewToDevice, Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore
from tests.room.support import BOB, NOW, ROOM, A, Member, grouped_room
from tests.server.test_fanout import rows

OTHER = "!other:a.example"


class Peer:
    """The other providers: records what they are sent, when, and answers as told."""

    def __init__(self) -> None:
        self.notified: list[tuple[float, str, str, bytes]] = []
        self.sent: list[tuple[float, str, str, list[JsonObject]]] = []
        self.answers: list[Answer | Exception] = []
        self.refused_rooms: set[str] = set()
        self.send_answer: JsonObject | Exception = {"failed_pdus": {}}
        self.gate: trio.Event | None = None

    async def post(
        self, provider: str, endpoint: str, target: str, body: bytes, *, in_turn: bool = False
    ) -> Answer:
        assert in_turn
        assert endpoint == "notify"
        self.notified.append((trio.current_time(), provider, target, body))
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if target in self.refused_rooms:
            return Answer(403, b"")
        answer = self.answers.pop(0) if self.answers else Answer(201, b"")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def transaction(self, server: str, path: str, body: bytes) -> JsonObject:
        self.sent.append((trio.current_time(), server, path.rpartition("/")[2], orjson.loads(body)["pdus"]))
        await trio.lowlevel.checkpoint()
        if isinstance(self.send_answer, Exception):
            raise self.send_answer
        return self.send_answer

    @property
    def times(self) -> list[float]:
        return [time for time, *_ in self.notified]


class Setting:
    def __init__(self, store: SqliteStore, peer: Peer, followers: Followers) -> None:
        self.store = store
        self.peer = peer
        self.followers = followers
        self._seq: dict[str, int] = {}

    async def room(self, *follower: FollowerRow, room_id: str = ROOM) -> None:
        row = RoomRow(room_id=room_id, version="I.1", role=Role.HUB, hub="a.example", head_seq=0, epoch=None)
        await self.store.append(RoomAppend(room_id=room_id, room=row, followers=follower))

    async def append(self, count: int = 1, *, room_id: str = ROOM, **more: Any) -> None:
        """Entries that MIMI has no message for; wakes the followers."""
        first = self._seq.get(room_id, 0) + 1
        self._seq[room_id] = first + count - 1
        entries = tuple(plain(seq, room_id) for seq in range(first, first + count))
        await self.store.append(RoomAppend(room_id=room_id, entries=entries, **more))
        self.followers.room_changed(room_id)

    async def append_rows(self, entries: list[EntryRow], *welcomes: NewToDevice) -> None:
        first = self._seq.get(ROOM, 0) + 1
        renumbered = tuple(replace(entry, seq=seq) for seq, entry in enumerate(entries, first))
        self._seq[ROOM] = renumbered[-1].seq
        await self.store.append(RoomAppend(room_id=ROOM, entries=renumbered, to_device=welcomes))
        self.followers.room_changed(ROOM)

    def cursor(self, room_id: str = ROOM) -> list[int]:
        return [self.followers.progress.of(row).cursor for row in self.store.followers(room_id)]


def plain(seq: int, room_id: str) -> EntryRow:
    return EntryRow(
        room_id=room_id,
        seq=seq,
        event_id=f"${room_id}{seq}",
        type="m.room.message",
        state_key=None,
        sender="@alice:a.example",
        origin_server_ts=0,
        epoch=None,
        pdu=orjson.dumps({"room_id": room_id, "content": {}}),
    )


def mimi(cursor: int = 0, room_id: str = ROOM, **more: Any) -> FollowerRow:
    return FollowerRow(room_id=room_id, provider="b.example", protocol=MIMI, cursor=cursor, **more)


def linear(cursor: int = 0, room_id: str = ROOM, **more: Any) -> FollowerRow:
    return FollowerRow(room_id=room_id, provider="b.example", protocol=LINEARIZED, cursor=cursor, **more)


@asynccontextmanager
async def delivering(path: Path, peer: Peer | None = None, *, jitter: float = 0.5) -> AsyncIterator[Setting]:
    """A store and its followers; jitter 0.5 makes pauses exactly as long as they are called."""
    peer = peer or Peer()
    store = SqliteStore.open(path, synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as writing:
        await writing.start(store.run)
        async with trio.open_nursery() as nursery:
            followers = Followers(
                own_name="a.example",
                store=store,
                providers=cast("ProviderClient", peer),
                federation=cast("FederationClient", peer),
                nursery=nursery,
                pulls=PullFollowers(store=store, key=A.key),
                jitter=lambda: jitter,
            )
            yield Setting(store, peer, followers)
            nursery.cancel_scope.cancel()
        writing.cancel_scope.cancel()
    await store.aclose()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3") as running:
        yield running


def messages(count: int) -> list[EntryRow]:
    bob = Member(BOB)
    room, _, _ = grouped_room(bob)
    return rows(*(room.submit(bob.message(), now=NOW) for _ in range(count)))


def welcome(accepted: Accepted, seq: int) -> NewToDevice:
    (effect,) = accepted.welcomes
    content = {
        "welcome": encode_base64(effect.welcome),
        "ratchet_tree": encode_base64(effect.ratchet_tree),
        "timestamp": NOW,
        "seq": seq,
    }
    return NewToDevice(
        user_id=provider_address("b.example"),
        device_id=ROOM,
        type=PROVIDER_TYPE,
        sender="@alice:a.example",
        content=orjson.dumps(content),
    )


def roles(body: bytes) -> list[str]:
    return [message_role(message.message) for message in decode_fanout_stream(body)]


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


# --- pauses ---


async def test_pauses_double_up_to_a_longest_and_start_over_after_a_success(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    (entry,) = messages(1)
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(10)]
    await setting.append_rows([entry])
    await trio.sleep(500)
    times = setting.peer.times
    assert len(times) == 11
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE])
    assert setting.cursor() == [1]
    setting.peer.answers = [ProviderError("down again")]
    await setting.append_rows(messages(1))
    await trio.sleep(10)
    assert setting.peer.times[-1] - setting.peer.times[-2] == pytest.approx(0.5)


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0.25), (0.999, 0.7495)])
async def test_pauses_are_spread(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, jitter: float, wait: float
) -> None:
    async with delivering(tmp_path / "store.sqlite3", jitter=jitter) as setting:
        await setting.room(mimi())
        setting.peer.answers = [ProviderError("down")]
        await setting.append_rows(messages(1))
        await trio.sleep(10)
        first, second = setting.peer.times
        assert second - first == pytest.approx(wait)


@pytest.mark.parametrize(("asked", "wait"), [(7.0, 7.0), (1e9, LONGEST_ASKED_PAUSE)])
async def test_a_pause_that_was_asked_for_is_kept_whoever_calls(
    setting: Setting, autojump_clock: trio.testing.MockClock, asked: float, wait: float
) -> None:
    await setting.room(mimi())
    setting.peer.answers = [Answer(429, b"", retry_after_s=asked)]
    await setting.append_rows(messages(1))
    await trio.sleep(1)
    setting.followers.contacted("b.example")
    await setting.append()
    await trio.sleep(2 * LONGEST_ASKED_PAUSE)
    first, second = setting.peer.times[:2]
    assert second - first == pytest.approx(wait)
    assert setting.cursor() == [2]


async def test_a_provider_that_calls_is_back(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(9)]
    await setting.append_rows(messages(1))
    await trio.sleep(130)
    assert len(setting.peer.times) == 9
    now = trio.current_time()
    setting.followers.contacted("b.example")
    setting.followers.contacted("nobody.example")
    await quiet()
    assert setting.peer.times[9:] == [now]
    assert setting.cursor() == [1]


async def test_something_new_ends_no_pause(setting: Setting, autojump_clock: trio.testing.MockClock) -> None:
    await setting.room(mimi())
    setting.peer.answers = [ProviderError("down") for _ in range(4)]
    await setting.append_rows(messages(1))
    await trio.sleep(3.6)
    assert len(setting.peer.times) == 4
    for _ in range(3):
        await setting.append()
        await quiet()
    assert len(setting.peer.times) == 4
    await trio.sleep(4)
    assert setting.cursor() == [4]


async def test_a_room_that_is_refused_holds_up_no_other(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(mimi())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    setting.peer.refused_rooms.add("mimi://a.example/r/clubhouse")
    await setting.append_rows(messages(1))
    await quiet()
    await setting.append_rows(messages(1))  # still refused: not tried again for that
    await setting.append(room_id=OTHER)
    await quiet()
    assert (len(setting.peer.notified), len(setting.peer.sent)) == (1, 1)
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    await trio.sleep(0.5)
    await quiet()
    assert len(setting.peer.notified) == 2
    setting.followers.contacted("b.example")
    await quiet()
    assert len(setting.peer.notified) == 3
    setting.peer.refused_rooms.clear()
    await trio.sleep(100)
    assert setting.cursor() == [2]


async def test_an_outage_is_met_once_not_once_for_each_room(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    setting.peer.send_answer = OutboundError("unreachable")
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert len(setting.peer.sent) == 1
    setting.peer.send_answer = {}
    await trio.sleep(1)
    assert (setting.cursor(), setting.cursor(OTHER)) == ([1], [1])


async def test_our_own_trouble_ends_no_worker(
    setting: Setting, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.room(linear())
    await setting.room(linear(room_id=OTHER), room_id=OTHER)
    real, broken = setting.store.cursors, True

    def cursors(room_id: str, provider: str) -> list[FollowerRow]:
        if room_id == ROOM and broken:
            raise StoreError("the disk is broken")
        return real(room_id, provider)

    monkeypatch.setattr(setting.store, "cursors", cursors)
    await setting.append()
    await setting.append(room_id=OTHER)
    await quiet()
    assert (setting.cursor(), setting.cursor(OTHER)) == ([0], [1])
    broken = False
    await trio.sleep(1)
    assert setting.cursor() == [1]


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
