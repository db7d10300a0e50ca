"""We as pull follower: when we ask, what we take, and what we do about a hub that is down or wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from linearized.config import ProviderConfig
from linearized.exceptions import StoreError
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.pauses import FIRST_PAUSE, LONGEST_PAUSE
from linearized.server.providers.client import CURSOR_HEADER, DIRECTORY_PATH, FOLLOW, ROOM_HEADER
from linearized.server.pulling import IDLE_SECONDS, MAX_CURSOR_CHARACTERS, MAX_SKIPPED
from tests.room.support import ALICE, BOB, Member
from tests.server.providers import test_notify
from tests.server.providers.support import Provider, with_packages
from tests.server.support import Network, Server, running_server

ROOM, URI = test_notify.ROOM, test_notify.URI
Clock = trio.testing.MockClock


@dataclass
class Hub:
    """b.example, from which a.example fetches: it answers as told, and then waits."""

    network: Network
    answers: list[Response] = field(default_factory=list)
    asked: list[tuple[float, str, str | None, str | None]] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    register: Callable[[], Response] = field(default=lambda: Response(status=204))
    unregister: Callable[[], Response] = field(default=lambda: Response(status=204))
    url: str | None = "https://b.example/follow"
    more: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.network.apps["b.example"] = build_app(
            [
                Route("GET", DIRECTORY_PATH, self._directory),
                Route("POST", "/follow", self._register),
                Route("GET", "/follow", self._follow),
                Route("DELETE", "/follow", self._unregister),
            ]
        )

    async def _directory(self, _request: Request) -> Response:
        return json_response({FOLLOW: self.url} if self.url is not None else {})

    async def _register(self, request: Request) -> Response:
        self._note(request)
        return self.register()

    async def _follow(self, request: Request) -> Response:
        self._note(request)
        self.skipped.append(request.query.get("skip", []))
        if self.answers:
            return self.answers.pop(0)
        self.more = trio.Event()
        with trio.move_on_after(float(request.query_one("wait") or 0)):
            await self.more.wait()
        return self.answers.pop(0) if self.answers else Response(status=204)

    async def _unregister(self, request: Request) -> Response:
        self._note(request)
        return self.unregister()

    def _note(self, request: Request) -> None:
        assert request.headers["from"] == "mimi@a.example"
        self.asked.append(
            (trio.current_time(), request.method, request.query_one("cursor"), request.query_one("wait"))
        )

    def say(self, *answers: Response) -> None:
        self.answers += answers
        self.more.set()

    @property
    def methods(self) -> list[str]:
        return [method for _, method, *_ in self.asked]

    @property
    def cursors(self) -> list[str | None]:
        return [cursor for _, method, cursor, _ in self.asked if method == "GET"]

    @property
    def times(self) -> list[float]:
        return [time - self.asked[0][0] for time, *_ in self.asked]


def given(cursor: str, *parts: bytes, room: str = URI) -> Response:
    return Response(body=b"".join(parts), headers=((ROOM_HEADER, room), (CURSOR_HEADER, cursor)))


@dataclass
class Setting:
    server: Server
    hub: Hub
    room: test_notify.Hub


@asynccontextmanager
async def pulling(
    directory: Path, network: Network | None = None, *, hub: Hub | None = None
) -> AsyncIterator[Setting]:
    """a.example, which fetches from b.example; a hub that is not given waits with everything."""
    network = network or Network()
    hub = hub or Hub(network)
    async with running_server(
        "a.example",
        directory,
        network,
        providers={"b.example": ProviderConfig(delivery="pull")},
        store_in_thread=False,
    ) as server:
        alice = await with_packages(server, ALICE, "PHONE", packages=0)
        bob = Member(BOB)
        bob.create(name=b"mimi://b.example/g/clubhouse")
        bob.accept()
        room = test_notify.Hub(server, Provider("c.example", network), bob, alice)
        await test_notify.with_package(room, ALICE, "PHONE", alice)
        yield Setting(server, hub, room)


async def settled(setting: Setting, cursor: str) -> None:
    """Wait until what came with a cursor has been taken."""
    with trio.fail_after(600):
        while setting.server.node.store.pull_cursor("b.example") != cursor:  # noqa: ASYNC110 - in mock time
            await trio.sleep(0.1)


async def test_what_is_fetched_becomes_our_copy_and_the_next_request_acknowledges_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(
            given("one", *s.room.adding(s.room.alice), s.room.message()), given("two", s.room.message())
        )
        await settled(s, "two")
        assert [entry.type for entry in s.room.log()] == ["m.room.encrypted"] * 2
        assert len(s.room.welcomes()) == 1
        await trio.sleep(1)
        assert s.hub.cursors == [None, "one", "two"]
        assert [method for _, method, *_ in s.hub.asked] == ["POST", "GET", "GET", "GET"]
        assert {wait for _, method, _, wait in s.hub.asked if method == "GET"} == {"20"}


async def test_after_a_restart_it_goes_on_with_the_stored_cursor_and_takes_nothing_twice(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    network = Network()
    async with pulling(tmp_path, network) as s:
        _, welcome = s.room.adding(s.room.alice)
        first = [welcome, s.room.message()]
        s.hub.say(given("one", *first))
        await settled(s, "one")
        log, room = s.room.log(), s.room
    hub = Hub(network)
    async with running_server(
        "a.example",
        tmp_path,
        network,
        providers={"b.example": ProviderConfig(delivery="pull")},
        store_in_thread=False,
    ) as server:
        room.server = server
        # The hub did not learn that it arrived.
        hub.say(given("two", *first, room.message()))
        await settled(Setting(server, hub, room), "two")
        assert hub.cursors[0] == "one"
        assert room.log()[:1] == log
        assert [entry.seq for entry in room.log()] == [1, 2]
        assert len(room.welcomes()) == 1


async def test_messages_for_nobody_here_are_acknowledged_too(tmp_path: Path, autojump_clock: Clock) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(given("one", s.room.message()))
        await settled(s, "one")
        assert s.server.node.rooms.row(ROOM) is None


async def test_a_hub_that_has_nothing_and_does_not_wait_is_not_asked_all_the_time(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(*[Response(status=204)] * 5)
        await trio.sleep(5.5)
        assert len(s.hub.cursors) == 6
    assert IDLE_SECONDS == 1


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
async def test_a_refusal_is_followed_by_longer_and_longer_pauses(
    tmp_path: Path, autojump_clock: Clock, status: int
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(*[Response(status=status)] * 12)
        await trio.sleep(900)
        pauses = [later - earlier for earlier, later in zip(s.hub.times, s.hub.times[1:], strict=False)][1:12]
        assert 0.5 * FIRST_PAUSE <= pauses[0] <= 1.5 * FIRST_PAUSE
        assert 0.5 * LONGEST_PAUSE <= pauses[-1] <= 1.5 * LONGEST_PAUSE
        s.hub.say(given("one", *s.room.adding(s.room.alice)))
        await settled(s, "one")


async def test_it_stays_away_as_long_as_the_hub_asks_it_to(tmp_path: Path, autojump_clock: Clock) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(Response(status=429, headers=(("retry-after", "300"),)))
        await trio.sleep(299)
        assert len(s.hub.cursors) == 1
        s.server.node.pulling.contacted("b.example")
        await trio.sleep(0.5)
        assert len(s.hub.cursors) == 1
        await trio.sleep(2)
        assert len(s.hub.cursors) == 2


async def test_it_registers_again_when_the_hub_no_longer_knows_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(Response(status=403))
        await trio.sleep(5)
        assert [method for _, method, *_ in s.hub.asked] == ["POST", "GET", "POST", "GET"]


async def test_it_asks_again_to_register_and_at_once_when_the_hub_calls(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    network = Network()
    hub = Hub(network, register=lambda: Response(status=403))
    async with pulling(tmp_path, network, hub=hub) as s:
        await trio.sleep(300)
        assert hub.cursors == []
        hub.register = lambda: Response(status=200)
        s.server.node.pulling.contacted("elsewhere.example")
        s.server.node.pulling.contacted("b.example")
        await trio.sleep(0.1)
        assert hub.cursors == [None]


async def test_a_cursor_the_hub_does_not_know_any_more_is_dropped(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(given("one", *s.room.adding(s.room.alice)))
        await settled(s, "one")
        s.hub.say(Response(status=400), given("new", s.room.message()))
        await settled(s, "new")
        await trio.sleep(1)
        assert s.hub.cursors == [None, "one", None, "new"]
        # Without a cursor a 400 is a refusal like any other.
        s.hub.say(Response(status=400), Response(status=400), Response(status=400))
        await trio.sleep(FIRST_PAUSE / 3)
        assert s.hub.cursors == [None, "one", None, "new", None]


@pytest.mark.parametrize("what", ["no cursor", "long cursor", "same cursor", "room", "no room", "garbage"])
async def test_an_answer_that_is_wrong_is_not_taken_and_not_acknowledged(
    tmp_path: Path, autojump_clock: Clock, what: str
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(given("one", *s.room.adding(s.room.alice)))
        await settled(s, "one")
        message = s.room.message()
        wrong = {
            "no cursor": Response(body=message, headers=((ROOM_HEADER, URI),)),
            "long cursor": given("x" * (MAX_CURSOR_CHARACTERS + 1), message),
            "same cursor": given("one", message),
            "room": given("two", message, room="mimi://c.example/r/clubhouse"),
            "no room": Response(body=message, headers=((CURSOR_HEADER, "two"),)),
            "garbage": given("two", message, b"\xff"),
        }[what]
        with structlog.testing.capture_logs() as lines:
            s.hub.say(wrong)
            await trio.sleep(LONGEST_PAUSE)
        # What cannot be read, or is another hub's, is that room's matter; all else is wrong with the hub.
        event = "pulled_room_put_off" if what in {"garbage", "room"} else "pull_failed"
        assert event in [line["event"] for line in lines]
        assert s.room.log() == []
        assert set(s.hub.cursors[1:]) == {"one"}
        s.hub.say(given("two", message))
        await settled(s, "two")
        assert len(s.room.log()) == 1


async def test_a_room_that_cannot_be_read_is_left_out_and_the_others_go_on(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        bad = "mimi://b.example/r/bad"
        s.hub.say(given("bad", b"\xff", room=bad), given("one", *s.room.adding(s.room.alice)))
        await settled(s, "one")
        assert s.hub.skipped[:2] == [[], [bad]]
        # The room that was left out is asked for again when its pause is over, not when the hub has news.
        await trio.sleep(10)
        assert s.hub.skipped[-1] == []
        assert s.hub.cursors[:2] == [None, None]
        # A hub that gives it all the same is wrong as a whole.
        with structlog.testing.capture_logs() as lines:
            s.hub.say(given("bad", b"\xff", room=bad), given("bad", b"\xff", room=bad))
            await trio.sleep(FIRST_PAUSE)
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
            "pulled_room_put_off",
            "pull_failed",
        ]


async def test_a_hub_of_which_too_many_rooms_cannot_be_read_is_left_alone(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        rooms = [f"mimi://b.example/r/{number}" for number in range(MAX_SKIPPED + 1)]
        with structlog.testing.capture_logs() as lines:
            s.hub.say(*(given(room, b"\xff", room=room) for room in rooms))
            await trio.sleep(FIRST_PAUSE / 3)
        events = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert events == ["pulled_room_put_off"] * MAX_SKIPPED + ["pull_failed"]


async def test_what_could_not_be_stored_is_asked_for_again(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pulling(tmp_path) as s:
        parts = s.room.adding(s.room.alice)

        async def full(_append: object) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreError("the disk is full")

        with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
            patch.setattr(type(s.server.node.store), "append", lambda _store, change: full(change))
            s.hub.say(given("one", *parts))
            await trio.sleep(LONGEST_PAUSE)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["pull_broken"]
        assert set(s.hub.cursors) == {None}
        s.hub.say(given("one", *parts))
        await settled(s, "one")


@pytest.mark.parametrize("url", [None, "https://b.example/follow?room=x", "https://b.example/{x}", "ftp://b"])
async def test_a_hub_without_a_usable_endpoint_is_not_asked(
    tmp_path: Path, autojump_clock: Clock, url: str | None
) -> None:
    network = Network()
    hub = Hub(network, url=url)
    async with pulling(tmp_path, network, hub=hub):
        await trio.sleep(LONGEST_PAUSE)
        assert hub.asked == []
        assert [entry[3] for entry in network.log] == [DIRECTORY_PATH]


async def test_a_hub_that_a_room_came_to_is_asked_after_a_restart_too_until_it_has_nothing_for_us(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    network = Network()
    hub = Hub(network)
    async with running_server("a.example", tmp_path, network, store_in_thread=False) as server:
        await server.node.pulling.begin("b.example")
        await server.node.pulling.begin("b.example")
        await trio.sleep(1)
        assert hub.methods == ["POST", "GET"]
    async with running_server("a.example", tmp_path, network, store_in_thread=False) as server:
        await trio.sleep(1)
        assert hub.methods[2:] == ["POST", "GET"]
        # The hub does not let us go, and then it does: from now on it may send what it has.
        hub.unregister = lambda: Response(status=503)
        hub.say(Response(status=410), Response(status=410))
        await trio.sleep(LONGEST_PAUSE / 60)
        assert server.node.pulling.includes("b.example")
        hub.unregister = lambda: Response(status=204)
        hub.say(Response(status=410))
        await trio.sleep(2 * LONGEST_PAUSE)
        assert hub.methods[-1] == "DELETE"
        assert not server.node.pulling.includes("b.example")
        assert server.node.store.pulled_hubs() == []


async def test_a_hub_that_no_room_came_to_is_not_asked_for_ever(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    network = Network()
    hub = Hub(network, register=lambda: Response(status=403))
    async with running_server("a.example", tmp_path, network, store_in_thread=False) as server:
        await server.node.pulling.begin("b.example")
        await trio.sleep(LONGEST_PAUSE)
        assert hub.methods == ["POST"]
        assert server.node.store.pulled_hubs() == []


async def test_a_hub_that_gave_us_a_room_is_asked_as_long_as_somebody_here_is_in_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with pulling(tmp_path) as s:
        s.hub.say(given("one", *s.room.adding(s.room.alice)))
        await settled(s, "one")
    network = s.server.network
    async with running_server("a.example", tmp_path, network, store_in_thread=False) as server:
        hub = Hub(network)
        await server.node.pulling.begin("b.example")
        hub.say(Response(status=410), Response(status=403))
        await trio.sleep(LONGEST_PAUSE)
        assert "DELETE" not in hub.methods
        assert server.node.pulling.includes("b.example")
