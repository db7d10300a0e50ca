"""After a room has moved, its new hub is an external sender of its group, as the old one was."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized.client import EpochChanged, Session, tidying
from linearized.store.base import Role
from tests.interop.handover_support import Club, club
from tests.interop.hostile_hub import CAROL
from tests.interop.takeover_support import bereft
from tests.interop.test_moved_franks import check_log
from tests.server.support import Server
from tests.server.test_two_providers import received


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "TIDY_SPREAD_MS", 0)


def senders(session: Session, room_id: str) -> tuple[tuple[bytes, bytes], ...]:
    return session.device.group(room_id).external_senders()


def sender_of(server: Server) -> tuple[bytes, bytes]:
    return server.node.mls_signer.public_key, f"mimi://{server.name}".encode()


async def carol_leaves_and_the_hub_proposes_it(world: Club, others: list[Session]) -> None:
    await world.carol.api.leave(world.room_id)
    for session in others:
        while not session.device.pending(world.room_id):
            await session.step(2000)
    last = world.b.node.store.proposals(world.room_id, after=0, limit=100)[-1]
    assert last.sender == "@_mimi:b.example"
    await world.bob.groups.commit_pending(world.room_id)
    assert CAROL not in {owner.user_id for owner in world.bob.device.members(world.room_id).values()}


async def test_after_a_transfer_a_client_at_the_new_hub_puts_its_key_in(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        assert senders(world.bob, world.room_id) == (sender_of(world.a),)
        await world.hand_over()
        await world.bob.catch_up()
        assert world.bob.device.must_tidy(world.room_id)
        await world.bob.tidy()
        await received(world.alice, EpochChanged)
        for session in (world.bob, world.alice):
            assert senders(session, world.room_id) == (sender_of(world.b),)
            assert not session.device.must_tidy(world.room_id)
        await carol_leaves_and_the_hub_proposes_it(world, [world.bob, world.alice])
        check_log(world, world.b)


async def test_after_a_takeover_too(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await world.agreed()
        await world.ordered_by(world.b, "b.example", Role.HUB)
        await world.bob.catch_up()
        await world.bob.tidy()
        assert senders(world.bob, world.room_id) == (sender_of(world.b),)
        await carol_leaves_and_the_hub_proposes_it(world, [world.bob])
        check_log(world, world.b)


async def test_a_client_takes_no_sender_of_another_hub_from_its_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        await world.bob.catch_up()
        for found in (sender_of(world.c), None):

            async def given(_room_id: str, sender: tuple[bytes, bytes] | None = found) -> object:
                return sender

            monkeypatch.setattr(world.bob.api, "hub_sender", given)
            await world.bob.tidy()
            assert senders(world.bob, world.room_id) == (sender_of(world.a),)
            assert world.bob.device.must_tidy(world.room_id)
