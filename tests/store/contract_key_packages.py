"""The part of the contract about key packages."""

from __future__ import annotations

import trio

from linearized.store.base import (
    Store,
)
from tests.store.rows import (
    ALICE,
    BOB,
    OTHER_SUITE,
    SUITE,
    key_package,
)


class KeyPackageContract:
    """Key packages: handed out once, never expired, last resort last."""

    @staticmethod
    async def claim(store: Store, *ciphersuites: int, now_ms: int = 1_000) -> bytes | None:
        row = await store.claim_key_package(
            user_id=BOB, device_id="PHONE", ciphersuites=ciphersuites or (SUITE,), now_ms=now_ms
        )
        return None if row is None else row.key_package

    async def test_each_package_is_handed_out_once(self, store: Store) -> None:
        await store.put_key_packages([key_package(1, not_after=5), key_package(2, not_after=6)])
        assert await self.claim(store) == b"key package 1"
        assert await self.claim(store) == b"key package 2"
        assert await self.claim(store) is None

    async def test_no_package_is_handed_out_twice_under_concurrency(self, store: Store) -> None:
        await store.put_key_packages([key_package(n) for n in range(50)])
        claimed: list[bytes | None] = []

        async def claim() -> None:
            claimed.append(await self.claim(store))

        async with trio.open_nursery() as nursery:
            for _ in range(80):
                nursery.start_soon(claim)
        packages = [package for package in claimed if package is not None]
        assert len(packages) == len(set(packages)) == 50
        assert claimed.count(None) == 30

    async def test_a_claimed_package_is_still_known_by_reference(self, store: Store) -> None:
        await store.put_key_packages([key_package(1)])
        claimed = await store.claim_key_package(
            user_id=BOB, device_id="PHONE", ciphersuites=(SUITE,), now_ms=1_234
        )
        assert claimed is not None
        assert claimed.claimed_at == 1_234
        assert store.key_package(key_package(1).reference) == claimed
        assert store.key_package(b"nope") is None

    async def test_uploading_a_claimed_package_again_does_not_make_it_claimable(self, store: Store) -> None:
        await store.put_key_packages([key_package(1)])
        await self.claim(store)
        await store.put_key_packages([key_package(1)])
        assert await self.claim(store) is None

    async def test_an_expired_package_is_never_handed_out(self, store: Store) -> None:
        await store.put_key_packages(
            [key_package(1, not_after=10), key_package(2, not_after=10, last_resort=True)]
        )
        assert await self.claim(store, now_ms=10_000) is None
        assert await self.claim(store, now_ms=9_999) == b"key package 1"

    async def test_the_last_resort_comes_when_nothing_else_is_left_and_stays(self, store: Store) -> None:
        await store.put_key_packages(
            [key_package(1, last_resort=True, not_after=9_999), key_package(2, ciphersuite=OTHER_SUITE)]
        )
        assert await self.claim(store, SUITE, OTHER_SUITE) == b"key package 2"
        for _ in range(3):
            assert await self.claim(store, SUITE, OTHER_SUITE) == b"key package 1"
        row = store.key_package(key_package(1).reference)
        assert row is not None
        assert row.claimed_at is None

    async def test_of_two_last_resort_packages_the_one_that_lasts_longer_is_used(self, store: Store) -> None:
        await store.put_key_packages(
            [
                key_package(1, last_resort=True, not_after=50),
                key_package(2, last_resort=True, not_after=70),
                key_package(3, last_resort=True, not_after=60),
            ]
        )
        assert await self.claim(store) == b"key package 2"
        assert await self.claim(store, now_ms=1_000) == b"key package 2"

    async def test_only_the_suites_asked_for_count_in_their_order(self, store: Store) -> None:
        await store.put_key_packages([key_package(1), key_package(2, ciphersuite=OTHER_SUITE)])
        assert await self.claim(store, 77) is None
        assert await self.claim(store, OTHER_SUITE, SUITE) == b"key package 2"
        assert await self.claim(store, OTHER_SUITE, SUITE) == b"key package 1"

    async def test_a_package_that_does_not_fit_is_passed_over_and_stays(self, store: Store) -> None:
        await store.put_key_packages(
            [
                key_package(1, not_after=5),
                key_package(2, not_after=6),
                key_package(3, ciphersuite=OTHER_SUITE),
                key_package(4, last_resort=True),
            ]
        )

        async def claim(*fitting: int) -> bytes | None:
            packages = {key_package(number).key_package for number in fitting}
            row = await store.claim_key_package(
                user_id=BOB,
                device_id="PHONE",
                ciphersuites=(SUITE, OTHER_SUITE),
                now_ms=1_000,
                fits=packages.__contains__,
            )
            return None if row is None else row.key_package

        assert await claim() is None
        assert await claim(2, 3, 4) == b"key package 2"
        assert await claim(2, 3, 4) == b"key package 3"
        assert await claim(2, 3, 4) == b"key package 4"
        assert await claim(1) == b"key package 1"

    async def test_new_packages_take_the_place_of_others_that_nobody_has(self, store: Store) -> None:
        await store.put_key_packages(
            [
                key_package(1),
                key_package(2, last_resort=True),
                key_package(3),
                key_package(4, device_id="LAPTOP"),
            ]
        )
        assert await self.claim(store) == b"key package 1"
        held = {row.key_package for row in store.unclaimed_key_packages(BOB, "PHONE")}
        assert held == {b"key package 2", b"key package 3"}
        withdrawn = [key_package(number).reference for number in (1, 2, 3)]
        await store.put_key_packages([key_package(5)], withdrawn=withdrawn)
        assert [row.key_package for row in store.unclaimed_key_packages(BOB, "PHONE")] == [b"key package 5"]
        # The Welcome of who was handed out finds its way.
        assert store.key_package(key_package(1).reference) is not None
        assert [row.key_package for row in store.unclaimed_key_packages(BOB, "LAPTOP")] == [b"key package 4"]

    async def test_what_is_left_of_a_device_can_be_looked_at(self, store: Store) -> None:
        def left(now_ms: int) -> bytes | None:
            row = store.claimable_key_package(BOB, "PHONE", now_ms=now_ms)
            return None if row is None else row.key_package

        assert left(0) is None
        await store.put_key_packages(
            [key_package(1, ciphersuite=OTHER_SUITE, not_after=9), key_package(2, not_after=5)]
        )
        assert (left(8_999), left(9_000)) == (b"key package 1", None)
        assert await self.claim(store, OTHER_SUITE) == b"key package 1"
        assert left(4_999) == b"key package 2"
        assert await self.claim(store) == b"key package 2"
        assert left(0) is None
        await store.put_key_packages([key_package(3, last_resort=True, not_after=5)])
        assert left(0) == b"key package 3"

    async def test_packages_of_other_devices_are_not_touched(self, store: Store) -> None:
        await store.put_key_packages([key_package(1, device_id="LAPTOP"), key_package(2, user_id=ALICE)])
        assert await self.claim(store) is None

    async def test_counts_are_of_what_can_be_claimed_once(self, store: Store) -> None:
        assert store.key_package_counts(BOB, "PHONE") == {}
        await store.put_key_packages(
            [
                key_package(1),
                key_package(2),
                key_package(3, ciphersuite=OTHER_SUITE),
                key_package(4, last_resort=True),
            ]
        )
        await self.claim(store)
        assert store.key_package_counts(BOB, "PHONE") == {SUITE: 1, OTHER_SUITE: 1}

    async def test_routes_name_the_provider_of_a_reference(self, store: Store) -> None:
        await store.put_key_package_routes({b"r1": "b.example", b"r2": "c.example"}, 1_000)
        await store.put_key_package_routes({b"r1": "d.example"}, 2_000)
        assert store.key_package_route(b"r1") == "d.example"
        assert store.key_package_route(b"r2") == "c.example"
        assert store.key_package_route(b"r3") is None

    async def test_a_room_has_routes_of_its_own(self, store: Store) -> None:
        await store.put_key_package_routes({b"r1": "b.example"}, 2_000, room_id="!one:a.example")
        await store.put_room_routes("!one:a.example", {b"r1": "x.example", b"r2": "c.example"}, 1_000)
        await store.put_room_routes("!two:a.example", {b"r2": "d.example"}, 3_000)
        assert store.key_package_route(b"r2") is None
        assert store.key_package_route(b"r2", room_id="!one:a.example") == "c.example"
        assert store.key_package_route(b"r2", room_id="!two:a.example") == "d.example"
        assert store.key_package_route(b"r1", room_id="!two:a.example") == "b.example"
        known = {b"r1": ("b.example", 2_000), b"r2": ("c.example", 1_000)}
        assert store.room_routes("!one:a.example", now_ms=999, limit=9) == known
        assert store.room_routes("!one:a.example", now_ms=1_000, limit=9) == {b"r1": ("b.example", 2_000)}
        assert store.room_routes("!one:a.example", now_ms=0, limit=1) == {b"r1": ("b.example", 2_000)}
        assert await store.expire(2_000) == 3
        assert store.room_routes("!one:a.example", now_ms=0, limit=9) == {}
        assert store.key_package_route(b"r2", room_id="!two:a.example") == "d.example"

    async def test_what_expired_can_be_removed(self, store: Store) -> None:
        await store.put_key_packages([key_package(1, not_after=10), key_package(2, not_after=11)])
        await store.put_key_package_routes({b"r1": "b.example"}, 10_999)
        await store.put_key_package_routes({b"r2": "b.example"}, 11_000)
        assert await store.expire(10_999) == 2
        assert await store.expire(10_999) == 0
        assert store.key_package(key_package(1).reference) is None
        assert store.key_package(key_package(2).reference) is not None
        assert store.key_package_route(b"r1") is None
        assert store.key_package_route(b"r2") == "b.example"
