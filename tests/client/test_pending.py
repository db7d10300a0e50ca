"""Devices and proposals: committing those of others, leaving, and what a hub refuses."""

from __future__ import annotations

import httpx
import pytest

from linearized.client import ApiError, GroupLost, NotInGroup, ServerUnreachable, Session
from linearized.client.errors import CommitRefused
from linearized.client.pending import is_leaving, list_changes
from linearized.mimi.handshake import HandshakeBundle, UpdateResponseCode, UpdateRoomResponse
from linearized.room.proposals import content_of
from tests.client.fake_provider import FakeProvider
from tests.client.support import ALICE, BOB, CAROL, ROOM, connected, drain, message


async def group_of(alice: Session, *others: Session) -> None:
    for session in others:
        await session.upload_key_packages()
    await alice.groups.create(ROOM)
    await alice.groups.invite(ROOM, [session.device.owner.user_id for session in others])
    for session in others:
        await drain(session)


def users(session: Session) -> list[str]:
    return sorted(owner.user_id for owner in session.device.members(ROOM).values())


async def test_who_leaves_is_removed_by_the_next_who_says_something() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)
        assert await bob.groups.leave(ROOM) is not None
        assert bob.device.record(ROOM).leaving is None
        assert await bob.groups.leave(ROOM) is None, "the hub knows"
        with pytest.raises(NotInGroup):
            await bob.send(ROOM, message("one more thing"))
        await alice.catch_up()
        assert bob.device.must_tidy(ROOM) is False
        assert alice.device.must_tidy(ROOM) is True
        assert [found.removed for found in list_changes(alice.device.group(ROOM))] == [
            ("mimi://a.example/u/bob",)
        ]
        await alice.send(ROOM, message("alone"))
        assert users(alice) == [ALICE]
        assert alice.device.participants(ROOM).role_of("mimi://a.example/u/bob") is None
        assert any(isinstance(item, GroupLost) and item.removed for item in await drain(bob))


@pytest.mark.usefixtures("asked_once")
async def test_a_leave_whose_answer_was_lost_is_sent_again_as_it_was() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)

        def away(when: str, request: httpx.Request) -> None:
            if when == "before" and request.url.path.endswith("/update"):
                raise httpx.ConnectError("away")

        provider.fault = away
        with pytest.raises(ServerUnreachable):
            await bob.groups.leave(ROOM)
        provider.fault = None
        first = bob.device.record(ROOM).leaving
        assert first is not None
        await bob.groups.leave(ROOM)
        (sent,) = [event for event in provider.rooms[ROOM].log if event["type"] == "m.mls.proposal"]
        bundle = HandshakeBundle.decode(first)
        assert sent["content"] == content_of((bundle.message, *bundle.more_proposals))


async def test_a_leave_that_a_commit_overtook_is_proposed_anew() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)
        await alice.groups.update_keys(ROOM)
        await bob.groups.leave(ROOM)
        await drain(alice)
        await alice.groups.commit_pending(ROOM)
        assert users(alice) == [ALICE]


async def test_a_leave_that_the_hub_does_not_take_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)

        async def refuse(*_: object, **__: object) -> tuple[bytes, None]:
            return UpdateRoomResponse(code=UpdateResponseCode.NOT_ALLOWED, description="no").encode(), None

        with monkeypatch.context() as patched:
            patched.setattr(bob.api, "update", refuse)
            with pytest.raises(CommitRefused):
                await bob.groups.leave(ROOM)
        assert bob.device.pending(ROOM) == set()
        assert not is_leaving(bob.device.group(ROOM))
        await bob.send(ROOM, message("still here"))


async def test_a_proposal_that_does_not_hold_any_more_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with (
        connected(provider, ALICE) as alice,
        connected(provider, BOB) as bob,
        connected(provider, CAROL) as carol,
    ):
        await group_of(alice, bob, carol)
        await bob.groups.leave(ROOM)
        await alice.catch_up()
        named = alice.device.pending(ROOM)
        real, answers = alice.api.update, [named]

        async def update(room_id: str, bundle: bytes, **more: object) -> tuple[bytes, str | None]:
            if answers:
                code, stale = UpdateResponseCode.INVALID_PROPOSAL, tuple(answers.pop())
                return UpdateRoomResponse(code=code, invalid_proposals=stale).encode(), None
            return await real(room_id, bundle, initial_group=None)

        monkeypatch.setattr(alice.api, "update", update)
        await alice.groups.update_keys(ROOM)
        assert users(alice) == [ALICE, BOB, CAROL]


async def test_a_proposal_that_only_a_hub_takes_for_good_costs_nobody_the_group() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)
        bundle = HandshakeBundle.decode(bob.device.propose_leave(ROOM))
        spoilt = bundle.message[:-1] + bytes([bundle.message[-1] ^ 1])  # its membership tag
        content = content_of((spoilt, spoilt))
        provider.append(provider.rooms[ROOM], BOB, "m.mls.proposal", content)
        items = await drain(alice)
        assert not [item for item in items if isinstance(item, GroupLost)]
        assert alice.device.pending(ROOM) == set()
        await alice.send(ROOM, message("we go on"))


async def test_outside_of_a_group_nothing_is_pending() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice:
        await group_of(alice)
        assert alice.device.drop_proposals(ROOM, {b"unknown"}) is False
        elsewhere = "!elsewhere:a.example"
        assert alice.device.drop_proposals(elsewhere, {b"unknown"}) is False
        assert alice.device.pending(elsewhere) == set()
        assert alice.device.must_tidy(elsewhere) is False
        with pytest.raises(NotInGroup):
            await alice.groups.leave(elsewhere)


@pytest.mark.parametrize("takes_proposals", [True, False])
@pytest.mark.parametrize("status", [None, 403, 500])
async def test_a_session_leaves_by_proposals_where_it_can_and_by_the_event_everywhere(
    monkeypatch: pytest.MonkeyPatch, takes_proposals: bool, status: int | None
) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await group_of(alice, bob)
        asked: list[str] = []

        async def leave(room_id: str) -> None:
            asked.append(room_id)
            if status is not None:
                raise ApiError(status, "M_FORBIDDEN", "you are not in the room")

        async def refuse(*_: object, **__: object) -> tuple[bytes, None]:
            return UpdateRoomResponse(code=UpdateResponseCode.INVALID_PROPOSAL).encode(), None

        monkeypatch.setattr(bob.api, "leave", leave)
        if not takes_proposals:
            monkeypatch.setattr(bob.api, "update", refuse)
        if status is None or (takes_proposals and status == 403):
            await bob.leave(ROOM)
        else:
            with pytest.raises(ApiError):
                await bob.leave(ROOM)
        assert asked == [ROOM]
        proposed = [event for event in provider.rooms[ROOM].log if event["type"] == "m.mls.proposal"]
        assert len(proposed) == takes_proposals
