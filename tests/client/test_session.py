from __future__ import annotations

from linearized.client import (
    DecryptedMessage,
    EpochChanged,
    GroupLost,
    Joined,
    MemoryStorage,
    OwnMessage,
    Undecryptable,
)
from linearized.mimi.handshake import HandshakeBundle, RatchetTreeOption, RatchetTreeRepresentation
from linearized.mimi.key_material import RequiredCapabilities
from tests.client.fake_provider import FakeProvider
from tests.client.support import ALICE, BOB, CAROL, ROOM, connected, drain, message


async def test_a_user_who_was_added_reads_and_writes() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        sent = await alice.send(ROOM, message("hello"))
        items = await drain(bob)
        assert [item.epoch for item in items if isinstance(item, Joined)] == [2]
        (got,) = [item for item in items if isinstance(item, DecryptedMessage)]
        assert got.sender_uri == "mimi://a.example/u/alice"
        assert got.event_id == sent.event_id
        assert got.message_id == sent.message_id
        await bob.send(ROOM, message("and back"))
        (back,) = [item for item in await drain(alice) if isinstance(item, DecryptedMessage)]
        assert back.client_uri == "mimi://a.example/d/bob/DEV"
        assert alice.device.participants(ROOM).role_of("mimi://a.example/u/bob") == 1


async def test_a_commit_is_sent_without_what_the_hub_works_out_of_it() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice:
        await alice.groups.create(ROOM)
        pending = alice.device.stage(ROOM, lambda group: group.commit())
        assert pending is not None
        bundle = HandshakeBundle.decode(pending.bundle)
        by_hub = RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE)
        assert bundle.ratchet_tree == by_hub
        assert bundle.group_info is not None
        assert bundle.group_info.full is None


async def test_key_packages_are_asked_for_with_what_the_group_requires() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.key_packages(ROOM, BOB)
        (asked,) = provider.asked
        required = alice.device.group(ROOM).required_capabilities()
        assert required is not None
        assert asked.required_capabilities == RequiredCapabilities(
            extension_types=required.extensions,
            proposal_types=required.proposals,
            credential_types=required.credentials,
        )
        assert asked.required_capabilities != RequiredCapabilities()


async def test_a_sender_sees_its_own_message_once_and_without_decrypting() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice:
        await alice.groups.create(ROOM)
        content = message("mine")
        sent = await alice.send(ROOM, content, txn_id="t1")
        again = await alice.send(ROOM, content, txn_id="t1")
        assert again == sent
        own = [item for item in await drain(alice) if isinstance(item, OwnMessage)]
        assert [(item.transaction_id, item.content) for item in own] == [("t1", content)]
        assert not alice.device.state.outbox


async def test_the_loser_of_a_race_between_two_commits_commits_after_the_winner() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB, CAROL)
    async with (
        connected(provider, ALICE) as alice,
        connected(provider, BOB) as bob,
        connected(provider, CAROL) as carol,
    ):
        for session in (bob, carol):
            await session.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        await alice.groups.update_keys(ROOM)
        await bob.groups.invite(ROOM, [CAROL])  # staged one epoch behind
        await drain(carol)
        await drain(alice)
        assert alice.device.epoch(ROOM) == bob.device.epoch(ROOM) == carol.device.epoch(ROOM) == 4
        await carol.send(ROOM, message("hi"))
        assert [type(item) for item in await drain(alice) if isinstance(item, DecryptedMessage)]


async def test_a_message_overtaken_by_a_commit_is_encrypted_again() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        await alice.groups.update_keys(ROOM)
        await bob.send(ROOM, message("late"))
        got = [item for item in await drain(alice) if isinstance(item, DecryptedMessage)]
        assert [item.epoch for item in got] == [3]


