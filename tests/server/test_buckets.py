"""Token buckets, and who is limited by which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from linearized.config import LimitsConfig
from linearized.server.buckets import Buckets, RateLimits, is_loopback
from linearized.server.clients.failures import as_client_error
from linearized.server.http import HttpError
from linearized.server.providers.client import CURSOR_HEADER, ProviderError
from tests.server.clients.support import Clock, running_server
from tests.server.federation.schemas import check
from tests.server.federation.support import UNSTABLE, Foreign, world
from tests.server.providers.support import world as mimi_world
from tests.server.providers.test_follow import call

PER_SECOND, BURST = 2, 6


def buckets(clock: Clock, *, max_names: int = 100) -> Buckets:
    return Buckets(clock, per_second=PER_SECOND, burst=BURST, max_names=max_names)


def spend(limit: Buckets, *names: str) -> int:
    """How many go through before one is refused."""
    for count in range(BURST * 2):
        try:
            limit.take(*names)
        except HttpError:
            return count
    raise AssertionError("never refused")


def test_a_burst_goes_through_and_then_a_steady_flow() -> None:
    clock = Clock()
    limit = buckets(clock)
    assert spend(limit, "a") == BURST
    clock.now += 500
    assert spend(limit, "a") == 1
    clock.now += 1500
    assert spend(limit, "a") == 3
    clock.now += 10**9
    assert spend(limit, "a") == BURST


def test_waiting_as_long_as_the_error_says_is_long_enough_and_no_longer_than_needed() -> None:
    clock = Clock()
    limit = buckets(clock)
    spend(limit, "a")
    with pytest.raises(HttpError) as caught:
        limit.take("a")
    assert (caught.value.status, caught.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    wait = caught.value.extra["retry_after_ms"]
    assert wait == 500
    clock.now += 499
    with pytest.raises(HttpError):
        limit.take("a")
    clock.now += 1
    limit.take("a")


def test_a_refusal_for_one_name_costs_the_other_nothing() -> None:
    limit = buckets(Clock())
    spend(limit, "a")
    with pytest.raises(HttpError):
        limit.take("a", "b")
    assert spend(limit, "b") == BURST


def test_a_clock_set_back_takes_nothing_away_and_gives_nothing() -> None:
    clock = Clock()
    limit = buckets(clock)
    limit.take("a")
    clock.now -= 10**6
    assert spend(limit, "a") == BURST - 1


def test_names_are_forgotten_oldest_first_when_there_are_too_many() -> None:
    limit = buckets(Clock(), max_names=2)
    spend(limit, "a")
    for name in ("b", "c"):
        limit.take(name)
    assert len(limit) == 2
    limit.take("a")


def test_no_names_are_never_refused() -> None:
    limit = buckets(Clock())
    for _ in range(BURST * 2):
        limit.take()
    assert len(limit) == 0


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("unknown", False)]
)
def test_this_machines_own_addresses_are_known(address: str, own: bool) -> None:
    assert is_loopback(address) is own


@pytest.fixture
def one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that take one request of each name, and the next only after a quarter of an hour."""

    def of(_: LimitsConfig, clock: Callable[[], int]) -> RateLimits:
        def one() -> Buckets:
            return Buckets(clock, per_second=0.001, burst=1)

        return RateLimits(address=one(), account=one(), provider=one(), group=one())

    monkeypatch.setattr(RateLimits, "of", of)


def test_the_settings_are_requests_a_second_and_ten_times_as_many_at_once() -> None:
    clock = Clock()
    limits = RateLimits.of(LimitsConfig(address_rate=1, group_rate=2), clock)
    for limit, rate in ((limits.address, 1), (limits.group, 2)):
        for _ in range(10 * rate):
            limit.take("somebody")
        with pytest.raises(HttpError) as caught:
            limit.take("somebody")
        assert caught.value.extra["retry_after_ms"] == 1000 // rate


@pytest.mark.usefixtures("one_each")
async def test_questions_of_servers_are_limited_and_transactions_are_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.foreign.ask("GET", f"{UNSTABLE}/event/$x")).status == 404
        limited = await w.foreign.ask("GET", f"{UNSTABLE}/event/$x")
        assert (limited.status, limited.errcode) == (429, "M_LIMIT_EXCEEDED")
        check("error", limited.body)
        assert (await Foreign("c.example", w.network).ask("GET", f"{UNSTABLE}/event/$x")).status == 404
        for number in range(3):
            assert (await w.foreign.send(str(number))).status == 200


@pytest.mark.usefixtures("one_each")
async def test_a_provider_is_limited_by_room_in_what_it_sends_and_alone_in_what_it_asks(
    tmp_path: Path,
) -> None:
    async with mimi_world(tmp_path) as w:
        for room in (w.uri, "mimi://a.example/r/other"):
            assert (await w.other.ask("submitMessage", room, b"")).status_code == 400
            limited = await w.other.ask("submitMessage", room, b"")
            assert limited.status_code == 429
            assert int(limited.headers["retry-after"]) >= 999
        assert (await w.other.ask("groupInfo", w.uri, b"")).status_code == 400
        assert (await w.other.ask("groupInfo", "mimi://a.example/r/other", b"")).status_code == 429


@pytest.mark.usefixtures("one_each")
async def test_a_pull_follower_is_limited_in_what_it_asks_in_vain_alone(tmp_path: Path) -> None:
    async with mimi_world(tmp_path) as w:
        assert (await call(w)).status_code == 403
        for method in ("GET", "POST", "DELETE"):
            limited = await call(w, method)
            assert limited.status_code == 429
            assert int(limited.headers["retry-after"]) >= 1
        assert await w.server.node.followers.pulls.add("b.example")
        await w.commit()
        answers = [await call(w, sender="b.example") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert (await call(w, cursor=answers[0].headers[CURSOR_HEADER])).status_code == 429


@pytest.mark.usefixtures("one_each")
async def test_an_account_is_limited_over_all_its_devices_and_a_bridge_is_not(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        alice, bob = await server.user("alice"), await server.user("bob")
        (await alice.call("GET", "/account/whoami")).ok()
        limited = await (await server.user("alice", "OTHER")).call("GET", "/account/whoami")
        assert (limited.status, limited.headers["retry-after"]) == (429, "1000")
        (await bob.call("GET", "/account/whoami")).ok()
        for _ in range(3):
            (await server.bridge().call("GET", "/account/whoami")).ok()


@pytest.mark.usefixtures("one_each")
async def test_an_address_is_limited_until_it_has_a_good_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(tmp_path) as server:
        alice = await server.user("alice")
        monkeypatch.setattr("linearized.server.buckets.is_loopback", lambda _: False)
        assert (await server.call("GET", "/_matrix/client/v3/account/whoami", token="wrong")).status == 401
        assert (await server.call("GET", "/_matrix/client/v3/account/whoami", token="wrong")).status == 429
        assert (await server.call("GET", "/_matrix/client/versions")).status == 429
        (await alice.call("GET", "/account/whoami")).ok()


@pytest.mark.parametrize(("asked", "told"), [(None, 1000), (2.5, 2500), (1e9, 3_600_000)])
def test_a_client_hears_of_another_providers_limit(asked: float | None, told: int) -> None:
    error = as_client_error(ProviderError("b.example answered 429", status=429, retry_after_s=asked))
    assert (error.status, error.errcode, error.extra) == (429, "M_LIMIT_EXCEEDED", {"retry_after_ms": told})
