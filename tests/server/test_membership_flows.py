"""Knocks, invites and leaves over federation: rooms that another server orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import trio
import trio.testing

from linearized.client import DecryptedMessage, Joined
from linearized.exceptions import EventFormatError, InvalidInput, LinearizedError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import membership
from linearized.room.submissions import LocalEvent, Rejected
from linearized.server.federation import removals
from linearized.server.http import json_response
from linearized.server.invited import KNOCK_STATE
from linearized.server.outbound import OutboundError
from tests.server.federation.support import BOB, Foreign
from tests.server.linearized_pair import ALICE, BILL, HubPair, hub_pair
from tests.server.support import PASSWORD, Network, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

CAROL = "@carol:c.example"
NAME = {"type": "m.room.name", "state_key": "", "sender": "@cleo:c.example", "content": {"name": "Tea"}}


def member(user_id: str, value: str, sender: str | None = None) -> LocalEvent:
    return LocalEvent(
        sender=sender or user_id, type="m.room.member", state_key=user_id, content={"membership": value}
    )


async def rule(pair: HubPair, join_rule: str) -> None:
    await pair.state("m.room.join_rules", "", {"join_rule": join_rule})


def at_hub(pair: HubPair, user_id: str = BOB) -> str:
    return membership(pair.a.node.rooms.state(pair.room_id), user_id)


def at_home(pair: HubPair, user_id: str = BOB) -> str | None:
    rows = pair.b.node.store.rooms_of(user_id)
    return next((row.membership for row in rows if row.room_id == pair.room_id), None)


async def test_a_knock_an_invite_and_the_join(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        rooms = pair.b.node.rooms
        await rooms.knock(pair.room_id, user_id=BOB, via=["c.example", "a.example"], reason="Let me in")
        assert (at_hub(pair), at_home(pair)) == ("knock", "knock")
        knock = pair.a.node.rooms.state(pair.room_id)["m.room.member", BOB]
        assert knock.content == {"membership": "knock", "reason": "Let me in"}
        shown = pair.b.node.store.reply(KNOCK_STATE, f"{pair.room_id} {BOB}")
        assert shown is not None
        types = [item["type"] for item in orjson.loads(shown)]
        assert types == ["m.room.create", "m.room.join_rules", "m.room.member"]
        await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
        assert (at_hub(pair), at_home(pair)) == ("invite", "invite")
        await pair.join()
        assert (at_hub(pair), at_home(pair)) == ("join", "join")
        pair.agree()


async def test_a_knock_is_taken_back_at_the_hub(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        await pair.b.node.rooms.send(pair.room_id, member(BOB, "leave"))
        assert (at_hub(pair), at_home(pair)) == ("leave", "leave")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=[])
        assert (at_hub(pair), at_home(pair)) == ("knock", "knock")


async def test_a_client_knocks_on_a_room_of_another_server_and_sees_it_there(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair, pair.b.http() as http:
        await rule(pair, "knock")
        user_id = await pair.b.user("carl")
        login = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user_id},
            "password": PASSWORD,
        }
        token = (await http.post("/_matrix/client/v3/login", json=login)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}

        async def call(method: str, path: str, body: JsonObject | None = None) -> JsonObject:
            answer = await http.request(method, f"/_matrix/client/v3{path}", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            found: JsonObject = answer.json()
            return found

        knock = f"/knock/{quote(pair.room_id)}?via=c.example"
        for _ in range(2):
            assert await call("POST", knock, {"reason": "Let me in"}) == {"room_id": pair.room_id}
        assert (at_hub(pair, user_id), at_home(pair, user_id)) == ("knock", "knock")
        first = await call("GET", "/sync")
        (events,) = [part["knock_state"]["events"] for part in first["rooms"]["knock"].values()]
        assert [event["type"] for event in events] == ["m.room.create", "m.room.join_rules", "m.room.member"]
        assert events[-1]["content"] == {"membership": "knock", "reason": "Let me in"}
        after = await call("GET", f"/sync?since={first['next_batch']}")
        assert after["rooms"]["knock"] == {}
        await call("POST", f"/rooms/{quote(pair.room_id)}/leave", {})
        assert (at_hub(pair, user_id), at_home(pair, user_id)) == ("leave", "leave")
        last = await call("GET", f"/sync?since={after['next_batch']}")
        assert list(last["rooms"]["leave"]) == [pair.room_id]


async def until_at_home(pair: HubPair, expected: str) -> None:
    with trio.fail_after(20):
        while at_home(pair) != expected:
            await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("verdict", ["leave", "ban"])
@pytest.mark.parametrize("waiting", ["knock", "invite"])
async def test_a_server_is_told_that_its_user_was_turned_away_and_nothing_else(
    tmp_path: Path, verdict: str, waiting: str
) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        if waiting == "invite":
            await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
        assert at_home(pair) == waiting
        await pair.say(pair.a, "between us")
        event = member(BOB, verdict, sender=ALICE)
        await pair.a.node.rooms.send(pair.room_id, event)
        await until_at_home(pair, verdict)
        await pair.say(pair.a, "he is gone")
        row = pair.row(pair.b)
        assert (row.head_seq, pair.log(pair.b)) == (0, [])
        (follower,) = map(pair.a.node.followers.progress.of, pair.a.node.store.followers(pair.room_id))
        assert follower.cursor == follower.stop_seq
        if verdict == "leave":
            await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=[])
            await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
            await pair.join()
            pair.agree()


@pytest.mark.parametrize(
    "change",
    [
        {"type": "m.room.topic", "state_key": "", "content": {"topic": "x"}},
        {"content": {"membership": "join"}},
        {"state_key": BILL},
        {"state_key": "@carol:c.example"},
        {"room_id": "!other:a.example"},
        {"hub_server": "c.example"},
    ],
)
async def test_of_a_room_without_a_copy_nothing_else_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        settings = {"type": "m.room.member", "state_key": BOB, "content": {"membership": "leave"}, **change}
        hub_server = settings.pop("hub_server", None)
        pdu = pair.event(**settings)
        if hub_server is not None:
            pdu["hub_server"] = hub_server
            pdu["hashes"]["lpdu"] = dict(pdu["hashes"])
        await removals.take(pair.b.node, pair.row(pair.b), pdu, "a.example")
        await removals.take(pair.b.node, pair.row(pair.b), pair.event(), "c.example")
        assert at_home(pair) == "knock"


async def test_a_forged_refusal_is_not_believed(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        pdu = pair.event(type="m.room.member", state_key=BOB, content={"membership": "leave"})
        pdu["signatures"]["a.example"] = dict.fromkeys(pdu["signatures"]["a.example"], "A" * 86)
        with pytest.raises(InvalidInput):
            await removals.take(pair.b.node, pair.row(pair.b), pdu, "a.example")
        assert at_home(pair) == "knock"


async def test_a_second_user_of_a_participant_knocks_through_its_room(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        await pair.join()
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BILL, via=[], reason="Me too")
        assert at_hub(pair, BILL) == "knock"
        pair.agree()
        assert [path for *_, path in pair.network.log if "_knock/" in path] == [], "not by make and send"


@pytest.mark.parametrize("change", ["join", "knock", "leave"])
async def test_of_a_template_only_the_room_version_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    async with hub_pair(tmp_path) as pair:
        real = pair.b.node.federation.request
        foisted = {"content": {"membership": change, "reason": "The hub's"}, "org.example.more": 1}
        templates = []

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if f"/make_{change}/" not in path:
                return answer
            templates.append(answer)
            return {**answer, **foisted, "event": {**answer["event"], **foisted}}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        if change == "join":
            await pair.join()
        else:
            await rule(pair, "knock")
            await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        if change == "leave":
            await pair.b.node.rooms.send(pair.room_id, member(BOB, "leave"))
        assert len(templates) == 1
        event = pair.a.node.rooms.state(pair.room_id)["m.room.member", BOB]
        assert event.content == {"membership": change}
        assert "org.example.more" not in event.pdu


async def test_a_room_whose_version_we_do_not_know_is_not_left_by_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        real, asked = pair.b.node.federation.request, list[str]()

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            asked.append(path)
            answer = await real(server, method, path, **more)
            return {**answer, "room_version": "org.example.unknown"}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(EventFormatError):
            await pair.b.node.rooms.send(pair.room_id, member(BOB, "leave"))
        assert [path for path in asked if "send_leave" in path] == []
        assert len(asked) == 1
        assert (at_hub(pair), at_home(pair)) == ("knock", "knock")


async def test_a_knock_that_is_not_allowed_leaves_nothing_behind(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        with pytest.raises(OutboundError) as refused:
            await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        assert refused.value.errcode == "M_FORBIDDEN"
        assert (at_hub(pair), at_home(pair)) == ("leave", None)
        with pytest.raises(Rejected):
            await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=[])


@pytest.mark.parametrize(
    "stripped", [None, 5, [5, {"a": 1}, {**NAME, "sender": "bob"}, {**NAME, "content": 1}]]
)
async def test_what_a_hub_says_of_a_room_is_taken_with_care(tmp_path: Path, stripped: Any) -> None:
    network = Network()
    async with running_server("b.example", tmp_path, network) as b:
        foreign = Foreign("c.example", network)
        foreign.knock_answer = json_response({"stripped_state": stripped})
        await b.node.rooms.knock("!theirs:c.example", user_id=BOB, via=["c.example"])
        shown = b.node.store.reply(KNOCK_STATE, f"!theirs:c.example {BOB}")
        assert shown is not None
        assert [item["content"] for item in orjson.loads(shown)] == [{"membership": "knock"}]


async def test_a_room_version_we_do_not_know_is_not_knocked_on(tmp_path: Path) -> None:
    network = Network()
    async with running_server("b.example", tmp_path, network) as b:
        foreign = Foreign("c.example", network)
        foreign.template = {"room_version": "77"}
        with pytest.raises(LinearizedError):
            await b.node.rooms.knock("!theirs:c.example", user_id=BOB, via=["c.example"])
        assert b.node.rooms.row("!theirs:c.example") is None


async def test_a_participant_invites_a_user_of_a_third_server_which_may_decline(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
    ):
        await a.user("alice")
        await b.user("bob")
        await c.user("carol")
        room_id = await a.node.rooms.create(creator=ALICE, version="I.1", creation_content={}, initial=[])
        await a.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        await b.node.rooms.join_remote(room_id, user_id=BOB, via=["a.example"])
        await b.node.rooms.invite(room_id, sender=BOB, target=CAROL)
        assert [row.membership for row in c.node.store.rooms_of(CAROL)] == ["invite"]
        await c.node.rooms.send(room_id, member(CAROL, "leave"))
        assert membership(a.node.rooms.state(room_id), CAROL) == "leave"
        # What the third server refuses, the participant is told.
        with pytest.raises(OutboundError) as refused:
            await b.node.rooms.invite(room_id, sender=BOB, target="@nobody:c.example")
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
        asked = [entry for entry in network.log if entry[:2] == ("b.example", "c.example")]
        assert {path for *_, path in asked} <= {"/_matrix/key/v2/server"}, "the hub asks the target's server"


async def test_leaving_an_encrypted_room_takes_effect_in_the_group_with_the_next_commit(
    tmp_path: Path,
) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await encrypted_room(alice)
        await a.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        await b.node.rooms.join_remote(room_id, user_id=BOB, via=["a.example"])
        await alice.groups.invite(room_id, [BOB])
        await received(bob, Joined)
        await say(alice, room_id, "Hello")
        assert bodies(await received(bob, DecryptedMessage)) == ["Hello"]
        await b.node.rooms.send(room_id, member(BOB, "leave"))
        assert membership(a.node.rooms.state(room_id), BOB) == "leave"
        owners = [owner.user_id for owner in alice.device.members(room_id).values()]
        assert sorted(owners) == [ALICE, BOB], "the leave alone removes nobody from the group"
        with pytest.raises(LinearizedError):
            await say(bob, room_id, "from outside")
        await alice.groups.update_keys(room_id)  # it hears of the leave when the hub refuses its commit
        owners = [owner.user_id for owner in alice.device.members(room_id).values()]
        assert owners == [ALICE], "the next commit does"
        last = b.node.store.entries_before(room_id, before=2**40, limit=1)[0]
        assert orjson.loads(last.pdu)["content"] == {"membership": "leave"}, "and its server sees no more"


async def test_rules_still_hold_for_a_knock_by_a_banned_user(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        await rule(pair, "knock")
        await pair.a.node.rooms.send(pair.room_id, member(BOB, "ban", sender=ALICE))
        with pytest.raises(OutboundError):
            await pair.b.node.rooms.knock(pair.room_id, user_id=BOB, via=["a.example"])
        assert (at_hub(pair), at_home(pair)) == ("ban", None)
