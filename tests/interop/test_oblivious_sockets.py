"""An oblivious download over real sockets: TLS between the client, its provider's relay and the hub."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from linearized.accounts import create_account
from linearized.client import AssetUnavailable, MemoryStorage, MlsDevice, ProviderApi, Session
from linearized.config import Config
from linearized.demo.ports import free_ports
from linearized.provider_files import ProviderPlan, create_provider, database_path
from linearized.server.assets import asset_url
from linearized.server.opening import system_clock
from linearized.server.run import serve
from tests.server.support import PASSWORD
from tests.server.test_assets import PICTURE, uploaded
from tests.server.test_two_providers import shared_room

PATIENCE = 60


@asynccontextmanager
async def two_providers(directory: Path) -> AsyncIterator[dict[str, Config]]:
    """a.example and b.example, each with a user of its own, listening on loopback."""
    names = ("a.example", "b.example")
    addresses = dict(zip(names, (f"127.0.0.1:{port}" for port in free_ports(2)), strict=True))
    configs: dict[str, Config] = {}
    for name, user in zip(names, ("alice", "bob"), strict=True):
        plan = ProviderPlan(
            server_name=name,
            listen=addresses[name],
            dev_ca=directory / "ca",
            peers={other: addresses[other] for other in names if other != name},
        )
        configs[name] = create_provider(directory / name, plan)
        database = database_path(configs[name])
        await trio.to_thread.run_sync(create_account, configs[name], database, user, PASSWORD)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        for config in configs.values():
            await nursery.start(partial(serve, config, stop=stop))
        yield configs
        stop.set()


@asynccontextmanager
async def client(config: Config, user: str) -> AsyncIterator[Session]:
    trust = ssl.create_default_context(cafile=config.tls.trusted_ca)
    trust.check_hostname = False  # the address is a loopback one; the name is the provider's
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        api = ProviderApi(
            f"https://{config.listen.tls}",
            token=None,
            http=http,
            clock=system_clock,
            ids=secrets.token_urlsafe,
        )
        login = await api.login(user, PASSWORD)
        device = MlsDevice.open(MemoryStorage(), user_id=login.user_id, device_id=login.device_id)
        session = Session(api.with_login(login), device)
        await session.upload_key_packages()
        yield session


async def test_a_file_of_the_hubs_comes_through_the_relay_byte_for_byte(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            two_providers(tmp_path) as configs,
            client(configs["a.example"], "alice") as alice,
            client(configs["b.example"], "bob") as bob,
        ):
            room_id = await shared_room(alice, bob)
            url = asset_url(*await uploaded(alice))
            assert await bob.download(room_id, url) == PICTURE
            with pytest.raises(AssetUnavailable):
                await bob.download(room_id, asset_url("c.example", "abc"))
