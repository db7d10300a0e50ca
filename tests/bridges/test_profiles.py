from __future__ import annotations

from pathlib import Path
from typing import Any

from linearized.client import Session
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import ALICE, CAROL, World
from tests.bridges.test_membership import in_log
from tests.bridges.test_shared_state import DAN, GHOST, shared

ERIN = f"@erin:{DOMAIN}"


async def rename(world: World, dan: Session, **profile: Any) -> None:
    content = {"membership": "join", **profile}
    await dan.api.send_state(world.room_id(), "m.room.member", DAN, content)
    await world.settle()


async def test_a_ghost_has_the_name_and_picture_its_person_has_in_the_room(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, _, dan):
        assert world.homeserver.names[GHOST] == "dan (a.example)"
        picture = await dan.api.upload_media(b"a face", content_type="image/png")
        await rename(world, dan, displayname="Danny", avatar_url=picture)
        assert world.homeserver.names[GHOST] == f"Danny ({DAN})"
        shown = world.homeserver.avatars[GHOST]
        assert world.homeserver.media[shown.rpartition("/")[2]][0] == b"a face"
        # The same once more: homeservers tell every room of a profile that is set.
        world.homeserver.requests.clear()
        await rename(world, dan, displayname="Danny", avatar_url=picture, extra=1)
        assert not [one for one in world.homeserver.requests if "profile" in one or "upload" in one]
        await rename(world, dan, displayname="\u202ealice")
        assert world.homeserver.names[GHOST] == f"alice ({DAN})"
        assert world.homeserver.avatars[GHOST] == shown
        await rename(world, dan, displayname=7, avatar_url="https://evil.example/face")
        await rename(world, dan, avatar_url="mxc://a.example/gone")
        assert world.homeserver.names[GHOST] == f"alice ({DAN})"
        assert world.homeserver.avatars[GHOST] == shown


async def test_a_homeserver_users_name_and_picture_are_theirs_in_the_log(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        face = world.homeserver.upload(b"carol", "image/png")
        world.homeserver.member(room, CAROL, "join", displayname="\u202eCarol\u202c", avatar_url=face)
        await world.settle()
        entry = await in_log(world, CAROL)
        assert entry["displayname"] == "Carol"
        server, media_id = entry["avatar_url"].removeprefix("mxc://").split("/")
        assert await dan.api.download_media(server, media_id) == b"carol"
        world.homeserver.users.add(ERIN)
        world.homeserver.member(room, ERIN, "join", displayname="Erin", avatar_url=f"mxc://{DOMAIN}/gone")
        await world.settle()
        assert await in_log(world, ERIN) == {"sender": ERIN, "membership": "join", "displayname": "Erin"}
        world.homeserver.member(room, ERIN, "join", displayname="", reason="no profile")
        await world.settle()
        assert await in_log(world, ERIN) == {"sender": ERIN, "membership": "join"}


async def test_many_who_join_at_once_have_their_names(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        crowd = [f"@guest{number}:{DOMAIN}" for number in range(3)]
        for user in crowd:
            world.homeserver.users.add(user)
            world.homeserver.member(room, user, "join", displayname=f"Guest {user[6]}")
        await world.settle()
        assert [(await in_log(world, user))["displayname"] for user in crowd] == [
            "Guest 0",
            "Guest 1",
            "Guest 2",
        ]
        assert (await in_log(world, ALICE))["displayname"] == "alice"
