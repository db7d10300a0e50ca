"""Leaving rooms: whoever goes is out of the room at once, and soon after out of its MLS group, everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from linearized.client import ApiError, GroupLost, Joined, Session
from linearized.client.tidying import Tidying
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import encrypted_room, read, received, say, shared_room, signed_in


@pytest.fixture
async def network() -> Network:
    return Network()


def membership(server: Server, room_id: str, user_id: str) -> str:
    rows = {row.user_id: row.membership for row in server.node.store.memberships(room_id)}
    return rows[user_id]


def leaves(session: Session, room_id: str) -> list[str]:
    return sorted(owner.user_id for owner in session.device.members(room_id).values())


async def test_a_user_of_another_provider_leaves_and_is_gone_with_the_next_commit(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob"), device_id="PHONE") as bob,
        signed_in(b, "@bob:b.example", device_id="TABLET") as tablet,
    ):
        room_id = await shared_room(alice, bob)
        await tablet.groups.join(room_id)
        await alice.catch_up()
        assert leaves(alice, room_id) == ["@alice:a.example", "@bob:b.example", "@bob:b.example"]
        await bob.leave(room_id)
        assert membership(a, room_id, "@bob:b.example") == "leave"
        assert membership(b, room_id, "@bob:b.example") == "leave"
        with pytest.raises(ApiError):
            await say(tablet, room_id, "I am still here")
        await alice.catch_up()
        await say(alice, room_id, "Now we are alone")
        assert leaves(alice, room_id) == ["@alice:a.example"]
        await bob.catch_up()
        assert [type(item) for item in read(bob)][-1] is GroupLost
        assert not bob.device.in_group(room_id)
        # And may be added again.
        await alice.groups.invite(room_id, ["@bob:b.example"])
        await received(bob, Joined)
        assert membership(b, room_id, "@bob:b.example") == "join"


async def test_members_remove_who_left_without_being_asked(network: Network, tmp_path: Path) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(a, await a.user("anna")) as anna,
    ):
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, ["@anna:a.example"])
        await received(anna, Joined)
        await anna.api.leave(room_id)
        await alice.catch_up()
        assert leaves(alice, room_id) == ["@alice:a.example", "@anna:a.example"]
        alice._tidying = Tidying(alice.device, clock=alice.api.clock, draw=lambda: 0.0)
        alice._tidying.look([room_id])
        await alice.tidy()
        assert leaves(alice, room_id) == ["@alice:a.example"]
        assert alice._tidying.due() == []
