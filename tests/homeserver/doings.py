"""What people do to a room and to one another, on both sides, and what each side has of it: every state event
of both, in order, so that nothing is echoed either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from linearized.client import MembershipChanged, RoomEvent
from linearized.demo.participant import Participant
from tests.homeserver.people import JsonObject, heard
from tests.homeserver.scene import Room
from tests.homeserver.stage import provider_of

DOMAIN = "matrix.example"
BRIDGE = "@_bridge:a.example"
# Of a member event, what people see; and of the power levels, what the table is about.
_SHOWN = ("reason", "displayname", "avatar_url")


def at(name: str) -> str:
    return f"@{name}:{DOMAIN}"


def of(name: str) -> str:
    return f"@{name}:{provider_of(name)}"


@dataclass
class Hall:
    """A room, and how much of each side's state events has been compared."""

    room: Room
    seen_there: int = 0
    seen_here: int = 0

    @property
    def witness(self) -> Participant:
        return next(iter(self.room.people.values()))

    async def arrived(self, names: Sequence[str]) -> None:
        """Wait until these people have joined on both sides. What happened until then is not looked at."""
        here, there = {self.room.stage.ghost(name) for name in names}, {of(name) for name in names}
        await heard(
            self.witness, "everybody", lambda _: there <= self._joined(i.event for i in self._there())
        )
        await self.room.eyes.until("every ghost", lambda: here <= self._joined(self._here()))
        self.seen_there, self.seen_here = len(self._there()), len(self._here())

    def _joined(self, events: Iterable[JsonObject]) -> set[str]:
        return {event["state_key"] for event in events if event["content"].get("membership") == "join"}

    def _there(self) -> list[MembershipChanged | RoomEvent]:
        items = [item for item in self.witness.items if item.room_id == self.room.room_id]
        return [item for item in items if isinstance(item, MembershipChanged | RoomEvent)]

    def _here(self) -> list[JsonObject]:
        return [event for event in self.room.eyes.events[self.room.matrix_id] if "state_key" in event]

    async def expect(self, *, there: list[JsonObject], here: list[JsonObject]) -> None:
        """These state events come next on each side, and no others before what comes after them."""
        wanted_there, wanted_here = self.seen_there + len(there), self.seen_here + len(here)
        await heard(self.witness, json.dumps(there), lambda _: len(self._there()) >= wanted_there)
        await self.room.eyes.until(json.dumps(here), lambda: len(self._here()) >= wanted_here)
        got_there = [await self._entry(item.event) for item in self._there()[self.seen_there : wanted_there]]
        got_here = [await self._entry(event) for event in self._here()[self.seen_here : wanted_here]]
        assert got_there == there, f"{got_there}, and not {there}"
        assert got_here == here, f"{got_here}, and not {here}"
        self.seen_there, self.seen_here = wanted_there, wanted_here

    async def _entry(self, event: JsonObject) -> JsonObject:
        content, kind = event["content"], event["type"]
        if kind == "m.room.member":
            shown = {name: await self._shown(content[name]) for name in _SHOWN if name in content}
            return {"who": event["state_key"], "is": content["membership"], "by": event["sender"], **shown}
        if kind == "m.room.power_levels":
            content = content["users"]
        return {"state": kind, "by": event["sender"], "to": await self._shown(content)}

    def finish(self) -> None:
        """Nothing is left that was not expected."""
        assert len(self._there()) == self.seen_there
        assert len(self._here()) == self.seen_here

    async def _shown(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: await self._shown(item) for name, item in value.items()}
        if not isinstance(value, str) or not value.startswith("mxc://"):
            return value
        server, media_id = value.removeprefix("mxc://").split("/")
        if server == DOMAIN:
            return f"file:{self.room.name_of(await self.room.crowd.download(value))}"
        return f"file:{self.room.name_of(await self.witness.session.api.download_media(server, media_id))}"


def state(kind: str, by: str, **content: Any) -> JsonObject:
    return {"state": f"m.room.{kind}", "by": by, "to": content}


def member(who: str, membership: str, by: str, **shown: str) -> JsonObject:
    return {"who": who, "is": membership, "by": by, **shown}


async def play(hall: Hall) -> None:
    """Everything of the kinds above, by Ann and Amy mostly, and what comes of it on both sides."""
    await _state_of_the_room(hall)
    await _members_of_matrix(hall)
    await _members_elsewhere(hall)
    await _by_amy(hall)


