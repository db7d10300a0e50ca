"""An hour of an encrypted room: people come, go and come back, servers are restarted, everybody talks; at its
end every epoch is agreed on, and every message was read by exactly those who were there.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import trio
import trio.lowlevel
import trio.testing

from linearized.client import ROLE_ADMIN, ApiError, DecryptedMessage, Joined, NotInGroup, Undecryptable
from linearized.mimi.content import SinglePart
from linearized.room.admission import ALGORITHM
from tests.simulation.checks import everybody_agrees, log
from tests.simulation.devices import Device, sign_in, until
from tests.simulation.inhabitants import inhabited
from tests.simulation.world import ALICE, ANNA, BILL, BOB, CAROL, SEEDS, VERSION, A, B, C, World, clock, world


@dataclass
class Hour:
    """The room, its devices, and what was said: by body, the device and the event it became."""

    world: World
    random: random.Random
    room: str
    devices: dict[str, Device]
    said: dict[str, tuple[Device, str]] = field(default_factory=dict)
    count: int = 0

    @property
    def alice(self) -> Device:
        return self.devices["alice's phone"]

    def inside(self) -> list[Device]:
        """The devices that are in the group, as far as they know."""
        return [found for found in self.devices.values() if found.session.device.in_group(self.room)]

    async def say(self, device: Device) -> None:
        self.count += 1
        body = f"secret {self.count}"
        try:
            self.said[body] = (device, await device.say(self.room, body))
        except (NotInGroup, ApiError):
            # Removed while it spoke, before it knew.
            assert device.user_id not in self.world.members(self.room)

    async def talk(self) -> None:
        """Every device in the group says something, all at once; then time goes by."""
        async with trio.open_nursery() as nursery:
            for device in self.inside():
                nursery.start_soon(self.say, device)
        await trio.sleep(self.random.uniform(1, 60))

    async def restart_amid_talk(self, name: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.talk)
            await trio.lowlevel.checkpoint()
            await self.world.restart(name)
        await self.settled()

    async def settled(self) -> None:
        """Wait until all have everything: the servers their copies, the devices the hub's epoch."""
        await self.world.settled()
        await until(lambda: all(self.epoch(device) == self.hub_epoch() for device in self.inside()))

    def epoch(self, device: Device) -> int:
        return device.session.device.epoch(self.room)

    def hub_epoch(self) -> int | None:
        return self.world.row(A, self.room).epoch

    async def add(self, who: Device, *names: str, admin: bool = False) -> None:
        """Have a device add all devices of the users of others, and wait until these are in."""
        added = [self.devices[name] for name in names]
        users = sorted({device.user_id for device in added})
        roles = dict.fromkeys(users, ROLE_ADMIN) if admin else {}
        await who.insist(lambda: who.session.groups.invite(self.room, users, roles=roles))
        await until(lambda: all(device in self.inside() for device in added))

    async def commit(self, who: Device) -> None:
        """New keys, and out with whoever has left."""
        await who.insist(who.session.catch_up)
        await who.insist(lambda: who.session.groups.update_keys(self.room))

    # --- what happens ---

    async def people_come(self) -> None:
        for user_id in (BOB, CAROL):
            await self.world.join(user_id, self.room)
        await self.add(self.alice, "bob's phone", "bob's tablet", admin=True)
        await self.talk()
        await self.add(self.devices["bob's tablet"], "carol's phone")
        await self.talk()

    async def a_leaf_for_the_hubs_own(self) -> None:
        await self.world.join(ANNA, self.room)
        await self.add(self.devices["bob's phone"], "anna's phone")
        await self.talk()

    async def somebody_is_removed_and_comes_back(self) -> None:
        await self.settled()
        await self.alice.insist(lambda: self.alice.session.groups.remove_users(self.room, [CAROL]))
        await self.talk()
        await until(lambda: self.devices["carol's phone"] not in self.inside())
        await self.talk()
        await self.world.join(CAROL, self.room)
        await self.add(self.alice, "carol's phone")
        await self.talk()

    async def somebody_leaves_and_another_of_their_server_comes(self) -> None:
        await self.world.member(BOB, self.room, BOB, "leave")
        await self.talk_without(BOB)
        await self.commit(self.alice)
        await self.talk_without(BOB)
        await self.world.join(BILL, self.room)
        await self.add(self.alice, "bill's phone")
        await self.talk_without(BOB)

    async def talk_without(self, user_id: str) -> None:
        """As ``talk``; who has left does not know yet that nobody listens."""
        async with trio.open_nursery() as nursery:
            for device in self.inside():
                if device.user_id != user_id:
                    nursery.start_soon(self.say, device)
        await trio.sleep(self.random.uniform(1, 60))

    async def a_server_is_away(self) -> None:
        """Commits and messages go on; what its device missed it reads afterwards, epoch by epoch."""
        await self.world.stop(C)
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for device in self.inside():
                    if device.user_id not in (BOB, CAROL):
                        nursery.start_soon(self.say, device)
            await self.commit(self.alice)
        await self.world.start(C)
        await self.settled()

    async def commits_race(self) -> None:
        async with trio.open_nursery() as nursery:
            for device in self.inside():
                if device.user_id != BOB:
                    nursery.start_soon(self.commit, device)
                    nursery.start_soon(self.say, device)
        await self.settled()


