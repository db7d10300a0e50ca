"""The client against the real server, in memory: what the fake provider promises, kept by the server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from linearized.client import (
    ALGORITHM,
    ApiError,
    CommitRefused,
    DecryptedMessage,
    GroupLost,
    MembershipChanged,
    MemoryStorage,
    MlsDevice,
    OwnMessage,
    ProviderApi,
    Session,
)
from tests.client.support import drain, message, wall_clock
from tests.server.support import PASSWORD, Network, Server, running_server

SPEAKER = 4  # of the moderated room in linearized.mimi.policy.presets


class Club:
    """Providers on one network, and devices of their users."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.network = Network()
        self._directory = directory
        self._stack = stack

    async def server(self, name: str, **options: Any) -> Server:
        """A provider; ``options`` as for ``running_server``."""
        return await self._stack.enter_async_context(
            running_server(name, self._directory, self.network, **options)
        )

    async def device(
        self, server: Server, localpart: str, device_id: str = "DEV", storage: MemoryStorage | None = None
    ) -> Session:
        if server.node.store.user(f"@{localpart}:{server.name}") is None:
            await server.user(localpart)
        http = await self._stack.enter_async_context(server.http())
        api = ProviderApi(
            f"https://{server.name}",
            token=None,
            http=http,
            clock=wall_clock,
            ids=secrets.token_urlsafe,
        )
        login = await api.login(localpart, PASSWORD, device_id=device_id)
        device = MlsDevice.open(storage or MemoryStorage(), user_id=login.user_id, device_id=device_id)
        session = Session(api.with_login(login), device, key_packages=3)
        await session.upload_key_packages()
        return session


@asynccontextmanager
async def open_club(directory: Path) -> AsyncIterator[Club]:
    async with AsyncExitStack() as stack:
        yield Club(directory, stack)


async def new_room(session: Session) -> str:
    room_id = await session.api.create_room(creation_content={"encryption": {"algorithm": ALGORITHM}})
    await session.groups.create(room_id)
    return room_id


