"""What a Matrix room says of how long it keeps messages goes with them into the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link, Phase
from bridges.matrix.retention import MAX_LIFETIME_MS, Retention
from linearized.mimi.content import Expiration, MimiContent
from tests.bridges.fake_homeserver import DOMAIN, FakeHomeserver, MatrixRoom
from tests.bridges.support import ALICE, AS_TOKEN, BOT, CAROL, MATRIX_ROOM
from tests.bridges.test_live import heard, talking


def keeps(homeserver: FakeHomeserver, room: MatrixRoom, lifetime: Any) -> None:
    content = {"max_lifetime": lifetime}
    homeserver.emit(room, ALICE, "m.room.retention", content, state_key="")


def ends(event_id: str, room: MatrixRoom, lifetime: int) -> Expiration:
    (sent,) = [e["origin_server_ts"] for e in room.timeline if e["event_id"] == event_id]
    return Expiration(relative=False, time=-(-(sent + lifetime) // 1000))


async def test_a_message_expires_when_its_room_forgets_it_and_its_edits_with_it(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):

        async def contents(count: int) -> list[MimiContent]:
            await world.settle()
            return [item.content for item in await heard(bob, count)]

        world.homeserver.say(room, ALICE, "for ever")
        assert [content.expires for content in await contents(1)] == [None]
        keeps(world.homeserver, room, 90_500)
        first = world.homeserver.say(room, ALICE, "for a while")
        relation = {"rel_type": "m.annotation", "event_id": first, "key": "+"}
        reaction = world.homeserver.emit(room, CAROL, "m.reaction", {"m.relates_to": relation})
        said, reacted = await contents(2)
        assert said.expires == ends(first, room, 90_500)
        assert reacted.expires == ends(reaction["event_id"], room, 90_500)
        # Longer from now on; but an edit changes nothing of a message but its text.
        keeps(world.homeserver, room, 1_000_000)
        new = {"m.new_content": {"msgtype": "m.text", "body": "y"}}
        replaced = {"m.relates_to": {"rel_type": "m.replace", "event_id": first}}
        world.homeserver.say(room, ALICE, "* y", extra={**new, **replaced})
        other = world.homeserver.say(room, ALICE, "longer")
        world.homeserver.emit(room, ALICE, "m.room.redaction", {"redacts": first}, redacts=first)
        edited, longer, deleted = await contents(3)
        assert edited.expires == said.expires
        assert longer.expires == ends(other, room, 1_000_000)
        assert deleted.expires is None
        keeps(world.homeserver, room, None)
        world.homeserver.say(room, ALICE, "for ever again")
        assert [content.expires for content in await contents(1)] == [None]


LINK = Link(matrix_room_id=MATRIX_ROOM, room_id="!r:a", phase=Phase.LIVE, walk_token=None, walked=True)


@pytest.mark.parametrize("lifetime", [0, -1, True, "1", MAX_LIFETIME_MS + 1, 2**53])
async def test_a_time_that_is_none_or_that_receivers_would_not_take_is_none(lifetime: object) -> None:
    homeserver = FakeHomeserver()
    room = homeserver.create(MATRIX_ROOM, ALICE)
    homeserver.member(room, BOT, "join")
    async with homeserver.http() as http:
        bot = HomeserverApi(f"https://{DOMAIN}", token=AS_TOKEN, http=http, user_id=BOT)
        retention = Retention(database=Database(":memory:"), bot=bot)
        event = {"origin_server_ts": 1000}
        keeps(homeserver, room, lifetime)
        assert await retention.expiration(LINK, event) is None
        keeps(homeserver, room, MAX_LIFETIME_MS)
        # Asked for once, until it changes.
        assert await retention.expiration(LINK, event) is None
        retention.changed(MATRIX_ROOM)
        found = await retention.expiration(LINK, event)
        assert found == Expiration(relative=False, time=MAX_LIFETIME_MS // 1000 + 1)
        # A clock that is no clock of our century says nothing of when a message ends.
        for sent in (None, "now", -(2**60), 2**60):
            assert await retention.expiration(LINK, {"origin_server_ts": sent}) is None
