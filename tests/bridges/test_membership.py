from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.client import ApiError, Session
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, BOB, BOT, CAROL, GHOST_BOB, World
from tests.bridges.test_live import by, talking
from tests.bridges.test_shared_state import DAN, GHOST, promote, shared
from tests.client.support import drain

ERIN, GUS = f"@erin:{DOMAIN}", f"@gus:{DOMAIN}"
FRED = "@fred:a.example"
GHOST_FRED = f"@_lin_a.example_fred:{DOMAIN}"


async def in_log(world: World, user: str) -> dict[str, Any]:
    event = await world.bridge.puppets.bot.api.state_event(world.room_id(), "m.room.member", user)
    return {"sender": event["sender"], **event["content"]}


def in_matrix(world: World, room: MatrixRoom, user: str) -> dict[str, Any]:
    event = world.homeserver.state(room)["m.room.member", user]
    return {
        name: value
        for name, value in {"sender": event["sender"], **event["content"]}.items()
        if name != "displayname"
    }


def in_group(world: World) -> set[str]:
    return {owner.user_id for owner in world.bridge.puppets.bot.device.members(world.room_id()).values()}


async def join(world: World, room: MatrixRoom, dan: Session) -> None:
    await promote(world, room, dan)
    world.homeserver.users.add(ERIN)


async def do(world: World, dan: Session, user: str, membership: str, **more: Any) -> None:
    content = {"membership": membership, **more}
    await dan.api.send_state(world.room_id(), "m.room.member", user, content)
    await world.settle()
    await world.settle()