def read_by_exactly_those_inside(hour: Hour) -> None:
    """Nobody who was there missed a message, nobody else read one, and nobody read one twice."""
    walked = inhabited(hour.room, log(hour.world, A, hour.room), version=VERSION, clock=clock)
    there = {event_id: set(devices) for event_id, devices in walked.items()}
    senders = {event_id: (device, body) for body, (device, event_id) in hour.said.items()}
    assert there.keys() == senders.keys()
    epochs = {entry.event_id: entry.epoch for entry in log(hour.world, A, hour.room)}
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for device in hour.devices.values():
        for item in device.read:
            if isinstance(item, DecryptedMessage):
                sender, body = senders[item.event_id]
                part = item.content.part
                assert isinstance(part, SinglePart)
                assert (part.text, item.client_uri) == (body, sender.client_uri)
                assert item.epoch == epochs[item.event_id]
                readers[item.event_id].append(device.client_uri)
            if isinstance(item, Undecryptable):
                assert item.expected, (device.client_uri, item)
    for event_id, (sender, _) in senders.items():
        assert sorted(readers[event_id]) == sorted(there[event_id] - {sender.client_uri}), event_id


def epochs_are_agreed(hour: Hour) -> None:
    """Whoever is in the group is in the hub's epoch, and derives the same secrets from it."""
    inside = hour.inside()
    assert {hour.epoch(device) for device in inside} == {hour.hub_epoch()}
    groups = [device.session.device.group(hour.room) for device in inside]
    assert len({group.epoch_authenticator() for group in groups}) == 1
    assert {member.identity.decode() for member in groups[0].members()} == {
        device.client_uri for device in inside
    }


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_after_an_hour_every_message_was_read_by_exactly_its_epochs_members(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        world(tmp_path) as servers,
        httpx.AsyncClient(transport=servers.network.transport(""), timeout=None) as http,  # noqa: S113 - the SDK's
        trio.open_nursery() as nursery,
    ):
        devices: dict[str, Device] = {}
        for name, user_id in {
            "alice's phone": ALICE, "anna's phone": ANNA, "bob's phone": BOB, "bob's tablet": BOB,
            "bill's phone": BILL, "carol's phone": CAROL,
        }.items():  # fmt: skip
            devices[name] = await sign_in(servers, user_id, name.split()[1].upper(), http)
            nursery.start_soon(devices[name].follow)
        room_id = await servers.create(ALICE, "public", encryption=ALGORITHM)
        hour = Hour(servers, random.Random(seed), room_id, devices)  # noqa: S311 - choices that can be made again
        await hour.alice.session.groups.create(room_id)
        await hour.people_come()
        for name in (B, A):
            await hour.restart_amid_talk(name)
        await hour.a_leaf_for_the_hubs_own()
        await hour.somebody_is_removed_and_comes_back()
        await hour.restart_amid_talk(C)
        await hour.somebody_leaves_and_another_of_their_server_comes()
        await hour.a_server_is_away()
        await hour.commits_race()
        await hour.restart_amid_talk(A)
        await hour.settled()
        await trio.sleep(120)
        assert (hour.hub_epoch() or 0) > 12
        assert len(hour.said) > 40
        assert [device.user_id for device in hour.inside()] == [ALICE, ANNA, BILL, CAROL]
        epochs_are_agreed(hour)
        read_by_exactly_those_inside(hour)
        assert sum(isinstance(item, Joined) for item in devices["carol's phone"].read) == 2
        await everybody_agrees(servers, whole={})
        nursery.cancel_scope.cancel()
