"""Joining by a code at a room that has moved: its ID names a hub that it has no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import openmls
import orjson
import pytest
import trio

from linearized.client import ApiError, JoinRefused, Session, tidying
from linearized.client.group_requests import group_info_request
from linearized.client.own_groups.looking import CIPHERSUITE
from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import membership
from linearized.server import hub_chain, run
from linearized.server.app import build_app
from linearized.server.buckets import Buckets
from linearized.server.exchange import wrong_server
from linearized.server.http import HttpError, Request, Response, Route, json_response
from linearized.server.joining_by_code import MAX_VIA
from linearized.server.providers import PREFIX
from linearized.server.providers.client import ProviderError
from linearized.store.base import Role
from tests.interop.handover_support import Club, club
from tests.interop.hostile_hub import ALICE, PATIENCE
from tests.interop.takeover_support import bereft
from tests.server.support import Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, read, say, signed_in

EVA = "@eva:e.example"
HOUR_MS = 3_600_000
GROUP_INFO = f"{PREFIX}/groupInfo/{{target}}"
HUB_MOVED = f"{PREFIX}/hubMoved/{{target}}"
Handler = Callable[[Request], Awaitable[Response]]


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "TIDY_SPREAD_MS", 0)


@dataclass
class Moved(Club):
    """A club whose room has moved to b.example, and Eva of e.example, who knows its ID and a code."""

    e: Server
    eva: Session
    code: str

    def chain(self) -> list[JsonObject]:
        return hub_chain.hub_events_of(self.b.node.store, self.b.node.rooms.state(self.room_id))

    def instead(self, server: Server, handler: Handler) -> None:
        """What e.example finds where a server gives group information."""
        honest = [route for route in run.routes(server.node) if route.pattern != GROUP_INFO]
        self.network.views["e.example", server.name] = build_app(
            [*honest, Route("POST", GROUP_INFO, handler)]
        )

    def asked(self, endpoint: str = "groupInfo") -> list[str]:
        """Whom e.example asked for group information, or something else."""
        return [
            to
            for origin, to, _, path in self.network.log
            if origin == "e.example" and path.startswith(f"{PREFIX}/{endpoint}/")
        ]

    async def refused(self, *via: str) -> None:
        keys = openmls.HpkeKeyPair.generate(ciphersuite=CIPHERSUITE)
        request = group_info_request(self.eva.device, keys, self.code).encode()
        with pytest.raises(ProviderError):
            await self.e.node.rooms.group_info(self.room_id, request=request, via=via)
        assert self.e.node.store.room(self.room_id) is None

    async def lose_a(self) -> None:
        """a.example is gone. Its keys are known: else they would come from a notary."""
        key = self.a.node.identity.key
        assert await self.e.node.keys.keys_for("a.example", [key.key_id]) == {key.key_id: key.verify_key}
        self.network.down.add("a.example")


@asynccontextmanager
async def moved(directory: Path) -> AsyncIterator[Moved]:
    async with (
        club(directory) as world,
        running_server("e.example", directory, world.network, peers=("a.example", "b.example")) as e,
        signed_in(e, await e.user("eva")) as eva,
    ):
        await world.hand_over()
        code = await world.bob.api.create_join_code(world.room_id, uses=3, lifetime_ms=HOUR_MS)
        yield Moved(**vars(world), e=e, eva=eva, code=code)


async def hears(session: Session, body: str) -> None:
    with trio.fail_after(PATIENCE):
        while body not in bodies(read(session)):
            await session.tidy()
            await session.step(500)


async def test_who_has_a_code_of_the_new_hub_finds_the_room_there(tmp_path: Path) -> None:
    async with moved(tmp_path) as world:
        await world.bob.catch_up()
        await world.bob.tidy()  # the new hub's key and franking agent
        await world.eva.groups.join(world.room_id, code=world.code)
        assert world.asked() == ["a.example", "b.example"]
        assert membership(world.b.node.rooms.state(world.room_id), EVA) == "join"
        row = world.row(world.e)
        assert (row.role, row.hub) == (Role.FOLLOWER, "b.example")
        await say(world.bob, world.room_id, "welcome")
        await hears(world.eva, "welcome")
        await say(world.eva, world.room_id, "thanks")
        await hears(world.alice, "thanks")
        # Its copy of the log begins with how the room came there, so that clients know it, too.
        (first, *_) = world.e.node.store.entries(world.room_id, after=0, limit=1)
        assert (first.type, first.sender) == ("m.room.hub", "@bob:b.example")
        assert world.eva.device.hub(world.room_id) == "b.example"


async def test_whether_a_code_is_good_the_present_hub_says(tmp_path: Path) -> None:
    async with moved(tmp_path) as world:
        with pytest.raises(JoinRefused):
            await world.eva.groups.join(world.room_id, code="a guess")
        assert world.asked() == ["a.example", "b.example"]
        assert world.e.node.store.room(world.room_id) is None
        # Without one, nobody is told anything.
        with pytest.raises(ApiError) as raised:
            await world.eva.groups.join(world.room_id)
        assert raised.value.status == 403


async def test_nobody_is_asked_before_the_chain_that_leads_there_is_verified(tmp_path: Path) -> None:
    async with moved(tmp_path) as world:
        create, transfer = world.chain()
        signatures = transfer["signatures"]
        for hub, events in (
            ("b.example", []),
            ("b.example", [create]),
            ("b.example", [create, create]),
            ("c.example", [create, transfer]),
            ("e.example", [create, transfer]),
            ("b.example", [create, {**transfer, "room_id": "!other:a.example"}]),
            ("b.example", [create, {**transfer, "signatures": {"b.example": signatures["b.example"]}}]),
            ("b.example", [create, {**transfer, "signatures": {"a.example": signatures["a.example"]}}]),
        ):

            async def elsewhere(
                _request: Request, hub: str = hub, events: list[JsonObject] = events
            ) -> Response:
                raise wrong_server(hub, events)

            world.instead(world.a, elsewhere)
            await world.refused()
        assert set(world.asked()) == {"a.example"}


async def test_hubs_that_name_each_other_are_not_asked_for_ever(tmp_path: Path) -> None:
    async with moved(tmp_path) as world:

        async def onward(_request: Request) -> Response:
            raise wrong_server("b.example", world.chain())

        world.instead(world.b, onward)
        await world.refused()
        assert world.asked() == ["a.example", "b.example"]

        async def back(_request: Request) -> Response:
            raise wrong_server("a.example", world.chain()[:1])

        world.instead(world.b, back)
        await world.refused()
        assert world.asked()[2:] == ["a.example", "b.example"]


async def test_codes_that_are_shown_to_the_old_hub_count_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(tmp_path) as world:
        codes = world.a.node.join_codes
        monkeypatch.setattr(codes, "limit", Buckets(world.a.node.clock, per_second=0.001, burst=2))
        for _ in range(2):
            with pytest.raises(JoinRefused):
                await world.eva.groups.join(world.room_id, code="a guess")
        with pytest.raises(ApiError) as raised:
            await world.eva.groups.join(world.room_id, code="a guess")
        assert raised.value.status == 429


async def test_when_the_first_hub_is_gone_another_server_in_the_room_shows_where_it_is(
    tmp_path: Path,
) -> None:
    async with moved(tmp_path) as world:
        await world.bob.catch_up()
        await world.bob.tidy()  # the new hub's key and franking agent
        await world.lose_a()
        await world.refused()
        await world.refused("e.example", "a.example", "d.example")
        for via in (["x.example"] * (MAX_VIA + 1), ["no name!"]):
            with pytest.raises(ApiError) as raised:
                await world.eva.groups.join(world.room_id, code=world.code, via=via)
            assert raised.value.status == 400
        assert world.asked("hubMoved") == []
        await world.eva.groups.join(world.room_id, code=world.code, via=["d.example", "c.example"])
        assert world.asked("hubMoved") == ["c.example"]
        assert world.asked() == ["b.example"], "nobody but the hub is shown the code"
        row = world.row(world.e)
        assert (row.role, row.hub) == (Role.FOLLOWER, "b.example")
        await say(world.bob, world.room_id, "welcome")
        await hears(world.eva, "welcome")


async def test_what_others_show_has_to_be_signed_and_to_lead_on(tmp_path: Path) -> None:
    async with moved(tmp_path) as world:
        create, transfer = world.chain()
        for server in (world.a, world.b, world.c):
            assert orjson.loads(hub_chain.where(server.node, world.room_id)) == {"events": [create, transfer]}
        still_here = await encrypted_room(world.alice)
        for server, room_id in (
            (world.a, still_here),
            (world.a, "!other:a.example"),
            (world.e, world.room_id),
        ):
            with pytest.raises(HttpError) as hidden:
                hub_chain.where(server.node, room_id)
            assert hidden.value.status == 404
        await world.lose_a()
        signatures = transfer["signatures"]
        shown: list[object] = [
            [],
            {},
            *(
                {"events": events}
                for events in (
                    None,
                    [create],
                    [create, create],
                    [create, {**transfer, "sender": "@alice:a.example"}],
                    [create, {**transfer, "room_id": "!other:a.example"}],
                    [create, {**transfer, "signatures": {"b.example": signatures["b.example"]}}],
                    [create, {**transfer, "signatures": {"a.example": signatures["a.example"]}}],
                    [transfer, create],
                )
            ),
        ]
        for body in shown:

            async def lie(_request: Request, body: object = body) -> Response:
                return json_response(body)

            honest = [route for route in run.routes(world.c.node) if route.pattern != HUB_MOVED]
            world.network.views["e.example", "c.example"] = build_app([*honest, Route("GET", HUB_MOVED, lie)])
            await world.refused("c.example")
        assert world.asked("hubMoved") == ["c.example"] * len(shown)
        assert world.asked() == []
        # The next one is asked, and the hub that it shows; whether the code is good that one says.
        with pytest.raises(JoinRefused):
            await world.eva.groups.join(world.room_id, code="a guess", via=["c.example", "b.example"])
        assert world.asked() == ["b.example"]


async def test_after_a_takeover_a_code_of_the_new_hub_is_good_where_the_taker_is_agreed_to(
    tmp_path: Path,
) -> None:
    async with bereft(tmp_path) as world:
        codes = world.a.node.join_codes
        old, _ = await codes.create(world.room_id, creator=ALICE, uses=1, lifetime_ms=HOUR_MS)
        await world.agreed()
        async with (
            running_server("e.example", tmp_path, world.network, peers=("a.example", "b.example")) as e,
            signed_in(e, await e.user("eva")) as eva,
        ):
            code = await world.bob.api.create_join_code(world.room_id, uses=1, lifetime_ms=HOUR_MS)
            await world.bob.catch_up()
            await world.bob.tidy()  # the new hub's key and franking agent
            # Who took the room over signed that alone: it is for e.example's operator to believe it.
            with pytest.raises(ApiError):
                await eva.groups.join(world.room_id, code=code, via=["c.example"])
            assert e.node.store.room(world.room_id) is None
            await e.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
            # What the hub that is gone gave out, it kept: nobody else knows those codes.
            with pytest.raises(JoinRefused):
                await eva.groups.join(world.room_id, code=old, via=["c.example"])
            await eva.groups.join(world.room_id, code=code, via=["c.example"])
            row = world.row(e)
            assert (row.role, row.hub) == (Role.FOLLOWER, "b.example")
            assert membership(world.b.node.rooms.state(world.room_id), EVA) == "join"
            await say(world.bob, world.room_id, "welcome")
            await hears(eva, "welcome")
