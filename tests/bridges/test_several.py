from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trio
import trio.testing

from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.parts import Environment
from bridges.matrix.runner import Bridge
from bridges.matrix.several import FIRST_PAUSE, MAX_PAUSE, STEADY, check_apart, run_bridges
from linearized.client import ApiError
from linearized.exceptions import ConfigError
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver
from tests.bridges.support import ALICE, BOT, CAROL, MATRIX_ROOM, push_events
from tests.bridges.test_import import history
from tests.bridges.test_live import by
from tests.bridges.test_runner import until
from tests.client.support import wall_clock
from tests.client.test_real_server import Club

OTHER = "other.example"


def config(directory: Path, domain: str = DOMAIN, number: int = 1, **more: Any) -> BridgeConfig:
    made = BridgeConfig(
        homeserver_url=f"https://{domain}",
        homeserver_domain=domain,
        as_token=f"as{number}" * 20,
        hs_token=f"hs{number}" * 20,
        provider_url="https://a.example",
        provider_domain="a.example",
        provider_token="p" * 40,
        provider_bot=f"@_bridge-{number}:a.example",
        listen=f"127.0.0.1:900{number}",
        url=f"http://127.0.0.1:900{number}",
        database=directory / f"bridge{number}.sqlite",
    )
    return replace(made, **more)


@pytest.mark.parametrize(
    ("shared", "named"),
    [
        ({"homeserver_domain": DOMAIN}, "homeserver.domain"),
        ({"as_token": "as1" * 20}, "homeserver.as_token_file"),
        ({"hs_token": "hs1" * 20}, "homeserver.hs_token_file"),
        ({"provider_bot": "@_bridge-1:a.example"}, "provider.bot"),
        ({"listen": "127.0.0.1:9001"}, "bridge.listen"),
        ({"database": Path("bridge1.sqlite")}, "bridge.database"),
        ({"storage_key_file": Path("bridge1.key")}, "bridge.storage_key_file"),
    ],
)
def test_bridges_in_each_others_way_are_refused(shared: dict[str, Any], named: str) -> None:
    one, other = config(Path()), config(Path(), OTHER, 2)
    check_apart([one, other])
    check_apart([replace(one, listen="127.0.0.1:0"), replace(other, listen="127.0.0.1:0")])
    with pytest.raises(ConfigError, match=rf"{named}: the bridges of {DOMAIN} and (other|matrix).example"):
        check_apart([one, replace(other, **shared)])


async def test_a_bridge_alone_ends_with_what_is_wrong(tmp_path: Path) -> None:
    async def refused(one: BridgeConfig) -> None:
        raise ApiError(401, "M_UNKNOWN_TOKEN", one.homeserver_domain)

    with pytest.raises(ApiError, match=DOMAIN):
        await run_bridges([config(tmp_path)], run=refused)


async def test_what_is_wrong_with_one_bridge_is_tried_again_and_the_other_goes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    starts: list[float] = []
    secret = "what somebody said"
    beats = 0

    async def run(one: BridgeConfig) -> None:
        nonlocal beats
        if one.homeserver_domain == DOMAIN:
            while True:
                await trio.sleep(1)
                beats += 1
        starts.append(trio.current_time())
        match len(starts):
            case 1:
                raise ApiError(401, "M_UNKNOWN_TOKEN", "wrong token")
            case 2:
                raise ExceptionGroup("in a nursery", [ValueError(secret), KeyError(secret)])
            case 9:
                await trio.sleep(STEADY)
        if len(starts) < 11:
            return
        await trio.sleep_forever()

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        with trio.move_on_after(3000):
            await run_bridges([config(tmp_path), config(tmp_path, OTHER, 2)], run=run)
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    longer = [FIRST_PAUSE * 2**number for number in range(6)]
    assert pauses == pytest.approx([*longer, MAX_PAUSE, MAX_PAUSE, STEADY + FIRST_PAUSE, 2 * FIRST_PAUSE])
    assert beats > 2900
    lines = [line for line in logs if line["log_level"] == "error"]
    assert {line["homeserver"] for line in lines} == {OTHER}
    first, second, third = (line["reason"] for line in lines[:3])
    assert first == "ApiError: 401 M_UNKNOWN_TOKEN: wrong token"
    assert second == "ValueError, KeyError"
    assert third == "it ended"
    assert secret not in repr(logs)


