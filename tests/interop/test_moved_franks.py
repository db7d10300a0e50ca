"""A room that moves to another hub is franked on: by the agent of each hub, in its term."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized.client import DecryptedMessage, EpochChanged, Session, tidying
from linearized.mimi.franking import agent_uri
from linearized.mimi.participants import FRANKING_AGENT
from linearized.room_check import check_room
from linearized.server.mls import OpenMls
from linearized.store.base import Role
from tests.interop.handover_support import Club, club
from tests.interop.hostile_hub import delivered
from tests.interop.takeover_support import bereft
from tests.server.support import Server
from tests.server.test_franking import check_stamp
from tests.server.test_two_providers import received, say


def agent(session: Session, room_id: str) -> str:
    return agent_uri(session.device.group(room_id).app_data()[FRANKING_AGENT])


async def heard(world: Club, sender: Session, receiver: Session, body: str) -> DecryptedMessage:
    await say(sender, world.room_id, body)
    while True:  # there may be others that it has not read
        for message in await received(receiver, DecryptedMessage):
            assert isinstance(message, DecryptedMessage)
            if body.encode() in message.payload:
                return message


async def renewed(world: Club, session: Session, hub: str, *others: Session) -> None:
    """A client at the new hub does what is its to do, once the move is known to it."""
    await session.catch_up()
    assert session.device.must_tidy(world.room_id)
    assert not any(other.device.must_tidy(world.room_id) for other in others)
    await session.tidy()
    for other in others:
        await received(other, EpochChanged)
    for one in (session, *others):
        assert agent(one, world.room_id) == f"mimi://{hub}"
        assert not one.device.must_tidy(world.room_id)


def check_log(world: Club, server: Server) -> None:
    keys = {
        (one.name, key_id): key
        for one in (world.a, world.b, world.c)
        for key_id, key in one.node.identity.verify_keys.items()
    }
    check_room(
        server.node.store,
        world.room_id,
        keys=lambda name, key_id: keys.get((name, key_id)),
        mls=OpenMls(server.node.clock),
    )


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "TIDY_SPREAD_MS", 0)


async def test_a_new_hub_stamps_with_its_own_agent_once_a_client_of_its_has_named_it(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        old = await heard(world, world.bob, world.alice, "before")
        check_stamp(world.a, world.room_id, old)
        await world.hand_over()
        # Until a commit names its agent, the new hub stamps nothing, and nobody misses it.
        between = await heard(world, world.alice, world.bob, "between")
        assert between.frank is None
        await renewed(world, world.bob, "b.example", world.alice, world.carol)
        for sender in (world.alice, world.carol):
            check_stamp(world.b, world.room_id, await heard(world, sender, world.bob, "after"))
        check_log(world, world.b)


async def test_what_the_old_hub_stamped_can_still_be_reported_to_it(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        old = await heard(world, world.bob, world.alice, "something rude")
        await world.hand_over()
        await world.ordered_by(world.a, "b.example", Role.PARTICIPANT)
        await renewed(world, world.bob, "b.example", world.alice, world.carol)
        new = await heard(world, world.alice, world.bob, "and back")
        world.network.log.clear()
        await world.alice.report(old, reason="rude")
        await world.bob.report(new, reason="rude as well")
        for server, reporter in ((world.a, world.alice), (world.b, world.bob)):
            (report,) = server.node.store.reports(closed=False, limit=10)
            assert (report.reporter, report.verified) == (reporter.device.owner.user_id, 1)
        assert not [path for *_, path in world.network.log if "reportAbuse" in path]


async def test_a_room_that_comes_back_has_each_hubs_stamp_in_its_term(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        first = await heard(world, world.bob, world.alice, "first term")
        await world.hand_over()
        await renewed(world, world.bob, "b.example", world.alice, world.carol)
        await heard(world, world.carol, world.bob, "second term")
        await world.b.node.moves.transfer(world.room_id, "a.example")
        await world.ordered_by(world.a, "a.example", Role.HUB)
        await renewed(world, world.alice, "a.example", world.bob, world.carol)
        last = await heard(world, world.carol, world.alice, "third term")
        check_stamp(world.a, world.room_id, last)
        await delivered(world.a, world.room_id)
        stamped = [
            [
                server.node.franking.of_entry(entry) is not None
                for entry in server.node.store.entries(world.room_id, after=0, limit=1000)
                if entry.type == "m.room.encrypted"
            ]
            for server in (world.a, world.b, world.c)
        ]
        assert stamped == [[True, False, True], [False, True, False], [False, False, False]]
        check_stamp(world.a, world.room_id, first)
        check_log(world, world.a)


async def test_a_client_takes_no_agent_of_another_hub_from_its_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        await world.bob.catch_up()
        for agents in (dict(world.c.node.franking.agents), {}):

            async def given(found: dict[int, bytes] = agents) -> dict[int, bytes]:
                return found

            monkeypatch.setattr(world.bob.api, "franking_agents", given)
            await world.bob.tidy()
            assert agent(world.bob, world.room_id) == "mimi://a.example"
            assert world.bob.device.must_tidy(world.room_id)


async def test_after_a_takeover_the_new_hub_stamps_with_its_own_agent(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        await renewed(world, world.bob, "b.example", world.carol)
        check_stamp(world.b, world.room_id, await heard(world, world.carol, world.bob, "after"))
        check_log(world, world.b)
