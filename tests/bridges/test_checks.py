"""Each thing that can be wrong between the three, and what the operator is told to do about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from bridges.matrix.checks import (
    ENCRYPTED,
    HOMESERVER,
    PING,
    PROVIDER,
    WHO_HERE,
    WHO_THERE,
    Check,
    Outcome,
    check_both,
    check_encrypted_rooms,
)
from bridges.matrix.config import BridgeConfig
from bridges.matrix.process import run_checks
from linearized.exceptions import ConfigError
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver
from tests.bridges.support import BOT, bridge_config, open_world

TOKEN = "t" * 40
PROVIDERS_BOT = "@_bridge:a.example"


def provider(user: str | None = PROVIDERS_BOT, status: int = 401) -> httpx.AsyncClient:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("versions"):
            return httpx.Response(200, json={"versions": ["v1.13"]})
        if user is None:
            return httpx.Response(status, json={"errcode": "M_UNKNOWN_TOKEN", "error": "who?"})
        return httpx.Response(200, json={"user_id": user})

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def broken(answer: httpx.Response | None) -> httpx.AsyncClient:
    """A server that is not there, or is something else."""

    async def handle(request: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("refused")
        return answer

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


async def checked(
    tmp_path: Path, homeserver: httpx.AsyncClient, other: httpx.AsyncClient | None = None
) -> dict[str, Check]:
    async with homeserver, other or provider() as here:
        checks = await check_both(bridge_config(tmp_path, TOKEN), homeserver=homeserver, provider=here)
    return {check.name: check for check in checks}


async def test_when_all_is_well_every_check_says_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.push()
        checks = await world.bridge.check()
    assert [(check.name, check.outcome) for check in checks] == [
        (name, Outcome.OK) for name in (HOMESERVER, WHO_THERE, PROVIDER, WHO_HERE, PING, ENCRYPTED)
    ]
    assert not any(check.next_step for check in checks)
    assert [check.found for check in checks if check.name in (WHO_THERE, WHO_HERE)] == [BOT, PROVIDERS_BOT]


async def test_a_homeserver_without_our_registration_is_to_load_it(tmp_path: Path) -> None:
    homeserver = FakeHomeserver()
    homeserver.token_of = None
    checks = await checked(tmp_path, homeserver.http())
    assert checks[WHO_THERE].outcome is Outcome.FAILED
    assert "app_service_config_files" in checks[WHO_THERE].next_step
    # It could not reach us either; to ask would only confuse.
    assert PING not in checks
    assert checks[WHO_HERE].outcome is Outcome.OK


async def test_a_homeserver_with_another_domain_is_noticed(tmp_path: Path) -> None:
    homeserver = FakeHomeserver()
    homeserver.token_of = "@_lin_bot:other.example"
    check = (await checked(tmp_path, homeserver.http()))[WHO_THERE]
    assert check.outcome is Outcome.FAILED
    assert check.found == f"the token is that of @_lin_bot:other.example, not of {BOT}"
    assert "homeserver.domain" in check.next_step


@pytest.mark.parametrize("status", [404, 405])
async def test_a_homeserver_that_cannot_ping_is_said_so_and_is_no_failure(
    tmp_path: Path, status: int
) -> None:
    homeserver = FakeHomeserver()
    homeserver.ping = (status, "M_UNRECOGNIZED")
    check = (await checked(tmp_path, homeserver.http()))[PING]
    assert check.outcome is Outcome.SKIPPED
    assert "http://127.0.0.1:9009" in check.next_step


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "M_FORBIDDEN", "bridge.id"),
        (400, "M_URL_NOT_SET", "no url"),
        (502, "M_BAD_STATUS", "hs_token"),
        (504, "M_CONNECTION_TIMEOUT", "firewall"),
        (502, "M_CONNECTION_FAILED", "bridge.url"),
        (500, "M_UNKNOWN", "homeserver's log"),
    ],
)
async def test_a_ping_that_fails_says_what_to_look_at(
    tmp_path: Path, status: int, code: str, advice: str
) -> None:
    homeserver = FakeHomeserver()
    homeserver.ping = (status, code)
    check = (await checked(tmp_path, homeserver.http()))[PING]
    assert check.outcome is Outcome.FAILED
    assert code in check.found
    assert advice in check.next_step
    assert len([request for request in homeserver.requests if "ping" in request]) == 1


async def test_a_homeserver_that_goes_away_during_the_ping_is_a_failed_check(tmp_path: Path) -> None:
    homeserver = FakeHomeserver()

    def fault(when: str, request: httpx.Request) -> None:
        if when == "before" and request.url.path.endswith("/ping"):
            raise httpx.ReadError("gone")

    homeserver.fault = fault
    check = (await checked(tmp_path, homeserver.http()))[PING]
    assert (check.outcome, check.next_step) == (Outcome.FAILED, "see the homeserver's log")


async def test_a_side_that_is_away_is_named_with_its_setting(tmp_path: Path) -> None:
    checks = await checked(tmp_path, broken(None), broken(None))
    assert set(checks) == {HOMESERVER, PROVIDER}
    assert f"start what should answer at https://{DOMAIN}" in checks[HOMESERVER].next_step
    assert "provider.url" in checks[PROVIDER].next_step


@pytest.mark.parametrize(
    "answer", [httpx.Response(404, text="<html>not here</html>"), httpx.Response(502, text="")]
)
async def test_a_side_that_is_no_matrix_server_is_named_with_its_setting(
    tmp_path: Path, answer: httpx.Response
) -> None:
    checks = await checked(tmp_path, broken(answer))
    assert "is no Matrix server: correct homeserver.url" in checks[HOMESERVER].next_step


async def test_a_provider_that_does_not_know_us_is_told_with_the_entry_to_look_at(tmp_path: Path) -> None:
    check = (await checked(tmp_path, FakeHomeserver().http(), provider(None)))[WHO_HERE]
    assert (check.outcome, "provider.token_file" in check.next_step) == (Outcome.FAILED, True)
    check = (await checked(tmp_path, FakeHomeserver().http(), provider("@other:a.example")))[WHO_HERE]
    assert (check.outcome, "[[bridges]]" in check.next_step) == (Outcome.FAILED, True)


async def test_beside_a_running_bridge_a_check_does_not_listen(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        # Nothing answers at the two URLs of this bridge's settings, which is what the check finds.
        found = await run_checks(unreachable(world.bridge.config.database.parent))
    assert [(check.name, check.outcome) for check in found] == [
        (HOMESERVER, Outcome.FAILED),
        (PROVIDER, Outcome.FAILED),
        # What the running bridge found: nothing yet.
        (ENCRYPTED, Outcome.SKIPPED),
    ]


async def test_a_homeserver_that_cannot_do_encrypted_rooms_is_told_how_and_is_no_failure(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_world(tmp_path) as world:
        world.homeserver.keys.pushes_to_device = False
        world.homeserver.keys.pushed.clear()
        check = (await world.bridge.check())[-1]
    assert (check.name, check.outcome) == (ENCRYPTED, Outcome.SKIPPED)
    assert "MSC2409" in check.found
    assert "msc2409_to_device_messages_enabled" in check.next_step


async def test_a_homeserver_that_takes_no_keys_of_ours_is_said_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.homeserver.masquerading = False
        await world.bridge.encryption.taking_part.start()
        missing = world.bridge.encryption.extensions.missing()
    assert missing == "the homeserver does not take my keys (M_UNKNOWN_DEVICE)"


def test_an_operator_who_refuses_encrypted_rooms_is_asked_for_nothing(tmp_path: Path) -> None:
    config = replace(bridge_config(tmp_path, TOKEN), encrypted_rooms="refuse")
    check = check_encrypted_rooms(config, "the homeserver cannot do it")
    assert (check.outcome, check.next_step) == (Outcome.SKIPPED, "")


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="bridge.listen"), flatten_subgroups=True):
        await run_checks(unreachable(tmp_path, listen=f"127.0.0.1:{port}"))
    await taken.aclose()


def unreachable(directory: Path, listen: str = "127.0.0.1:0") -> BridgeConfig:
    """Settings with two URLs at which nothing listens."""
    config = bridge_config(directory, TOKEN)
    nowhere = "http://127.0.0.1:1"
    return replace(config, homeserver_url=nowhere, provider_url=nowhere, listen=listen)
