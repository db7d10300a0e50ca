"""A device killed at any point, before or after any request took effect, loses nothing and repeats
nothing.
"""

from __future__ import annotations

from contextlib import aclosing

import httpx
import pytest

from linearized.client import DecryptedMessage, GroupLost, MemoryStorage, OwnMessage, Undecryptable
from linearized.client.device import MlsDevice
from tests.client.fake_provider import FakeProvider
from tests.client.support import ALICE, BOB, ROOM, connected, drain, message


class Killed(BaseException):
    """The process is gone. No handler of errors may see it, as none would see a real kill."""


class KillAt:
    """Raises at the ``point``-th moment before or after a request takes effect, once."""

    def __init__(self, point: int) -> None:
        self.left = point
        self.happened = False

    def __call__(self, moment: str, request: httpx.Request) -> None:
        self.left -= 1
        if self.left == 0:
            self.happened = True
            raise Killed


def kill_points(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("point", range(1, count + 1))


@kill_points(16)
async def test_a_committer_killed_anywhere_ends_in_the_same_group_as_everyone_else(point: int) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    storage = MemoryStorage()
    async with connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        provider.fault = KillAt(point)
        for _ in range(2):
            try:
                async with connected(provider, ALICE, storage=storage) as alice:
                    await alice.groups.create(ROOM)
                    await alice.groups.invite(ROOM, [BOB])
                    await alice.send(ROOM, message("hello"), txn_id="hello")
                    await drain(alice)
                break
            except Killed:
                continue
        provider.fault = None
        got = [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]
        assert len(got) == 1
        async with connected(provider, ALICE, storage=storage) as alice:
            await drain(alice)
            assert alice.device.epoch(ROOM) == bob.device.epoch(ROOM)
            assert alice.device.record(ROOM).pending is None
            await bob.send(ROOM, message("fine"))
            assert [item for item in await drain(alice) if isinstance(item, DecryptedMessage)]


@kill_points(10)
async def test_a_sender_killed_anywhere_sends_each_message_once(point: int) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    storage = MemoryStorage()
    async with connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        async with connected(provider, ALICE, storage=storage) as alice:
            await alice.groups.create(ROOM)
            await alice.groups.invite(ROOM, [BOB])
            await drain(bob)
            await bob.groups.update_keys(ROOM)  # so that the first attempt is of the wrong epoch
        contents = [message(f"m{number}") for number in range(2)]
        own: list[OwnMessage] = []
        provider.fault = KillAt(point)
        for _ in range(2):
            try:
                async with connected(provider, ALICE, storage=storage) as alice:
                    for number, content in enumerate(contents):
                        await alice.send(ROOM, content, txn_id=f"m{number}")
                    own += [item for item in await drain(alice) if isinstance(item, OwnMessage)]
                break
            except Killed:
                continue
        provider.fault = None
        items = await drain(bob)
        assert [i.content for i in items if isinstance(i, DecryptedMessage)] == contents
        assert not [i for i in items if isinstance(i, Undecryptable | GroupLost)]
        assert {item.transaction_id for item in own} == {"m0", "m1"}


@kill_points(8)
async def test_a_reader_killed_anywhere_reads_each_message_once(point: int) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    storage = MemoryStorage()
    async with connected(provider, ALICE) as alice:
        async with connected(provider, BOB, storage=storage) as bob:
            await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        contents = [message(f"m{number}") for number in range(4)]
        for content in contents[:2]:
            await alice.send(ROOM, content)
        got: list[DecryptedMessage] = []
        provider.fault = KillAt(point)
        rest = iter(contents[2:])
        for _ in range(2):
            try:
                async with connected(provider, BOB, storage=storage) as bob:
                    got += [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]
                    provider_fault, provider.fault = provider.fault, None
                    for content in rest:
                        await alice.send(ROOM, content)
                    provider.fault = provider_fault
                    got += [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]
                break
            except Killed:
                continue
        assert [item.content for item in got] == contents


async def test_an_item_not_yet_acknowledged_is_seen_again_after_a_kill_and_only_that_one() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    storage = MemoryStorage()
    async with connected(provider, ALICE) as alice:
        async with connected(provider, BOB, storage=storage) as bob:
            await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        for number in range(3):
            await alice.send(ROOM, message(f"m{number}"))
        async with connected(provider, BOB, storage=storage) as bob:
            seen = []
            async with aclosing(bob.items()) as items:
                async for item in items:
                    seen.append(item)
                    if isinstance(item, DecryptedMessage):
                        break  # killed while working on it
        async with connected(provider, BOB, storage=storage) as bob:
            again = await drain(bob)
        assert again[0] == seen[-1]
        assert len([item for item in again if isinstance(item, DecryptedMessage)]) == 3


async def test_nothing_is_sent_that_was_not_saved_first(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice:
        await alice.groups.create(ROOM)

        def broken(_: MlsDevice) -> None:
            raise OSError("disk full")

        before = len(provider.requests)
        monkeypatch.setattr(MlsDevice, "save", broken)
        with pytest.raises(OSError, match="disk full"):
            await alice.send(ROOM, message("lost?"))
        with pytest.raises(OSError, match="disk full"):
            await alice.groups.update_keys(ROOM)
        assert len(provider.requests) == before