async def test_two_users_of_one_provider_talk(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        sent = await alice.send(room_id, message("hello"))
        items = await drain(bob)
        (got,) = [item for item in items if isinstance(item, DecryptedMessage)]
        assert (got.event_id, got.message_id) == (sent.event_id, sent.message_id)
        joins = [i.user_id for i in items if isinstance(i, MembershipChanged) and i.membership == "join"]
        assert bob.device.owner.user_id in joins
        await bob.send(room_id, message("hi"))
        items = await drain(alice)
        assert [i.sender_uri for i in items if isinstance(i, DecryptedMessage)] == ["mimi://a.example/u/bob"]
        assert [i.event_id for i in items if isinstance(i, OwnMessage)] == [sent.event_id]


async def test_a_stale_commit_and_a_stale_message_are_made_again(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        carol = await club.device(server, "carol")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await alice.groups.update_keys(room_id)
        await bob.send(room_id, message("overtaken"))
        await alice.groups.update_keys(room_id)
        # A user of the room's hub may be added by an admin only, so bob's commit of new keys races instead.
        await bob.groups.update_keys(room_id)
        await drain(alice)
        assert alice.device.epoch(room_id) == bob.device.epoch(room_id)
        await alice.groups.invite(room_id, [carol.device.owner.user_id])
        await drain(carol)
        await carol.send(room_id, message("here"))
        assert [i for i in await drain(bob) if isinstance(i, DecryptedMessage)]


async def test_a_second_device_joins_and_a_device_that_lost_everything_rejoins(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        laptop = await club.device(server, "bob", "LAPTOP")
        await laptop.groups.join(room_id)
        await alice.send(room_id, message("one"))
        assert [i for i in await drain(laptop) if isinstance(i, DecryptedMessage)]
        fresh = await club.device(server, "bob", "LAPTOP")
        await fresh.groups.join(room_id)
        owners = sorted(owner.device_id for owner in fresh.device.members(room_id).values())
        assert owners == ["DEV", "DEV", "LAPTOP"]
        await fresh.send(room_id, message("two"))
        for session in (alice, bob):
            assert [i for i in await drain(session) if isinstance(i, DecryptedMessage)]


async def test_a_removed_user_is_told_and_may_not_speak(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await alice.groups.remove_users(room_id, [bob.device.owner.user_id])
        items = await drain(bob)
        assert [i.removed for i in items if isinstance(i, GroupLost)] == [True]
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        await bob.send(room_id, message("again"))
        assert [i for i in await drain(alice) if isinstance(i, DecryptedMessage)]


async def test_someone_without_the_power_may_not_remove_others(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await drain(bob)
        with pytest.raises(CommitRefused):
            await bob.groups.remove_users(room_id, [alice.device.owner.user_id])
        await bob.send(room_id, message("still in the same epoch"))
        assert [i for i in await drain(alice) if isinstance(i, DecryptedMessage)]


async def test_users_of_two_providers_talk(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        hub, other = await club.server("a.example"), await club.server("b.example")
        alice, bob = await club.device(hub, "alice"), await club.device(other, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await alice.send(room_id, message("hello b"))
        items = await drain_until(bob, DecryptedMessage)
        assert [i.sender_uri for i in items if isinstance(i, DecryptedMessage)] == [
            "mimi://a.example/u/alice"
        ]
        await bob.send(room_id, message("hello a"))
        items = await drain_until(alice, DecryptedMessage)
        assert [i.sender_uri for i in items if isinstance(i, DecryptedMessage)] == ["mimi://b.example/u/bob"]
        await alice.groups.update_keys(room_id)
        await bob.send(room_id, message("after a commit"))
        assert await drain_until(alice, DecryptedMessage)


async def drain_until(session: Session, kind: type) -> list[object]:
    """Follow until an item of a kind came; deliveries between providers take their time."""
    items: list[object] = []
    for _ in range(20):
        await session.step(2000)
        items += await drain(session)
        if any(isinstance(item, kind) for item in items):
            return items
    raise AssertionError(f"no {kind.__name__} came")


async def test_a_commit_removes_whoever_left_in_the_meantime(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        carol = await club.device(server, "carol")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id, carol.device.owner.user_id])
        await drain(bob)
        await bob.api.leave(room_id)
        await drain(carol)
        await carol.groups.update_keys(room_id)
        await drain(alice)
        owners = {owner.user_id for owner in alice.device.members(room_id).values()}
        assert owners == {"@alice:a.example", "@carol:a.example"}
        assert (await drain(bob), bob.device.in_group(room_id))[1] is False


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        packages = await alice.groups.key_packages(room_id, bob.device.owner.user_id)
        update = alice.api.update

        async def lossy(*args: Any, **named: Any) -> tuple[bytes, str | None]:
            monkeypatch.undo()
            await update(*args, **named)
            return await update(*args, **named)

        monkeypatch.setattr(alice.api, "update", lossy)
        await alice.groups.add_users(room_id, {bob.device.owner.user_id: packages})
        assert alice.device.epoch(room_id) == 2
        await drain(bob)
        await bob.send(room_id, message("in"))
        assert [i for i in await drain(alice) if isinstance(i, DecryptedMessage)]


async def test_in_a_moderated_room_guests_read_and_speakers_write(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await alice.create_room(policy="moderated")
        user_id = bob.device.owner.user_id
        await alice.groups.invite(room_id, [user_id])
        await drain(bob)
        await alice.send(room_id, message("welcome"))
        assert any(isinstance(item, DecryptedMessage) for item in await drain(bob))
        with pytest.raises(ApiError, match="canSendMessage"):
            await bob.send(room_id, message("me too"))
        await alice.groups.remove_users(room_id, [user_id])
        await alice.groups.invite(room_id, [user_id], roles={user_id: SPEAKER})
        await drain(bob)
        await bob.send(room_id, message("now I may"))


async def test_a_direct_conversation_is_made_whole_and_stays_so(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        server = await club.server("a.example")
        alice, bob, carol = [await club.device(server, name) for name in ("alice", "bob", "carol")]
        room_id = await alice.create_room(policy="direct", users=[bob.device.owner.user_id])
        await drain(bob)
        await bob.send(room_id, message("just us"))
        with pytest.raises(CommitRefused, match="fixed"):
            await bob.groups.invite(room_id, [carol.device.owner.user_id])
        with pytest.raises(ApiError, match="fixed"):
            await bob.api.leave(room_id)


async def test_an_unknown_policy_creates_no_room(tmp_path: Path) -> None:
    async with open_club(tmp_path) as club:
        alice = await club.device(await club.server("a.example"), "alice")
        with pytest.raises(ValueError, match="a policy is one of"):
            await alice.create_room(policy="anarchy")
