"""Two providers in one room: created on one, joined from the other over MIMI, real MLS clients at both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.client import (
    ROLE_ADMIN,
    ROLE_REGULAR,
    ClientError,
    DecryptedMessage,
    EpochChanged,
    GroupLost,
    Item,
    Joined,
    MemoryStorage,
    MlsDevice,
    ProviderApi,
    Session,
)
from linearized.mimi.content import SinglePart, text
from linearized.room.admission import ALGORITHM
from linearized.server.opening import system_clock
from tests.server.support import PASSWORD, Network, Server, running_server


@asynccontextmanager
async def signed_in(
    server: Server, user_id: str, *, storage: MemoryStorage | None = None, device_id: str | None = None
) -> AsyncIterator[Session]:
    async with server.http() as http:
        api = ProviderApi(
            f"https://{server.name}", token=None, http=http, clock=system_clock, ids=secrets.token_urlsafe
        )
        login = await api.login(user_id, PASSWORD, device_id=device_id)
        device = MlsDevice.open(storage or MemoryStorage(), user_id=user_id, device_id=login.device_id)
        session = Session(api.with_login(login), device)
        await session.upload_key_packages()
        yield session


async def encrypted_room(session: Session) -> str:
    room_id = await session.api.create_room(
        creation_content={"encryption": {"algorithm": ALGORITHM}}, preset="private_chat"
    )
    await session.groups.create(room_id)
    return room_id


def read(session: Session) -> list[Item]:
    items = list(session.device.state.inbox)
    for item in items:
        session.device.acknowledge(item)
    return items


async def received(session: Session, kind: type[Item], count: int = 1) -> list[Item]:
    """Follow until ``count`` items of a kind have come."""
    found: list[Item] = []
    with trio.fail_after(20):
        while len(found) < count:
            await session.step(2000)
            found += [item for item in read(session) if isinstance(item, kind)]
    return found


@pytest.fixture
async def network() -> Network:
    return Network()


async def test_a_user_of_another_provider_is_added_and_messages_flow_both_ways(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, ["@bob:b.example"])
        await received(bob, Joined)
        await alice.send(room_id, text("Hello Bob", salt=secrets.token_bytes(16)))
        (message,) = await received(bob, DecryptedMessage)
        assert isinstance(message, DecryptedMessage)
        assert message.sender_uri == "mimi://a.example/u/alice"
        assert b"Hello Bob" in message.content.encode()
        await bob.send(room_id, text("Hello Alice", salt=secrets.token_bytes(16)))
        (answer,) = await received(alice, DecryptedMessage)
        assert isinstance(answer, DecryptedMessage)
        assert answer.sender_uri == "mimi://b.example/u/bob"


async def shared_room(alice: Session, bob: Session, *, role: int = ROLE_REGULAR) -> str:
    room_id = await encrypted_room(alice)
    await alice.groups.invite(room_id, ["@bob:b.example"], roles={"@bob:b.example": role})
    await received(bob, Joined)
    return room_id


async def say(session: Session, room_id: str, body: str) -> None:
    await session.send(room_id, text(body, salt=secrets.token_bytes(16)))


def bodies(items: list[Item]) -> list[str]:
    parts = [item.content.part for item in items if isinstance(item, DecryptedMessage)]
    return [part.text for part in parts if isinstance(part, SinglePart)]


async def test_a_client_that_lost_its_state_rejoins_through_its_own_provider(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob"), device_id="PHONE") as bob,
    ):
        room_id = await shared_room(alice, bob)
        async with signed_in(b, "@bob:b.example", device_id="PHONE") as again:
            await again.groups.join(room_id)
            await received(alice, EpochChanged)
            await say(alice, room_id, "Still here?")
            assert bodies(await received(again, DecryptedMessage)) == ["Still here?"]
            await say(again, room_id, "Yes")
            assert bodies(await received(alice, DecryptedMessage)) == ["Yes"]
        leaves = [owner.user_id for owner in alice.device.members(room_id).values()]
        assert sorted(leaves) == ["@alice:a.example", "@bob:b.example"]


async def test_what_was_sent_while_a_provider_was_away_arrives_once_and_in_order(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        signed_in(a, await a.user("alice")) as alice,
    ):
        storage = MemoryStorage()
        async with (
            running_server("b.example", tmp_path, network) as b,
            signed_in(b, await b.user("bob"), storage=storage, device_id="PHONE") as bob,
        ):
            room_id = await shared_room(alice, bob)
        for number in range(5):
            await say(alice, room_id, f"{number}")
        async with (
            running_server("b.example", tmp_path, network) as b,
            signed_in(b, "@bob:b.example", storage=storage, device_id="PHONE") as bob,
        ):
            assert bodies(await received(bob, DecryptedMessage, 5)) == ["0", "1", "2", "3", "4"]
            a.node.followers.contacted("b.example")
            await bob.catch_up()
            assert read(bob) == []


async def test_a_hub_started_again_goes_on_with_the_same_log_and_group(
    network: Network, tmp_path: Path
) -> None:
    alice_storage, bob_storage = MemoryStorage(), MemoryStorage()
    async with running_server("b.example", tmp_path, network) as b:
        async with (
            running_server("a.example", tmp_path, network) as a,
            signed_in(a, await a.user("alice"), storage=alice_storage, device_id="PC") as alice,
            signed_in(b, await b.user("bob"), storage=bob_storage, device_id="PHONE") as bob,
        ):
            room_id = await shared_room(alice, bob)
            before = a.node.rooms.row(room_id)
        async with (
            running_server("a.example", tmp_path, network) as a,
            signed_in(a, "@alice:a.example", storage=alice_storage, device_id="PC") as alice,
            signed_in(b, "@bob:b.example", storage=bob_storage, device_id="PHONE") as bob,
        ):
            assert a.node.rooms.row(room_id) == before
            await say(bob, room_id, "Back?")
            assert bodies(await received(alice, DecryptedMessage)) == ["Back?"]
            await alice.groups.update_keys(room_id)
            await say(alice, room_id, "Back")
            assert bodies(await received(bob, DecryptedMessage)) == ["Back"]


async def test_a_provider_that_is_down_delays_no_other(network: Network, tmp_path: Path) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
        signed_in(c, await c.user("cathy")) as cathy,
    ):
        room_id = await shared_room(alice, bob)
        await alice.groups.invite(room_id, ["@cathy:c.example"])
        await received(cathy, Joined)
        network.down.add("b.example")
        await say(alice, room_id, "Without b")
        assert bodies(await received(cathy, DecryptedMessage)) == ["Without b"]
        network.down.remove("b.example")
        a.node.followers.contacted("b.example")
        assert bodies(await received(bob, DecryptedMessage)) == ["Without b"]


async def test_a_user_of_one_guest_adds_a_user_of_another(network: Network, tmp_path: Path) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
        signed_in(c, await c.user("cathy")) as cathy,
    ):
        room_id = await shared_room(alice, bob, role=ROLE_ADMIN)
        await bob.groups.invite(room_id, ["@cathy:c.example"])
        await received(cathy, Joined)
        await received(alice, EpochChanged)
        await say(cathy, room_id, "Hello all")
        assert bodies(await received(alice, DecryptedMessage)) == ["Hello all"]
        assert bodies(await received(bob, DecryptedMessage)) == ["Hello all"]
        assert not [entry for entry in network.log if entry[:2] == ("b.example", "c.example")]


async def test_a_removed_user_is_out_of_room_and_group_and_hears_no_more(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        await alice.groups.remove_users(room_id, ["@bob:b.example"])
        await received(bob, GroupLost)
        network.log.clear()
        await say(alice, room_id, "In private")
        assert not a.node.rooms.is_participant(room_id, "b.example")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not [entry for entry in network.log if "notify" in entry[3]]
        with pytest.raises(ClientError):
            await say(bob, room_id, "Me too")
