"""Make and send: joins, leaves and knocks of a server outside the room."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from linearized.protocol.canonical import JsonObject
from linearized.protocol.verify import verify_event
from linearized.room.submissions import LocalEvent

from .schemas import check
from .support import ALICE, BOB, DEV, FINAL, UNSTABLE, V1, World, event_of, room, world


def make(kind: str, room_id: str, user: str = BOB, versions: str = "?ver=I.1&ver=dev.linearized.1") -> str:
    return f"{FINAL}/v1/make_{kind}/{quote(room_id, safe='')}/{quote(user, safe='')}{versions}"


async def test_a_join_is_made_and_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        template = (await w.foreign.ask("GET", make("join", room_id))).body
        check("make_join.response", template)
        assert template["content"] == {"membership": "join"}
        assert (template["sender"], template["state_key"]) == (BOB, BOB)
        lpdu = w.foreign.member(room_id, BOB, "join")
        answer = await w.foreign.ask("POST", f"{FINAL}/v3/send_join/1", lpdu)
        check("send_join.response", answer.body)
        joined = event_of(answer.body["event"])
        keys = {
            ("a.example", w.server.node.identity.key.key_id): w.server.node.identity.key.verify_key,
            ("b.example", w.foreign.identity.key.key_id): w.foreign.identity.key.verify_key,
        }
        verify_event(joined, version=V1, keys=lambda server, key_id: keys.get((server, key_id)))
        state = [event_of(pdu) for pdu in answer.body["state"]]
        assert [event.type for event in state] == ["m.room.create", "m.room.member", "m.room.join_rules"]
        assert [event_of(pdu).type for pdu in answer.body["auth_chain"]] == ["m.room.create", "m.room.member"]
        assert w.server.node.rooms.state(room_id)["m.room.member", BOB].event_id == joined.event_id


async def test_a_join_sent_again_gets_the_same_answer_and_is_appended_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        lpdu = w.foreign.member(room_id, BOB, "join")
        first = await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", lpdu)
        row = w.server.node.rooms.row(room_id)
        assert await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", lpdu) == first
        assert await w.foreign.ask("POST", f"{UNSTABLE}/send_join/2", lpdu) == first
        assert w.server.node.rooms.row(room_id) == row


async def test_a_joined_server_can_leave_and_is_told_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        template = (await w.foreign.ask("GET", make("leave", room_id, versions=""))).body
        check("make_leave.response", template)
        assert template["room_version"] == "I.1"
        shown = {
            name: template["event"][name] for name in ("room_id", "type", "state_key", "sender", "content")
        }
        assert shown == {
            "room_id": room_id,
            "type": "m.room.member",
            "state_key": BOB,
            "sender": BOB,
            "content": {"membership": "leave"},
        }
        leave = w.foreign.member(room_id, BOB, "leave")
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_leave/1", leave)
        assert (answer.status, answer.body) == (200, {})
        state = w.server.node.rooms.state(room_id)
        assert state["m.room.member", BOB].content == {"membership": "leave"}


async def test_a_knock_shows_the_face_of_the_room(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        face = {
            "m.room.name": {"name": "Club"},
            "m.room.avatar": {"url": "mxc://a.example/x"},
            "m.room.topic": {"topic": "Talk"},
            "m.room.canonical_alias": {"alias": "#club:a.example"},
        }
        inside = ("m.room.history_visibility", {"history_visibility": "joined"})
        more = [
            LocalEvent(sender=ALICE, type=kind, state_key="", content=content)
            for kind, content in (*face.items(), inside)
        ]
        room_id = await room(w.server, join_rule="knock", more=tuple(more))
        template = (await w.foreign.ask("GET", make("knock", room_id))).body
        check("make_join.response", template)
        assert (template["sender"], template["state_key"], template["hub_server"]) == (BOB, BOB, "a.example")
        assert template["content"] == {"membership": "knock"}
        knock = w.foreign.member(room_id, BOB, "knock")
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_knock/1", knock)
        check("send_knock.response", answer.body)
        stripped = {event["type"]: event for event in answer.body["stripped_state"]}
        face |= {"m.room.join_rules": {"join_rule": "knock"}, "m.room.create": {"room_version": "I.1"}}
        assert {kind: stripped[kind]["content"] for kind in face} == face
        assert all(
            event.keys() == {"sender", "type", "state_key", "content"}
            for event in answer.body["stripped_state"]
        )


@pytest.mark.parametrize(
    ("asked", "status", "errcode"),
    [
        (("join", BOB, ""), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (("join", BOB, "?ver=10"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (("knock", BOB, "?ver=I.1"), 403, "M_FORBIDDEN"),
        (("leave", BOB, ""), 403, "M_FORBIDDEN"),
        (("join", "@bob:c.example", "?ver=I.1"), 403, "M_FORBIDDEN"),
        (("join", ALICE, "?ver=I.1"), 403, "M_FORBIDDEN"),
        (("join", "bob", "?ver=I.1"), 400, "M_INVALID_PARAM"),
    ],
)
async def test_no_template_is_made_for_what_would_be_refused(
    tmp_path: Path, asked: tuple[str, str, str], status: int, errcode: str
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        answer = await w.foreign.ask("GET", make(asked[0], room_id, *asked[1:]))
        check("error", answer.body)
        assert (answer.status, answer.errcode) == (status, errcode)


async def test_an_unknown_room_is_not_found(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for room_id in ("!nowhere:a.example", "nonsense"):
            answer = await w.foreign.ask("GET", make("join", room_id))
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
        lpdu = w.foreign.member("!nowhere:a.example", BOB, "join")
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", lpdu)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


def altered(w: World, room_id: str, how: str) -> JsonObject:
    lpdu = w.foreign.member(room_id, BOB, "join")
    changes: dict[str, JsonObject] = {
        "type": {"type": "m.room.topic"},
        "membership": {"content": {"membership": "leave"}},
        "content": {"content": "join"},
        "another": {"state_key": "@eve:b.example"},
        "sender": {"sender": 5, "state_key": 5},
        "origin": {"sender": ALICE, "state_key": ALICE},
        "unsigned": {"signatures": {}},
        "resigned": {"origin_server_ts": 2},
        "room": {"room_id": 7},
    }
    return {**lpdu, **changes[how]}


@pytest.mark.parametrize(
    ("how", "status", "errcode"),
    [
        ("type", 400, "M_BAD_JSON"),
        ("membership", 400, "M_BAD_JSON"),
        ("content", 400, "M_BAD_JSON"),
        ("another", 400, "M_BAD_JSON"),
        ("sender", 400, "M_BAD_JSON"),
        ("origin", 403, "M_FORBIDDEN"),
        ("unsigned", 403, "M_FORBIDDEN"),
        ("resigned", 403, "M_FORBIDDEN"),
        ("room", 404, "M_NOT_FOUND"),
    ],
)
async def test_what_is_not_the_signed_join_of_its_sender_is_refused(
    tmp_path: Path, how: str, status: int, errcode: str
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        head = w.server.node.rooms.row(room_id)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", altered(w, room_id, how))
        assert (answer.status, answer.errcode) == (status, errcode)
        assert w.server.node.rooms.row(room_id) == head


async def test_a_join_the_rules_forbid_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server, join_rule="invite")
        assert (await w.foreign.ask("GET", make("join", room_id))).status == 403
        lpdu = w.foreign.member(room_id, BOB, "join")
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", lpdu)
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_our_own_room_version_is_joined_the_same_way(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server, version=DEV)
        assert (await w.foreign.ask("GET", make("join", room_id))).status == 200
        answer = await w.foreign.join(room_id, version=DEV)
        assert event_of(answer["event"], DEV).hub_server == "a.example"


async def test_a_join_that_is_sent_again_before_it_is_answered_is_appended_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        answers: list[JsonObject] = []

        async def join() -> None:
            answers.append(await w.foreign.join(room_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            nursery.start_soon(join)
        assert answers[0] == answers[1]
        members = [entry.state_key for entry in w.server.node.store.entries(room_id, after=0, limit=100)]
        assert members.count(BOB) == 1