async def test_a_commit_that_is_still_on_its_way_is_waited_for() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        provider.late.add(BOB)
        await alice.groups.update_keys(ROOM)
        before = len(provider.requests)
        await bob.send(ROOM, message("late"))
        tries = [name for name in provider.requests[before:] if "/send/" in name]
        assert len(tries) == 2
        await alice.catch_up()
        await alice.groups.update_keys(ROOM)
        before = len(provider.requests)
        await bob.groups.update_keys(ROOM)
        tries = [name for name in provider.requests[before:] if name.endswith("/mls/update")]
        assert len(tries) == 2
        await drain(alice)
        assert alice.device.epoch(ROOM) == bob.device.epoch(ROOM) == 5


async def test_a_second_device_joins_by_itself_and_a_lost_one_rejoins_over_its_old_leaf() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB, "PHONE") as phone:
        await phone.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(phone)
        async with connected(provider, BOB, "LAPTOP") as laptop:
            await drain(laptop)
            await laptop.groups.join(ROOM)
            await drain(phone)
            await phone.send(ROOM, message("to both"))
            assert [i for i in await drain(laptop) if isinstance(i, DecryptedMessage)]
        async with connected(provider, BOB, "LAPTOP") as fresh:  # nothing was kept, not even the key
            await drain(fresh)
            await fresh.groups.join(ROOM)
            owners = [owner.device_id for owner in fresh.device.members(ROOM).values()]
            assert sorted(owners) == ["DEV", "LAPTOP", "PHONE"]
            await fresh.send(ROOM, message("again"))
            assert [i for i in await drain(phone) if isinstance(i, DecryptedMessage)]


async def test_a_device_far_behind_fills_the_gap_before_it_goes_on() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        for number in range(15):
            await alice.groups.update_keys(ROOM)
            await alice.send(ROOM, message(str(number)))
        items = await drain(bob)
        assert len([i for i in items if isinstance(i, DecryptedMessage)]) == 15
        assert not [i for i in items if isinstance(i, Undecryptable | GroupLost)]


async def test_a_device_that_hears_late_of_its_welcome_misses_nothing_said_since() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.send(ROOM, message("before"))
        await alice.groups.invite(ROOM, [BOB])
        for number in range(15):
            await alice.groups.update_keys(ROOM)
            await alice.send(ROOM, message(str(number)))
        items = await drain(bob)
        assert len([i for i in items if isinstance(i, DecryptedMessage)]) == 15
        assert not [i for i in items if isinstance(i, GroupLost)]


async def test_a_device_whose_state_is_older_than_the_log_remembers_rejoins() -> None:
    provider = FakeProvider()
    room = provider.room(ROOM, ALICE, BOB)
    storage = MemoryStorage()
    async with connected(provider, ALICE) as alice, connected(provider, BOB, storage=storage) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        await alice.groups.update_keys(ROOM)
        del room.log[-1]  # an entry that bob will never see
        await alice.groups.update_keys(ROOM)
        items = await drain(bob)
        assert [item.removed for item in items if isinstance(item, GroupLost)] == [False]
        await drain(bob)
        await drain(alice)
        assert bob.device.epoch(ROOM) == alice.device.epoch(ROOM)
        await alice.send(ROOM, message("welcome back"))
        assert [i for i in await drain(bob) if isinstance(i, DecryptedMessage)]


async def test_a_removed_user_hears_of_it_and_can_be_added_again() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE, BOB)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        await alice.groups.remove_users(ROOM, [BOB])
        assert alice.device.participants(ROOM).role_of("mimi://a.example/u/bob") is None
        await alice.groups.invite(ROOM, [BOB])  # both reach bob in one sync
        items = await drain(bob)
        assert [item.removed for item in items if isinstance(item, GroupLost)] == [True]
        assert [item.epoch for item in items if isinstance(item, Joined)] == [4]
        removed = [item.removed for item in items if isinstance(item, EpochChanged)]
        assert removed == [("mimi://a.example/d/bob/DEV",)]
        await bob.send(ROOM, message("back"))
        assert [i for i in await drain(alice) if isinstance(i, DecryptedMessage)]
