"""A device's stock of key packages: filled up when the provider says that it runs out, and replaced."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.client.key_packages import KEY_PACKAGE_MINIMUM, KEY_PACKAGE_TARGET, KeyPackageStock
from tests.client.fake_provider import FakeProvider
from tests.client.support import ALICE, BOB, ROOM, connected, drain

ADDRESS = "mimi://a.example/d/bob/DEV"


def said(count: int | None, *fallbacks: str) -> Any:
    counts = {} if count is None else {"device_one_time_keys_count": {"mls": count}}
    return counts | {"device_unused_fallback_key_types": list(fallbacks)}


@pytest.mark.parametrize(
    ("target", "count", "low"),
    [
        (KEY_PACKAGE_TARGET, KEY_PACKAGE_MINIMUM - 1, True),
        (KEY_PACKAGE_TARGET, KEY_PACKAGE_MINIMUM, False),
        (KEY_PACKAGE_TARGET, None, False),
        (2, 1, True),
        (2, 2, False),
    ],
)
async def test_a_stock_is_low_below_its_minimum(target: int, count: int | None, low: bool) -> None:
    async with connected(FakeProvider(), BOB) as bob:
        assert KeyPackageStock(bob.api, bob.device, target).heard(said(count, "mls")) is low


async def test_a_package_of_last_resort_that_is_gone_is_made_anew() -> None:
    provider = FakeProvider()
    async with connected(provider, BOB) as bob:
        stock = KeyPackageStock(bob.api, bob.device, 3)
        await stock.fill()
        first = dict(provider.fallback[ADDRESS])
        assert not stock.heard(said(3, "mls"))
        assert not stock.heard({})
        await stock.fill()
        assert provider.fallback[ADDRESS] == first
        assert stock.heard(said(3))
        await stock.fill()
        assert len(provider.one_time[ADDRESS]) == 3
        assert provider.fallback[ADDRESS].keys() != first.keys()


async def test_a_stock_is_replaced_whole() -> None:
    provider = FakeProvider()
    async with connected(provider, BOB) as bob:
        stock = KeyPackageStock(bob.api, bob.device, 3)
        await stock.fill()
        first = set(provider.one_time[ADDRESS])
        await stock.replace()
        assert len(set(provider.one_time[ADDRESS]) - first) == 3


async def test_key_packages_are_topped_up_after_a_join_and_one_is_of_last_resort() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        assert len(provider.one_time["mimi://a.example/d/bob/DEV"]) == 2
        assert len(provider.fallback["mimi://a.example/d/bob/DEV"]) == 1
