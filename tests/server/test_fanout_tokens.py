"""We as follower that wants fan-out requests: which hubs get tokens, for whom, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from linearized.config import ProviderConfig
from linearized.exceptions import StoreError
from linearized.mimi.fanout_requests import FanoutRegistration, verify_token
from linearized.server import fanout_tokens
from linearized.server.app import build_app
from linearized.server.fanout_authorization import token_secret
from linearized.server.fanout_tokens import RENEW_SECONDS, TOKEN_LIFETIME_MS
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.pauses import FIRST_PAUSE
from linearized.server.providers.client import DIRECTORY_PATH, FANOUT_TOKENS
from tests.room.support import ALICE, BOB, Member
from tests.server.providers import test_notify
from tests.server.providers.support import Provider, with_packages
from tests.server.support import Network, running_server

Clock = trio.testing.MockClock
PHONE, TABLET = "mimi://a.example/d/alice/PHONE", "mimi://a.example/d/alice/TABLET"
ANNA = "@anna:a.example"


@dataclass
class Hub:
    """b.example, which is to send us fan-out requests; it answers as told."""

    network: Network
    answers: list[Response] = field(default_factory=list)
    asked: list[tuple[float, str, FanoutRegistration]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network.apps["b.example"] = build_app(
            [
                Route("GET", DIRECTORY_PATH, self._directory),
                Route("POST", "/tokens/{room}", self._tokens),
            ]
        )

    async def _directory(self, _request: Request) -> Response:
        return json_response({FANOUT_TOKENS: "https://b.example/tokens/{roomId}"})

    async def _tokens(self, request: Request) -> Response:
        assert request.headers["from"] == "mimi@a.example"
        found = FanoutRegistration.decode(await request.body())
        self.asked.append((trio.current_time(), request.params["room"], found))
        return self.answers.pop(0) if self.answers else Response(status=204)

    @property
    def clients(self) -> list[list[str]]:
        return [[one.client_id for one in asked.recipient_ids] for *_, asked in self.asked]


@asynccontextmanager
async def following(
    directory: Path, hub: Hub, *, delivery: str = "fanout-request"
) -> AsyncIterator[test_notify.Hub]:
    """a.example, which wants fan-out requests of b.example, and the room there."""
    async with running_server(
        "a.example",
        directory,
        hub.network,
        providers={"b.example": ProviderConfig(delivery=delivery)},
        store_in_thread=False,
    ) as server:
        bob = Member(BOB)
        bob.create(name=b"mimi://b.example/g/clubhouse")
        bob.accept()
        alice = await with_packages(server, ALICE, "PHONE", packages=0)
        caller = Provider("c.example", hub.network)
        caller.name = "b.example"  # calls us as the hub, which answers as above
        room = test_notify.Hub(server, caller, bob, alice)
        await test_notify.with_package(room, ALICE, "PHONE", alice)
        yield room


async def test_a_hub_gets_tokens_for_the_clients_in_its_room_as_soon_as_they_are(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    hub = Hub(Network())
    async with following(tmp_path, hub) as room:
        await trio.sleep(1)
        assert hub.asked == []
        assert await room.notify(*room.adding(room.alice)) == 201
        await trio.sleep(1)
        ((_, target, given),) = hub.asked
        assert target == test_notify.URI
        assert hub.clients == [[PHONE]]
        node = room.server.node
        verify_token(
            token_secret(node.identity.key),
            given.fanout_auth_tokens[0],
            hub="b.example",
            client=PHONE,
            now_ms=node.clock() + TOKEN_LIFETIME_MS - 60_000,
        )
        await with_packages(room.server, ANNA, "PC", packages=0)
        anna = await test_notify.with_package(room, ANNA, "PC")
        assert await room.notify(*room.adding(anna)) == 201
        await trio.sleep(1)
        assert hub.clients[1:] == [[PHONE, "mimi://a.example/d/anna/PC"]]
        assert await room.notify(room.message(), room.commit()) == 201
        await trio.sleep(1)
        assert len(hub.asked) == 2


async def test_tokens_are_renewed_before_they_end_and_when_we_start(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    hub = Hub(Network())
    async with following(tmp_path, hub) as room:
        assert await room.notify(*room.adding(room.alice)) == 201
        await trio.sleep(2 * RENEW_SECONDS + 10)
        assert hub.clients == [[PHONE]] * 3
        assert hub.asked[2][0] - hub.asked[1][0] == pytest.approx(RENEW_SECONDS, abs=1)
        assert 2 * RENEW_SECONDS * 1000 < TOKEN_LIFETIME_MS
    async with running_server(
        "a.example",
        tmp_path,
        hub.network,
        providers={"b.example": ProviderConfig(delivery="fanout-request")},
        store_in_thread=False,
    ):
        await trio.sleep(1)
        assert len(hub.asked) == 4


async def test_another_hub_gets_none(tmp_path: Path, autojump_clock: Clock) -> None:
    hub = Hub(Network())
    async with following(tmp_path, hub, delivery="push") as room:
        assert await room.notify(*room.adding(room.alice)) == 201
        await trio.sleep(1)
        assert hub.asked == []


async def test_a_hub_that_is_down_or_busy_is_asked_again_after_a_pause(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    hub = Hub(Network())
    hub.answers = [
        Response(status=503),
        Response(status=429, headers=(("retry-after", "30"),)),
    ]
    async with following(tmp_path, hub) as room:
        assert await room.notify(*room.adding(room.alice)) == 201
        await trio.sleep(120)
        times = [time for time, *_ in hub.asked]
        assert len(times) == 3
        assert FIRST_PAUSE / 2 <= times[1] - times[0] <= FIRST_PAUSE * 1.5
        assert times[2] - times[1] == pytest.approx(30)


async def test_a_refused_room_is_not_asked_for_again_until_something_changes(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    hub = Hub(Network())
    hub.answers = [Response(status=403)]
    async with following(tmp_path, hub) as room:
        with structlog.testing.capture_logs() as logs:
            assert await room.notify(*room.adding(room.alice)) == 201
            await trio.sleep(600)
        assert len(hub.asked) == 1
        assert [entry["event"] for entry in logs if entry["event"].startswith("fanout")] == [
            "fanout_tokens_refused"
        ]


async def test_more_clients_than_a_request_names_are_none(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout_tokens, "MAX_RECIPIENTS", 0)
    hub = Hub(Network())
    async with following(tmp_path, hub) as room:
        assert await room.notify(*room.adding(room.alice)) == 201
        await trio.sleep(1)
        assert hub.clients == [[]]


async def test_our_own_trouble_ends_no_task(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(Network())
    async with following(tmp_path, hub) as room:
        await trio.sleep(1)
        store = room.server.node.store
        with monkeypatch.context() as broken:

            def fails(_user_id: str) -> None:
                raise StoreError("the disk is gone")

            (commit, welcome) = room.adding(room.alice)
            broken.setattr(store, "devices", fails)
            assert await room.notify(commit, welcome) == 201
            with structlog.testing.capture_logs() as logs:
                await trio.sleep(1)
            assert "fanout_tokens_broken" in [entry["event"] for entry in logs]
            assert hub.asked == []
        await trio.sleep(60)
        assert hub.clients == [[PHONE]]