async def _state_of_the_room(hall: Hall) -> None:
    room, stage = hall.room, hall.room.stage
    ann, ben = room.crowd.users["ann"], room.crowd.users["ben"]
    here, there, amy = room.matrix_id, room.room_id, hall.witness.session.api
    both = state("topic", at("ann"), topic="Tea")
    await ann.set_state(here, "m.room.topic", "", {"topic": "Tea"})
    await hall.expect(there=[both], here=[both])
    both = state("name", at("ann"), name="Hall")
    await ann.set_state(here, "m.room.name", "", {"name": "Hall"})
    await hall.expect(there=[both], here=[both])
    both = state("avatar", at("ann"), url="file:harbour.png")
    url = await ann.upload(room.files["harbour.png"].data, "image/png", "harbour.png")
    await ann.set_state(here, "m.room.avatar", "", {"url": url})
    await hall.expect(there=[both], here=[both])
    levels = await ann.call("GET", f"/rooms/{here}/state/m.room.power_levels/")
    new = {stage.ghost("amy"): 100, stage.bot: 100, at("ben"): 50}
    await ann.set_state(here, "m.room.power_levels", "", {**levels, "users": {**levels["users"], **new}})
    users_here = {at("ann"): 100, **new}
    users_there = {at("ann"): 100, of("amy"): 100, BRIDGE: 100, at("ben"): 50}
    await hall.expect(
        there=[state("power_levels", at("ann"), **users_there)],
        here=[state("power_levels", at("ann"), **users_here)],
    )
    both = state("topic", at("ben"), topic="Cocoa")
    await ben.set_state(here, "m.room.topic", "", {"topic": "Cocoa"})
    await hall.expect(there=[both], here=[both])
    await amy.send_state(there, "m.room.topic", "", {"topic": "Coffee"})
    await hall.expect(
        there=[state("topic", of("amy"), topic="Coffee")], here=[state("topic", stage.bot, topic="Coffee")]
    )
    await amy.send_state(there, "m.room.name", "", {"name": "Lobby"})
    await hall.expect(
        there=[state("name", of("amy"), name="Lobby")], here=[state("name", stage.bot, name="Lobby")]
    )
    url = await amy.upload_media(room.files["sail.png"].data, content_type="image/png")
    await amy.send_state(there, "m.room.avatar", "", {"url": url})
    await hall.expect(
        there=[state("avatar", of("amy"), url="file:sail.png")],
        here=[state("avatar", stage.bot, url="file:sail.png")],
    )
    stands = (await amy.state_event(there, "m.room.power_levels"))["content"]
    users = {**stands["users"], of("al"): 50}
    await amy.send_state(there, "m.room.power_levels", "", {**stands, "users": users})
    await hall.expect(
        there=[state("power_levels", of("amy"), **users_there, **{of("al"): 50})],
        here=[state("power_levels", stage.bot, **users_here, **{stage.ghost("al"): 50})],
    )
    both = state("join_rules", at("ann"), join_rule="knock")
    await ann.set_state(here, "m.room.join_rules", "", {"join_rule": "knock"})
    await hall.expect(there=[both], here=[both])


async def _members_of_matrix(hall: Hall) -> None:
    room, cat, dan = hall.room, hall.room.crowd.users["cat"], hall.room.crowd.users["dan"]
    here = room.matrix_id
    await _ann(room, "invite", at("cat"), "come")
    invited = member(at("cat"), "invite", at("ann"), reason="come")
    await hall.expect(there=[invited], here=[{**invited, "displayname": "cat"}])
    await cat.call("POST", f"/join/{here}", body={})
    joined = member(at("cat"), "join", at("cat"))
    named = {**joined, "displayname": "cat"}
    await hall.expect(there=[joined, named], here=[named])  # by a commit, then with the name
    await cat.call("PUT", f"/profile/{cat.user_id}/displayname", body={"displayname": "Cat"})
    named = {**joined, "displayname": "Cat"}
    await hall.expect(there=[named], here=[named])
    url = await cat.upload(room.files["wave.webp"].data, "image/webp", "wave.webp")
    await cat.call("PUT", f"/profile/{cat.user_id}/avatar_url", body={"avatar_url": url})
    shown = {**named, "avatar_url": "file:wave.webp"}
    await hall.expect(there=[shown], here=[shown])
    await cat.call("POST", f"/rooms/{here}/leave", body={"reason": "late"})
    both = member(at("cat"), "leave", at("cat"), reason="late")
    await hall.expect(there=[both], here=[both])
    await dan.call("POST", f"/knock/{here}", body={"reason": "it is me"})
    knocked = member(at("dan"), "knock", at("dan"), reason="it is me")
    await hall.expect(there=[knocked], here=[{**knocked, "displayname": "dan"}])
    await _ann(room, "invite", at("dan"))
    invited = member(at("dan"), "invite", at("ann"))
    await hall.expect(there=[invited], here=[{**invited, "displayname": "dan"}])
    await dan.call("POST", f"/join/{here}", body={})
    joined = member(at("dan"), "join", at("dan"))
    named = {**joined, "displayname": "dan"}
    await hall.expect(there=[joined, named], here=[named])
    for act, membership, why in (("kick", "leave", "rude"), ("ban", "ban", "spam"), ("unban", "leave", "")):
        await _ann(room, act, at("dan"), why)
        both = member(at("dan"), membership, at("ann"), **({"reason": why} if why else {}))
        await hall.expect(there=[both], here=[both])


