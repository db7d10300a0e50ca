"""The hub's actors: batches, failures, limits, and what a submitter may rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import openmls
import pytest
import structlog
import trio
import trio.testing

from linearized.exceptions import StoreError
from linearized.room.room import Room
from linearized.room.submissions import Accepted, LocalEvent, Reason, Rejected
from linearized.server import deciding
from linearized.server.deciding import IDLE_SECONDS, Overloaded, Repeated
from linearized.server.errors import as_http_error
from linearized.server.hub import SUBMIT_SECONDS, Hub
from linearized.server.ordered_rooms import Appended, OrderedRooms
from linearized.store.base import Reply, Role, RoomAppend, RoomRow, Store
from linearized.store.sqlite import SqliteStore
from tests.room.support import ALICE, MLS, NOW, ROOM, A, member, state_event

SECRET = "what nobody may log"


class GatedStore:
    """A store whose appends can be held up and made to fail; it records what was appended."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.appends: list[RoomAppend] = []
        self.failure: Exception | None = None
        self.gate: trio.Event | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, append: RoomAppend) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await self._store.append(append)
        self.appends.append(append)


class Setting:
    """A hub with one room of Alice's."""

    def __init__(self, hub: Hub, store: GatedStore, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.store = store
        self.nursery = nursery
        self.results: dict[str, Accepted | Exception] = {}

    async def say(self, body: str, **options: Any) -> None:
        try:
            self.results[body] = await self.hub.submit(ROOM, message(body), **options)
        except (Rejected, StoreError, Overloaded, KeyError, trio.TooSlowError) as error:
            self.results[body] = error

    async def hold(self, *bodies: str) -> None:
        """Let these wait for an append that is under way."""
        self.store.gate = trio.Event()
        for body in bodies:
            self.nursery.start_soon(self.say, body)
            await trio.testing.wait_all_tasks_blocked()

    def let_go(self) -> None:
        assert self.store.gate is not None
        self.store.gate.set()
        self.store.gate = None

    def log(self) -> list[str]:
        entries = self.store.entries(ROOM, after=0, limit=1000)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        return [entry.event_id for entry in entries]


def message(body: str, sender: str = ALICE) -> LocalEvent:
    return LocalEvent(sender=sender, type="m.room.message", content={"body": body})


def create(version: str = "I.1") -> list[LocalEvent | Any]:
    return [state_event(ALICE, "m.room.create", {"room_version": version}), member(ALICE, "join")]


@asynccontextmanager
async def running_hub(path: Path, *, appended: Appended = lambda *_: None) -> AsyncIterator[Setting]:
    store = GatedStore(SqliteStore.open(path, synchronous="OFF", in_thread=False))
    async with trio.open_nursery() as writing:
        await writing.start(store.run)
        async with trio.open_nursery() as nursery:
            rooms = OrderedRooms(
                identity=A,
                store=cast("Store", store),
                mls=MLS,
                signer=openmls.SignatureKeyPair.generate(),
                vouched=frozenset(),
                appended=appended,
            )
            hub = Hub(rooms, clock=lambda: NOW, nursery=nursery)
            await hub.create(ROOM, "I.1", create())
            store.appends.clear()
            yield Setting(hub, store, nursery)
            nursery.cancel_scope.cancel()
        writing.cancel_scope.cancel()
    await store.aclose()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with running_hub(tmp_path / "store.sqlite3") as running:
        yield running


async def test_what_waits_while_an_append_is_written_becomes_one_append(setting: Setting) -> None:
    await setting.hold("first", "second", "third", "fourth")
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert [len(append.entries) for append in setting.store.appends] == [1, 3]
    accepted = [cast("Accepted", setting.results[body]) for body in ("first", "second", "third", "fourth")]
    assert [one.event_id for one in accepted] == setting.log()[2:]


async def test_a_batch_has_a_largest_size(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_BATCH", 2)
    await setting.hold(*"abcdef")
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert [len(append.entries) for append in setting.store.appends] == [1, 2, 2, 1]


async def test_a_refused_submission_does_not_disturb_its_neighbours(setting: Setting) -> None:
    await setting.hold("first", "before")
    three = [(message("one"), None), (message("?", "@mallory:a.example"), None), (message("three"), None)]
    outcomes: list[Accepted | Rejected | Repeated] = []

    async def submit_all() -> None:
        outcomes.extend(await setting.hub.submit_all(ROOM, three))

    setting.nursery.start_soon(submit_all)
    await trio.testing.wait_all_tasks_blocked()
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert [len(append.entries) for append in setting.store.appends] == [1, 3]
    one, refused, three_ = outcomes
    assert isinstance(refused, Rejected)
    assert refused.code is Reason.FORBIDDEN
    assert isinstance(one, Accepted)
    assert isinstance(three_, Accepted)
    assert setting.log()[4:] == [one.event_id, three_.event_id]


async def test_a_submission_that_breaks_the_room_costs_no_neighbour(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Room.submit

    def submit(room: Room, submission: Any, *, now: int) -> Accepted:
        accepted = real(room, submission, now=now)
        if submission.content.get("body") == "bug":  # the room has taken it, and then something breaks
            raise KeyError("bug")
        return accepted

    monkeypatch.setattr(Room, "submit", submit)
    await setting.hold("first", "before", "bug", "after")
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(setting.results["bug"], KeyError)
    kept = [setting.results[body] for body in ("first", "before", "after")]
    assert [one.event_id for one in kept if isinstance(one, Accepted)] == setting.log()[2:]
    await setting.say("later")
    assert len(setting.log()) == 6


async def test_a_failing_append_fails_everybody_in_it_and_nothing_after(setting: Setting) -> None:
    await setting.say("first")
    setting.store.failure = StoreError("the disk is full")
    await setting.hold("lost", "lost too", "lost as well")
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    lost = [setting.results[body] for body in ("lost", "lost too", "lost as well")]
    assert all(isinstance(error, StoreError) for error in lost)
    assert len({id(error) for error in lost}) == 3
    setting.store.failure = None
    await setting.say("again")
    assert cast("Accepted", setting.results["again"]).entries[0].seq == 4
    assert setting.store.room(ROOM).head_seq == 4


async def test_a_refusal_that_rests_on_an_unstored_neighbour_is_not_given_as_one(setting: Setting) -> None:
    results: list[type[Exception]] = []

    async def submit(event: LocalEvent) -> None:
        try:
            await setting.hub.submit(ROOM, event)
        except (Rejected, StoreError) as error:
            results.append(type(error))

    await setting.hold("first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, member(ALICE, "leave"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(submit, message("gone"))
        await trio.testing.wait_all_tasks_blocked()
        setting.let_go()
        setting.store.failure = StoreError("the disk is full")
    assert results == [StoreError, StoreError]


async def test_a_full_queue_refuses_at_once_and_asks_to_come_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "MAX_WAITING", 2)
    await setting.hold("writing", "one", "two")
    with pytest.raises(Overloaded) as overloaded:
        await setting.hub.submit(ROOM, message("three"))
    face = as_http_error(overloaded.value)
    assert face is not None
    assert (face.status, face.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert face.extra["retry_after_ms"]
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert len(setting.log()) == 5


async def test_a_caller_waits_no_longer_than_it_has_to_and_the_log_shows_what_became_of_it(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.hold()
    with pytest.raises(trio.TooSlowError) as slow:
        await setting.hub.submit(ROOM, message("late"))
    assert trio.current_time() >= SUBMIT_SECONDS
    face = as_http_error(slow.value)
    assert face is not None
    assert face.status == 504
    setting.let_go()
    await trio.testing.wait_all_tasks_blocked()
    assert len(setting.log()) == 3


async def test_an_idle_actor_gives_its_memory_back_and_comes_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    loads: list[str] = []
    real = OrderedRooms.load

    def load(rooms: OrderedRooms, room_id: str) -> Room:
        loads.append(room_id)
        return real(rooms, room_id)

    monkeypatch.setattr(OrderedRooms, "load", load)
    await setting.say("one")
    await setting.say("two")
    assert loads == [ROOM]
    await trio.sleep(IDLE_SECONDS + 1)
    assert not setting.nursery.child_tasks
    await setting.say("three")
    assert loads == [ROOM, ROOM]
    assert len(setting.log()) == 5


async def test_a_batch_being_written_when_the_server_stops_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    async with trio.open_nursery() as callers, running_hub(path) as setting:
        setting.store.gate = trio.Event()
        callers.start_soon(setting.say, "written")
        await trio.testing.wait_all_tasks_blocked()
        callers.start_soon(setting.say, "waiting")
        await trio.testing.wait_all_tasks_blocked()
        setting.nursery.cancel_scope.cancel()
        setting.store.gate.set()
    assert isinstance(setting.results["written"], Accepted)
    assert isinstance(setting.results["waiting"], StoreError)
    store = SqliteStore.open_readonly(path)
    stored = store.entries(ROOM, after=2, limit=10)
    assert [entry.event_id for entry in stored] == [setting.results["written"].event_id]
    await store.aclose()


async def test_replies_are_stored_with_their_entries_or_not_at_all(setting: Setting) -> None:
    remember = Reply(scope="txn", key="1", value="{event_id}")
    setting.store.failure = StoreError("the disk is full")
    await setting.say("lost", reply=remember)
    assert setting.store.reply("txn", "1") is None
    setting.store.failure = None
    await setting.say("kept", reply=remember)
    assert setting.store.reply("txn", "1") == cast("Accepted", setting.results["kept"]).event_id
    (append,) = setting.store.appends
    assert (len(append.entries), len(append.replies)) == (1, 1)


async def test_what_is_submitted_again_is_appended_once_however_soon(setting: Setting) -> None:
    reply = Reply(scope="txn", key="1", value="{event_id}")
    outcomes = await setting.hub.submit_all(ROOM, [(message("once"), reply), (message("once"), reply)])
    first, second = outcomes
    assert isinstance(first, Accepted)
    assert isinstance(second, Repeated)
    assert second.value == first.event_id
    with pytest.raises(Repeated) as repeated:
        await setting.hub.submit(ROOM, message("once"), reply=reply)
    assert repeated.value.value == first.event_id
    assert len(setting.log()) == 3


async def test_a_repetition_of_what_could_not_be_stored_is_not_acknowledged(setting: Setting) -> None:
    reply = Reply(scope="txn", key="1", value="{event_id}")
    setting.store.failure = StoreError("the disk is full")
    with pytest.raises(StoreError):
        await setting.hub.submit_all(ROOM, [(message("once"), reply), (message("once"), reply)])
    setting.store.failure = None
    assert isinstance(await setting.hub.submit(ROOM, message("once"), reply=reply), Accepted)


@pytest.mark.parametrize(
    "event",
    [
        message(SECRET, "@mallory:a.example"),
        LocalEvent(sender=ALICE, type="m.room.message", content={"body": SECRET * 4000}),
        LocalEvent(sender=ALICE, type="m.room.message", content={"body": SECRET, "n": 2**60}),
        LocalEvent(sender="not a user", type="m.room.message", content={"body": SECRET}),
        LocalEvent(sender=ALICE, type="m.room.member", state_key=ALICE, content={"membership": SECRET}),
        LocalEvent(sender=ALICE, type="m.room.power_levels", state_key="", content={"ban": SECRET}),
    ],
    ids=["stranger", "too large", "too large a number", "no user", "no membership", "no power level"],
)
async def test_a_refusal_is_one_log_line_with_its_reason_and_nothing_of_the_content(
    setting: Setting, event: LocalEvent
) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(Rejected) as refused:
        await setting.hub.submit(ROOM, event)
    (line,) = [line for line in lines if line["event"] == "submission_rejected"]
    assert line["code"] == refused.value.code.value
    assert line["reason"]
    assert line["room_id"] == ROOM
    assert SECRET not in str(lines)


async def test_who_cannot_be_woken_costs_nobody_an_answer(tmp_path: Path) -> None:
    def appended(*_: object) -> None:
        raise RuntimeError("a follower is beside itself")

    async with running_hub(tmp_path / "store.sqlite3", appended=appended) as setting:
        await setting.say("stored")
        await setting.say("stored too")
        assert len(setting.log()) == 4


async def test_a_room_is_created_whole_or_not_at_all(setting: Setting) -> None:
    other = "!other:a.example"
    with pytest.raises(Rejected):
        await setting.hub.create(other, "I.1", [*create(), message("stranger", "@mallory:a.example")])
    assert setting.store.room(other) is None
    await setting.hub.create(other, "I.1", [*create(), message("welcome")])
    assert setting.store.room(other).head_seq == 3
    with pytest.raises(Rejected) as refused:
        await setting.hub.create(other, "I.1", create())
    assert refused.value.code is Reason.FORBIDDEN


async def test_only_rooms_this_server_orders_are_decided_here(setting: Setting) -> None:
    with pytest.raises(Rejected) as refused:
        await setting.hub.submit("!unknown:a.example", message("?"))
    assert refused.value.code is Reason.UNKNOWN_ROOM
    elsewhere = "!elsewhere:b.example"
    row = RoomRow(
        room_id=elsewhere, version="I.1", role=Role.PARTICIPANT, hub="b.example", head_seq=0, epoch=None
    )
    await setting.store.append(RoomAppend(room_id=elsewhere, room=row))
    with pytest.raises(Rejected) as refused:
        await setting.hub.submit(elsewhere, message("?"))
    assert refused.value.code is Reason.WRONG_HUB
    with pytest.raises(StoreError):
        setting.hub.load("!unknown:a.example")


# --- pauses ---


async def test_a_pause_begins_when_what_waited_has_been_decided_and_nothing_new_is_taken(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running_hub(tmp_path / "store.sqlite3") as setting:
        await setting.hold("one", "two")
        begun, ended = trio.Event(), trio.Event()

        async def pause() -> None:
            async with setting.hub.paused(ROOM):
                begun.set()
                await ended.wait()

        setting.nursery.start_soon(pause)
        await trio.testing.wait_all_tasks_blocked()
        await setting.say("too late")
        assert isinstance(setting.results["too late"], Overloaded)
        assert not begun.is_set()
        setting.let_go()
        await begun.wait()
        assert isinstance(setting.results["one"], Accepted)
        assert isinstance(setting.results["two"], Accepted)
        with pytest.raises(Overloaded):
            async with setting.hub.paused(ROOM):
                pass
        ended.set()
        await trio.testing.wait_all_tasks_blocked()
        await setting.say("afterwards")
        assert isinstance(setting.results["afterwards"], Accepted)


async def test_a_pause_of_a_room_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "store.sqlite3") as setting:
        with pytest.raises(Rejected):
            async with setting.hub.paused("!unknown:a.example"):
                pass