async def test_who_leaves_or_is_removed_in_matrix_does_so_in_the_log_with_the_reason(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        world.homeserver.member(room, BOB, "leave", reason="bored")
        world.homeserver.member(room, CAROL, "leave", sender=ALICE, reason="rude")
        await world.settle()
        assert await in_log(world, BOB) == {"sender": BOB, "membership": "leave", "reason": "bored"}
        assert await in_log(world, CAROL) == {"sender": ALICE, "membership": "leave", "reason": "rude"}
        assert in_group(world) & {BOB, CAROL} == set()


async def test_a_ban_in_matrix_is_one_in_the_log_until_it_ends(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        for user, name in ((CAROL, CAROL), (GHOST, DAN)):
            world.homeserver.member(room, user, "ban", sender=ALICE, reason="spam")
            await world.settle()
            assert await in_log(world, name) == {"sender": ALICE, "membership": "ban", "reason": "spam"}
            assert name not in in_group(world)
            if name == DAN:
                with pytest.raises(ApiError):
                    await dan.api.join(world.room_id())
            world.homeserver.member(room, user, "leave", sender=ALICE)
            await world.settle()
            assert await in_log(world, name) == {"sender": ALICE, "membership": "leave"}
        world.homeserver.member(room, CAROL, "join")
        world.homeserver.member(room, GHOST, "invite", sender=ALICE)
        await world.settle()
        assert {CAROL, DAN} <= in_group(world)


async def test_invitations_and_knocks_in_matrix_stand_in_the_log(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        world.homeserver.users.add(ERIN)
        world.homeserver.member(room, ERIN, "invite", sender=ALICE, reason="she asked")
        world.homeserver.member(room, ERIN, "invite", sender=ALICE, reason="she asked again")
        await world.settle()
        invited = {"sender": ALICE, "membership": "invite", "reason": "she asked"}
        assert await in_log(world, ERIN) == invited
        assert ERIN not in in_group(world)
        world.homeserver.member(room, ERIN, "leave")
        await world.settle()
        assert await in_log(world, ERIN) == {"sender": ERIN, "membership": "leave"}
        world.homeserver.emit(room, ALICE, "m.room.join_rules", {"join_rule": "knock"}, state_key="")
        world.homeserver.member(room, ERIN, "knock", reason="please")
        await world.settle()
        assert await in_log(world, ERIN) == {"sender": ERIN, "membership": "knock", "reason": "please"}
        world.homeserver.member(room, ERIN, "invite", sender=ALICE)
        world.homeserver.member(room, ERIN, "join")
        await world.settle()
        assert (await in_log(world, ERIN))["membership"] == "join"
        assert ERIN in in_group(world)
        world.homeserver.users.add(GUS)
        world.homeserver.member(room, GUS, "knock", reason="for the first time")
        await world.settle()
        knocked = {"sender": GUS, "membership": "knock", "reason": "for the first time"}
        assert await in_log(world, GUS) == knocked
        world.homeserver.member(room, ERIN, "no membership")
        await world.settle()
        assert (await in_log(world, ERIN))["membership"] == "join"


async def test_what_the_logs_rules_do_not_allow_the_sender_the_bot_does(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        # Bob may in Matrix, by rules that the log does not have.
        world.homeserver.member(room, CAROL, "leave", sender=BOB, reason="rude")
        await world.settle()
        bot = world.bridge.puppets.bot.device.owner.user_id
        assert await in_log(world, CAROL) == {"sender": bot, "membership": "leave", "reason": "rude"}
        assert CAROL not in in_group(world)


async def test_who_is_removed_or_banned_at_the_provider_is_so_in_matrix_with_the_reason(
    tmp_path: Path,
) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await join(world, room, dan)
        await do(world, dan, CAROL, "leave", reason="rude")
        kicked = {"sender": BOT, "membership": "leave", "reason": f"By {DAN}: rude"}
        assert in_matrix(world, room, CAROL) == kicked
        await do(world, dan, BOB, "ban")
        assert in_matrix(world, room, BOB) == {"sender": BOT, "membership": "ban", "reason": f"By {DAN}"}
        assert in_group(world) & {BOB, CAROL} == set()
        await do(world, dan, BOB, "leave")
        assert in_matrix(world, room, BOB)["membership"] == "leave"
        assert (await in_log(world, BOB))["sender"] == DAN


async def test_an_invitation_at_the_provider_is_one_in_matrix(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await join(world, room, dan)
        await do(world, dan, ERIN, "invite", reason="join us")
        invited = {"sender": BOT, "membership": "invite", "reason": f"By {DAN}: join us"}
        assert in_matrix(world, room, ERIN) == invited
        assert (await in_log(world, ERIN))["membership"] == "invite"
        world.homeserver.member(room, ERIN, "join")
        await world.settle()
        assert ERIN in in_group(world)


async def test_whom_somebody_at_a_provider_adds_is_invited_in_matrix(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await join(world, room, dan)
        world.homeserver.member(room, CAROL, "leave")
        await world.settle()
        await dan.step(1000)
        await drain(dan)
        await dan.groups.invite(world.room_id(), [CAROL])
        await world.settle()
        assert in_matrix(world, room, CAROL)["membership"] == "invite"
        world.homeserver.member(room, CAROL, "leave")
        await world.settle()
        assert await in_log(world, CAROL) == {"sender": CAROL, "membership": "leave"}
        assert CAROL not in in_group(world)


async def test_ghosts_are_invited_knock_leave_and_are_banned_as_their_people_are(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await join(world, room, dan)
        fred = await world.club.device(world.hub, "fred")
        world.homeserver.emit(room, ALICE, "m.room.join_rules", {"join_rule": "knock"}, state_key="")
        await world.settle()
        room.public = False
        await fred.api.knock(world.room_id(), "it is me")
        await world.settle()
        knocked = {"sender": GHOST_FRED, "membership": "knock", "reason": "it is me"}
        assert in_matrix(world, room, GHOST_FRED) == knocked
        await do(world, dan, FRED, "invite", reason="let him in")
        invited = {"sender": BOT, "membership": "invite", "reason": f"By {DAN}: let him in"}
        assert in_matrix(world, room, GHOST_FRED) == invited
        await fred.api.join(world.room_id())
        await world.settle()
        assert in_matrix(world, room, GHOST_FRED)["membership"] == "join"
        await do(world, dan, FRED, "leave", reason="wrong room")
        kicked = {"sender": BOT, "membership": "leave", "reason": f"By {DAN}: wrong room"}
        assert in_matrix(world, room, GHOST_FRED) == kicked
        await do(world, dan, FRED, "ban")
        assert in_matrix(world, room, GHOST_FRED)["membership"] == "ban"
        await do(world, dan, FRED, "leave")
        assert in_matrix(world, room, GHOST_FRED)["membership"] == "leave"
        await do(world, dan, DAN, "leave", reason="enough")
        left = {"sender": GHOST, "membership": "leave", "reason": "enough"}
        assert in_matrix(world, room, GHOST) == left
        assert DAN not in in_group(world)


async def test_what_the_bot_may_not_do_in_matrix_is_said_there(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dan):
        await join(world, room, dan)
        room.forbidden |= {(BOT, "kick"), (BOT, "ban"), (BOT, "invite")}
        await do(world, dan, CAROL, "ban")
        assert in_matrix(world, room, CAROL)["membership"] == "join"
        said = by(room, BOT)[-1]["content"]["body"]
        assert said.startswith(f"{DAN} set the membership of {CAROL} to ban; I could not do that here: ")
        fred = await world.club.device(world.hub, "fred")
        world.homeserver.emit(room, ALICE, "m.room.join_rules", {"join_rule": "knock"}, state_key="")
        await world.settle()
        world.homeserver.emit(
            room, ALICE, "m.room.join_rules", {"join_rule": "invite"}, state_key="", push=False
        )
        await fred.api.knock(world.room_id())
        await world.settle()
        assert f"{FRED} set the membership of {FRED} to knock" in by(room, BOT)[-1]["content"]["body"]


async def test_a_reason_is_cut_to_what_the_log_takes(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, _):
        world.homeserver.member(room, CAROL, "leave", sender=ALICE, reason="x" * 5000)
        world.homeserver.member(room, BOB, "leave", sender=ALICE, reason={"no": "text"})
        await world.settle()
        assert (await in_log(world, CAROL))["reason"] == "x" * 1000
        assert "reason" not in await in_log(world, BOB)


async def test_who_is_removed_from_another_provider_learns_it_by_the_commit(tmp_path: Path) -> None:
    async with talking(tmp_path) as (world, room, bob):
        world.homeserver.member(room, GHOST_BOB, "ban", sender=ALICE, reason="spam")
        await world.settle()
        banned = {"sender": ALICE, "membership": "ban", "reason": "spam"}
        assert await in_log(world, "@bob:b.example") == banned
        with trio.fail_after(30):
            while bob.device.in_group(world.room_id()):
                await bob.step(1000)
                await drain(bob)
        assert room.members[GHOST_BOB] == "ban"
