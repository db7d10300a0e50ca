"""Opening a server: what it needs, what it does on its own, and how it closes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import openmls
import pytest
import structlog
import trio
import trio.testing

from linearized.exceptions import ConfigError, StoreError
from linearized.server.gateway_keys import KEY_FILE
from linearized.server.opening import HOUSEKEEPING_SECONDS, MLS_KEY_FILE, open_node, system_clock
from tests.server.support import Network, running_server

REFERENCE = b"a key package"
DAY = 24 * 3600


@dataclass
class Clock:
    """Milliseconds since the Unix epoch, as trio's clock has it."""

    start: int

    def __call__(self) -> int:
        return self.start + round(trio.current_time() * 1000)


async def test_what_has_expired_is_removed_when_its_time_has_come(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    clock = Clock(system_clock())
    async with running_server("a.example", tmp_path, Network(), clock=clock, store_in_thread=False) as server:
        store = server.node.store
        routes = {b"%d" % number: "b.example" for number in range(5000)}
        await store.put_key_package_routes(routes, expires_ms=clock() + 1000)
        await store.put_key_package_routes({REFERENCE: "b.example"}, expires_ms=clock() + 10_000_000)
        await trio.sleep(HOUSEKEEPING_SECONDS - 1)
        assert store.key_package_route(b"0") == "b.example"
        await trio.sleep(2)
        # All of them at once, however many the store removes at a time.
        assert {store.key_package_route(reference) for reference in routes} == {None}
        assert store.key_package_route(REFERENCE) == "b.example"
        await trio.sleep(3 * HOUSEKEEPING_SECONDS)
        assert store.key_package_route(REFERENCE) is None


async def test_a_store_in_trouble_is_tidied_the_next_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(system_clock())
    async with running_server("a.example", tmp_path, Network(), clock=clock, store_in_thread=False) as server:
        store, trouble = server.node.store, True
        real = store.expire

        async def expire(now_ms: int) -> int:
            if trouble:
                raise StoreError("the disk is full")
            return await real(now_ms)

        monkeypatch.setattr(store, "expire", expire)
        await store.put_key_package_routes({REFERENCE: "b.example"}, expires_ms=clock() + 1000)
        with structlog.testing.capture_logs() as lines:
            await trio.sleep(HOUSEKEEPING_SECONDS + 1)
        assert [line["event"] for line in lines] == ["housekeeping_failed"]
        assert store.key_package_route(REFERENCE) == "b.example"
        trouble = False
        await trio.sleep(HOUSEKEEPING_SECONDS)
        assert store.key_package_route(REFERENCE) is None


async def test_the_mls_key_is_made_once_and_is_ours_alone_to_read(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        async with running_server("a.example", tmp_path, Network()) as server:
            keys.append(server.node.mls_signer.public_key)
            path = server.node.config.data_dir / MLS_KEY_FILE
    assert keys[0] == keys[1]
    assert path.stat().st_mode & 0o777 == 0o600
    assert openmls.SignatureKeyPair.from_bytes(path.read_bytes()).public_key == keys[0]


async def test_an_mls_key_that_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as server:
        config = server.node.config
    (config.data_dir / MLS_KEY_FILE).write_bytes(b"short")
    with pytest.raises(ConfigError, match=MLS_KEY_FILE):
        async with open_node(config):
            pass
    (config.data_dir / MLS_KEY_FILE).unlink()
    async with open_node(config):
        pass


async def test_a_database_is_used_by_one_server_at_a_time(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as server:
        with pytest.raises(StoreError):
            async with open_node(server.node.config):
                pass
        assert await server.user("alice") == "@alice:a.example"


async def test_an_error_inside_closes_the_store_all_the_same(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as server:
        config = server.node.config

    async def fail() -> None:
        async with open_node(config):
            raise KeyError("anything")

    with pytest.raises(BaseExceptionGroup) as raised:
        await fail()
    assert raised.group_contains(KeyError)
    async with open_node(config):
        pass


async def test_the_gateway_has_a_new_key_as_often_as_the_settings_say(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    clock, settings = Clock(system_clock()), tmp_path / "a.example" / "linearized.toml"
    async with running_server("a.example", tmp_path, Network(), clock=clock, store_in_thread=False) as server:
        (first,) = server.node.gateway_keys
    settings.write_text(settings.read_text() + "\n[keys]\ngateway_days = 2\n")
    async with running_server("a.example", tmp_path, Network(), clock=clock, store_in_thread=False) as server:
        await trio.sleep(2 * DAY - HOUSEKEEPING_SECONDS)
        assert list(server.node.gateway_keys) == [first]
        await trio.sleep(2 * HOUSEKEEPING_SECONDS)
        second, *before = server.node.gateway_keys
        assert before == [first]
        await trio.sleep(DAY - HOUSEKEEPING_SECONDS)
        assert list(server.node.gateway_keys) == [second, first]
        await trio.sleep(3 * HOUSEKEEPING_SECONDS)
        assert list(server.node.gateway_keys) == [second]
        (server.node.config.data_dir / KEY_FILE).chmod(0o640)  # in which nothing can be done
        await trio.sleep(2 * DAY)
        assert list(server.node.gateway_keys) == [second]
    settings.write_text(settings.read_text().replace("gateway_days = 2", "gateway_days = 0"))
    (tmp_path / "a.example" / "data" / KEY_FILE).chmod(0o600)
    async with running_server("a.example", tmp_path, Network(), clock=clock, store_in_thread=False) as server:
        await trio.sleep(3 * DAY)
        assert list(server.node.gateway_keys) == [second]