class HangingHomeserver(FakeHomeserver):
    """One that can stop answering."""

    hangs = False

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        if self.hangs:
            await trio.sleep_forever()
        return await super()._handle(request)


async def test_two_homeservers_of_one_process_meet_and_one_that_hangs_does_not_keep_the_other(
    tmp_path: Path,
) -> None:
    """Both loops run, under one supervisor; the two homeservers share a room of the provider."""
    async with AsyncExitStack() as stack:
        club = Club(tmp_path, stack)
        hub = await club.server("a.example", bridged=(DOMAIN, OTHER))
        homeservers = {domain: HangingHomeserver(domain) for domain in (DOMAIN, OTHER)}
        bridges: dict[str, Bridge] = {}
        configs = [
            config(
                tmp_path,
                entry.domains[0],
                number,
                provider_token=entry.token,
                provider_bot=entry.bot,
            )
            for number, entry in enumerate(hub.node.config.bridges, 1)
        ]

        async def run(one: BridgeConfig) -> None:
            server = homeservers[one.homeserver_domain]
            database = Database(one.database)
            async with (
                server.http() as to_homeserver,
                hub.http() as to_provider,
                trio.open_nursery() as nursery,
            ):
                environment = Environment(
                    homeserver=to_homeserver,
                    provider=to_provider,
                    clock=wall_clock,
                    ids=secrets.token_urlsafe,
                    random=secrets.token_bytes,
                )
                bridge = bridges[one.homeserver_domain] = Bridge(one, database, environment)
                nursery.start_soon(deliver, server, bridge)
                await bridge.start()
                await bridge.run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_bridges_with, configs, run)
            await until(lambda: len(bridges) == 2)
            here, there = homeservers[DOMAIN], homeservers[OTHER]
            room = history(here, 2)
            here.member(room, BOT, "invite", sender=ALICE)
            await until(
                lambda: (link := bridges[DOMAIN].links.of_matrix(MATRIX_ROOM)) and link.phase == "live"
            )
            link = bridges[DOMAIN].links.of_matrix(MATRIX_ROOM)
            assert link is not None
            assert link.room_id is not None
            # A user of the other homeserver joins by the alias, through its own bridge.
            erin = f"@erin:{OTHER}"
            there.users.add(erin)
            assert await bridges[OTHER].portals.answer_query(bridges[OTHER].config.names.alias(link.room_id))
            (portal,) = there.rooms.values()
            there.member(portal, erin, "join")
            ghost = f"@_lin_matrix.example_carol:{OTHER}"
            here.say(room, CAROL, "to the other homeserver")
            await until(lambda: by(portal, ghost))
            there.say(portal, erin, "and back")
            await until(lambda: by(room, f"@_lin_other.example_erin:{DOMAIN}"))
            here.emit(room, ALICE, "m.room.topic", {"topic": "for both"}, state_key="")
            await until(
                lambda: (
                    there.state(portal).get(("m.room.topic", ""), {}).get("content") == {"topic": "for both"}
                )
            )
            # The other one hangs: here everything goes on.
            there.hangs = True
            here.say(room, CAROL, "while it hangs")
            here.say(room, ALICE, "an answer")
            await until(lambda: bridges[DOMAIN].links.of_matrix(MATRIX_ROOM) and not here.pushes)
            await until(lambda: bridges[DOMAIN].queue.next() is None)
            assert len(by(portal, ghost)) == 1
            nursery.cancel_scope.cancel()


async def run_bridges_with(configs: list[BridgeConfig], run: Callable[[BridgeConfig], Any]) -> None:
    await run_bridges(configs, run=run)


async def deliver(server: HangingHomeserver, bridge: Bridge) -> None:
    """The homeserver pushes what it has, as long as it does not hang."""
    while True:
        if server.pushes and not server.hangs:
            events, server.pushes = server.pushes[:100], server.pushes[100:]
            await push_events(bridge, events)
        await trio.sleep(0.02)
