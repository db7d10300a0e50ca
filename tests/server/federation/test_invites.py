"""Invites: taken from a participant by the hub, and from a hub by the invited user's server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from linearized.exceptions import LinearizedError
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.hashing import signed_bytes
from linearized.protocol.signing import signatures_of, verify_message
from linearized.server import invited
from linearized.server.http import Response, json_response
from linearized.server.hub import Hub

from .schemas import check
from .support import ALICE, BOB, FINAL, UNSTABLE, V1, Answer, Foreign, World, account, event_of, room, world

CAROL = "@carol:c.example"


def invite_lpdu(w: World, room_id: str, target: str, **more: Any) -> JsonObject:
    return w.foreign.lpdu(room_id, BOB, "m.room.member", {"membership": "invite"}, state_key=target, **more)


def body(event: JsonObject, version: str = "I.1") -> JsonObject:
    return {"event": event, "room_version": version, "invite_room_state": []}


async def test_a_participants_invite_is_offered_to_the_target_then_appended(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        excess = json_response({"pdu": {}, "org.example.more": 1})
        carols = Foreign("c.example", w.network, invite_answer=lambda _body: excess)
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        request = body(invite_lpdu(w, room_id, CAROL))
        check("invite.request", request)
        answer = await w.foreign.ask("POST", f"{FINAL}/v3/invite/1", request)
        assert answer.status == 200, answer
        check("invite.response", answer.body)
        event = event_of(answer.body["pdu"])
        assert w.server.node.rooms.state(room_id)["m.room.member", CAROL].event_id == event.event_id
        (offered,) = carols.invites
        check("invite.request", offered)
        assert event_of(offered["event"]) == event, "it is offered as it will stand in the log"
        assert offered["event"]["signatures"].keys() == {"a.example", "b.example"}
        assert offered["room_version"] == "I.1"
        assert {stripped["type"] for stripped in offered["invite_room_state"]} >= {"m.room.create"}
        for stripped in offered["invite_room_state"]:
            assert stripped.keys() == {"sender", "type", "state_key", "content"}
        assert "org.example.more" not in answer.body, "only what the draft has is passed on"
        head = w.server.node.rooms.row(room_id)
        again = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", request)
        assert again == answer
        assert w.server.node.rooms.row(room_id) == head


async def test_a_refusal_by_the_targets_server_is_passed_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        carols = Foreign("c.example", w.network)
        carols.invite_answer = lambda _: Response(
            status=400, body=b'{"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "no"}'
        )
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, CAROL)))
        assert (answer.status, answer.errcode) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
        assert ("m.room.member", CAROL) not in w.server.node.rooms.state(room_id)


async def test_a_target_server_that_is_down_is_a_bad_gateway(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, CAROL)))
        check("error", answer.body)
        assert (answer.status, answer.errcode) == (502, "M_UNKNOWN")


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_target_server_that_answers_no_json_is_a_bad_gateway(tmp_path: Path, status: int) -> None:
    async with world(tmp_path) as w:
        carols = Foreign("c.example", w.network)
        carols.invite_answer = lambda _: Response(
            status=status, body=b"<html>welcome", content_type="text/html"
        )
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, CAROL)))
        assert (answer.status, answer.errcode) == (502, "M_UNKNOWN")
        assert ("m.room.member", CAROL) not in w.server.node.rooms.state(room_id)


@pytest.mark.parametrize(
    ("kind", "content", "state_key"),
    [
        ("m.room.topic", {"membership": "invite"}, CAROL),
        ("m.room.member", {"membership": "knock"}, BOB),
        ("m.room.member", {"membership": ["invite"]}, CAROL),
        ("m.room.member", {}, CAROL),
        ("m.room.member", {"membership": "invite"}, None),
        ("m.room.member", {"membership": "invite"}, ""),
    ],
)
async def test_what_is_not_the_invite_of_a_user_is_refused_however_well_it_is_signed(
    tmp_path: Path, kind: str, content: JsonObject, state_key: str | None
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        head = w.server.node.rooms.row(room_id)
        lpdu = w.foreign.lpdu(room_id, BOB, kind, content, state_key=state_key)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(lpdu))
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")
        assert w.server.node.rooms.row(room_id) == head


async def test_an_invite_the_rules_forbid_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        carols = Foreign("c.example", w.network)
        room_id = await room(w.server)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, CAROL)))
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
        assert carols.invites == []


async def test_a_participant_invites_one_of_the_hubs_users(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        dave = "@dave:a.example"
        await account(w.server, dave)
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, dave)))
        assert answer.status == 200
        invited = w.server.node.rooms.state(room_id)["m.room.member", dave]
        assert invited.content == {"membership": "invite"}


def hub_invite(w: World, target: str = ALICE, **changes: Any) -> JsonObject:
    """An invite into a room that the foreign server orders."""
    settings: dict[str, Any] = {
        "identity": w.foreign.identity,
        "version": V1,
        "room_id": "!theirs:b.example",
        "type": "m.room.member",
        "sender": BOB,
        "content": {"membership": "invite"},
        "state_key": target,
        "origin_server_ts": 1,
        "auth_events": ["$create"],
        "prev_events": ["$last"],
        **changes,
    }
    return build_event(**settings).pdu


async def test_an_invite_of_our_user_is_signed_and_given_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        pdu = hub_invite(w)
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(pdu))
        assert answer.status == 200, answer
        check("invite.response", answer.body)
        signed = answer.body["pdu"]
        ours = w.server.node.identity
        verify_message(
            signed_bytes(signed, V1),
            signatures_of(signed, ours.name),
            name=ours.name,
            keys={ours.key.key_id: ours.key.verify_key},
        )
        assert event_of(signed).event_id == event_of(pdu).event_id
        assert signatures_of(signed, "b.example") == signatures_of(pdu, "b.example")


async def test_invites_that_nobody_answers_are_taken_up_to_a_number_from_each_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invited, "MAX_PENDING", 2)
    async with world(tmp_path) as w:

        async def asked(room: str, foreign: Foreign = w.foreign) -> int:
            pdu = hub_invite(w, room_id=room, identity=foreign.identity, sender=f"@bob:{foreign.name}")
            return (await foreign.ask("POST", f"{UNSTABLE}/invite/{room}", body(pdu))).status

        assert [await asked(f"!{n}:b.example") for n in range(3)] == [200, 200, 403]
        assert w.server.node.store.room("!2:b.example") is None
        assert await asked("!0:b.example") == 200  # it is waiting already
        assert await asked("!0:c.example", Foreign("c.example", w.network)) == 200


async def test_of_an_invites_state_so_many_bytes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invited, "MAX_STRIPPED_BYTES", 400)
    async with world(tmp_path) as w:
        shown = [
            {"type": kind, "state_key": "", "sender": BOB, "content": {"x": "x" * length}}
            for kind, length in (("m.room.create", 10), ("m.room.topic", 400), ("m.room.name", 10))
        ]
        invite = {**body(hub_invite(w)), "invite_room_state": shown}
        assert (await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", invite)).status == 200
        kept = w.server.node.store.reply(invited.INVITE_STATE, f"!theirs:b.example {ALICE}")
        assert kept is not None
        assert [event["type"] for event in orjson.loads(kept)] == [
            "m.room.create",
            "m.room.name",
            "m.room.member",
        ]


async def test_an_invite_to_an_unknown_room_version_is_incompatible(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for version in ("11", None):
            answer = await w.foreign.ask(
                "POST", f"{UNSTABLE}/invite/1", {"event": hub_invite(w), "room_version": version}
            )
            assert (answer.status, answer.errcode) == (400, "M_INCOMPATIBLE_ROOM_VERSION")


@pytest.mark.parametrize(
    ("changes", "status", "errcode"),
    [
        ({"state_key": "@nobody:a.example"}, 403, "M_FORBIDDEN"),
        ({"state_key": CAROL}, 403, "M_FORBIDDEN"),
        ({"content": {"membership": "join"}}, 400, "M_BAD_JSON"),
        ({"type": "m.room.topic"}, 400, "M_BAD_JSON"),
    ],
)
async def test_an_invite_not_for_a_user_of_ours_is_refused(
    tmp_path: Path, changes: JsonObject, status: int, errcode: str
) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(hub_invite(w, **changes)))
        assert (answer.status, answer.errcode) == (status, errcode)


@pytest.mark.parametrize(
    ("altered", "status"),
    [
        ({"signatures": {}}, 403),
        ({"origin_server_ts": 2}, 403),
        ({"hub_server": "c.example"}, 400),
        ({"content": {"membership": "invite", "reason": "added"}}, 400),
    ],
)
async def test_an_invite_that_was_tampered_with_is_refused(
    tmp_path: Path, altered: JsonObject, status: int
) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body({**hub_invite(w), **altered}))
        assert answer.status == status
        assert answer.errcode in {"M_FORBIDDEN", "M_BAD_JSON"}


async def test_an_invite_handed_over_by_somebody_else_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stranger = Foreign("c.example", w.network)
        answer = await stranger.ask("POST", f"{UNSTABLE}/invite/1", body(hub_invite(w)))
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_an_invite_into_a_room_of_anothers_namespace_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for room_id in ("!room:c.example", "!unknown:a.example"):
            answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body(hub_invite(w, room_id=room_id)))
            assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
            assert w.server.node.rooms.row(room_id) is None


@pytest.mark.parametrize("broken", [{}, {"event": 5}, {"event": {}}, {"event": {"type": "m.room.member"}}])
async def test_a_body_without_an_invite_is_refused(tmp_path: Path, broken: JsonObject) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", broken)
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")


async def test_our_invite_of_a_foreign_user_is_shown_to_their_server(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.server.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        (offered,) = w.foreign.invites
        check("invite.request", offered)
        w.foreign.invite_answer = lambda _: json_response({"errcode": "M_FORBIDDEN"}, 403)
        with pytest.raises(LinearizedError):
            await w.server.node.rooms.invite(room_id, sender=ALICE, target="@eve:b.example")
        assert ("m.room.member", "@eve:b.example") not in w.server.node.rooms.state(room_id)


async def test_an_invite_that_is_sent_again_before_it_is_answered_is_appended_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await account(w.server, "@dave:a.example")
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        request = body(invite_lpdu(w, room_id, "@dave:a.example"))
        answers: list[Answer] = []

        async def ask(txn: str) -> None:
            answers.append(await w.foreign.ask("POST", f"{UNSTABLE}/invite/{txn}", request))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "1")
            nursery.start_soon(ask, "2")
        assert answers[0] == answers[1]
        entries = w.server.node.store.entries(room_id, after=0, limit=100)
        assert [entry.state_key for entry in entries].count("@dave:a.example") == 1


async def test_an_invite_of_somebody_near_does_not_read_the_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)

        def load(*_: object) -> None:
            raise AssertionError("the room was read again")

        monkeypatch.setattr(Hub, "load", load)
        await w.server.node.rooms.invite(room_id, sender=ALICE, target="@dave:a.example")
        await w.server.node.rooms.invite(room_id, sender=ALICE, target="@bill:b.example")
        assert w.foreign.invites == [], "it comes to a server that takes part with its next events"
        answer = await w.foreign.ask(
            "POST", f"{UNSTABLE}/invite/1", body(invite_lpdu(w, room_id, "@erin:a.example"))
        )
        assert answer.status == 200