async def _members_elsewhere(hall: Hall) -> None:
    """What people in Matrix do to those of the providers, who are there as ghosts."""
    room, bess = hall.room, hall.room.stage.ghost("bess")
    name = {"displayname": "bess (b.example)"}
    await _ann(room, "kick", bess, "rude")
    removed = member(of("bess"), "leave", BRIDGE)
    await hall.expect(there=[removed], here=[member(bess, "leave", at("ann"), reason="rude")])
    added = [member(of("bess"), "invite", BRIDGE), member(of("bess"), "join", of("bess"))]
    await _ann(room, "invite", bess, "sorry")
    invited = member(bess, "invite", at("ann"), reason="sorry", **name)
    await hall.expect(there=added, here=[invited, member(bess, "join", bess, **name)])
    await _ann(room, "ban", bess, "spam")
    banned = member(of("bess"), "ban", at("ann"), reason="spam")
    await hall.expect(there=[removed, banned], here=[member(bess, "ban", at("ann"), reason="spam")])
    await _ann(room, "unban", bess)
    pardoned = member(of("bess"), "leave", at("ann"))
    await hall.expect(there=[pardoned], here=[member(bess, "leave", at("ann"))])
    await _ann(room, "invite", bess)
    invited = member(bess, "invite", at("ann"), **name)
    await hall.expect(there=added, here=[invited, member(bess, "join", bess, **name)])


async def _by_amy(hall: Hall) -> None:
    """What people of the providers do to those in Matrix, and to one another."""
    room, bot = hall.room, hall.room.stage.bot
    amy, here, there = hall.witness.session, hall.room.matrix_id, hall.room.room_id
    cat, dan = room.crowd.users["cat"], room.crowd.users["dan"]
    cats = {"displayname": "Cat", "avatar_url": "file:wave.webp"}
    await _amy(room, at("cat"), "invite", "join us")
    await hall.expect(
        there=[member(at("cat"), "invite", of("amy"), reason="join us")],
        here=[member(at("cat"), "invite", bot, reason=f"By {of('amy')}: join us", **cats)],
    )
    await cat.call("POST", f"/join/{here}", body={})
    joined = member(at("cat"), "join", at("cat"))
    await hall.expect(there=[joined, {**joined, **cats}], here=[{**joined, **cats}])
    await amy.groups.invite(there, [at("dan")])
    joined = member(at("dan"), "join", at("dan"))
    name = {"displayname": "dan"}
    await hall.expect(
        there=[member(at("dan"), "invite", of("amy")), joined],
        here=[member(at("dan"), "invite", bot, reason=f"By {of('amy')}", **name)],
    )
    await dan.call("POST", f"/join/{here}", body={})
    await hall.expect(there=[{**joined, **name}], here=[{**joined, **name}])
    bess = room.stage.ghost("bess")
    for whom, ghost in ((at("cat"), at("cat")), (of("bess"), bess)):
        for membership, why in (("leave", "rude"), ("ban", "spam"), ("leave", "")):
            await _amy(room, whom, membership, why)
            reason = {"reason": why} if why else {}
            because = f"By {of('amy')}: {why}" if why else f"By {of('amy')}"
            await hall.expect(
                there=[member(whom, membership, of("amy"), **reason)],
                here=[member(ghost, membership, bot, reason=because)],
            )
    await amy.groups.invite(there, [of("bess")])
    name = {"displayname": "bess (b.example)"}
    await hall.expect(
        there=[member(of("bess"), "invite", of("amy")), member(of("bess"), "join", of("bess"))],
        here=[
            member(bess, "invite", bot, reason=f"By {of('amy')}", **name),
            member(bess, "join", bess, **name),
        ],
    )
    al = room.people["al"].session
    url = await al.api.upload_media(room.files["star.webp"].data, content_type="image/webp")
    ghost, named = room.stage.ghost("al"), {"displayname": f"Alfie ({of('al')})"}
    profile = {"membership": "join", "displayname": "Alfie"}
    await al.api.send_state(there, "m.room.member", of("al"), profile)
    shown = member(of("al"), "join", of("al"), displayname="Alfie")
    await hall.expect(there=[shown], here=[member(ghost, "join", ghost, **named)])
    await al.api.send_state(there, "m.room.member", of("al"), {**profile, "avatar_url": url})
    face = {"avatar_url": "file:star.webp"}
    await hall.expect(there=[{**shown, **face}], here=[member(ghost, "join", ghost, **named, **face)])
    await al.leave(there)
    await hall.expect(there=[member(of("al"), "leave", of("al"))], here=[member(ghost, "leave", ghost)])
    room.people = {name: person for name, person in room.people.items() if name != "al"}


async def _ann(room: Room, act: str, whom: str, why: str = "") -> None:
    body = {"user_id": whom, **({"reason": why} if why else {})}
    await room.crowd.users["ann"].call("POST", f"/rooms/{room.matrix_id}/{act}", body=body)


async def _amy(room: Room, whom: str, membership: str, why: str) -> None:
    content = {"membership": membership, **({"reason": why} if why else {})}
    amy = next(iter(room.people.values())).session.api
    await amy.send_state(room.room_id, "m.room.member", whom, content)
