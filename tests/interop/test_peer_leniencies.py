"""What existing peers do differently from the draft's text, and that we get along with them.

Each has its row in docs/divergence.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from linearized.protocol.canonical import JsonObject
from linearized.server import gaps
from linearized.server.http import json_response
from linearized.server.xmatrix import sign_request
from tests.server.federation.support import ALICE, BOB, FINAL, UNSTABLE, Foreign, room, world
from tests.server.linearized_pair import HubPair, hub_pair, joined_pair, miss, next_event

CAROL = "@carol:c.example"


def rewrite(
    pair: HubPair, monkeypatch: pytest.MonkeyPatch, part: str, change: Callable[[JsonObject], JsonObject]
) -> None:
    """Let the hub's answers to one endpoint look different."""
    real = pair.b.node.federation.request

    async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
        answer = await real(server, method, path, **more)
        return change(answer) if part in path else answer

    monkeypatch.setattr(pair.b.node.federation, "request", request)


@pytest.mark.parametrize(
    "form",
    [
        lambda answer: answer["event"],  # the draft's bare event
        lambda answer: {"event": answer["event"], "room_version": answer["room_version"]},
    ],
)
async def test_a_template_is_read_bare_and_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[JsonObject], JsonObject]
) -> None:
    async with hub_pair(tmp_path) as pair:
        rewrite(pair, monkeypatch, "/make_join/", form)
        await pair.join()
        pair.agree()


@pytest.mark.parametrize("name", ["pdu", "event", "none"])
async def test_an_invite_is_taken_however_its_answer_is_called(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as w:
        peer = Foreign("c.example", w.network)
        peer.invite_answer = lambda body: json_response({name: body["event"]} if name != "none" else {})
        room_id = await room(w.server)
        await w.server.node.rooms.invite(room_id, sender=ALICE, target=CAROL)
        member = w.server.node.rooms.state(room_id)["m.room.member", CAROL]
        assert member.content == {"membership": "invite"}


async def test_our_answer_to_an_invite_has_both_names(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        lpdu = w.foreign.lpdu(
            room_id, BOB, "m.room.member", {"membership": "invite"}, state_key="@dave:a.example"
        )
        body = {"event": lpdu, "room_version": "I.1"}
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/invite/1", body)
        assert answer.body["pdu"] == answer.body["event"]


async def test_the_state_of_a_join_may_be_the_whole_timeline_and_its_order_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        for topic in ("first", "second"):
            await pair.state("m.room.topic", "", {"topic": topic})
        await pair.say(pair.a, "no state")
        timeline = [orjson.loads(entry.pdu) for entry in pair.log(pair.a)]
        rewrite(pair, monkeypatch, "/send_join/", lambda answer: {**answer, "state": timeline})
        await pair.join()
        topics = [
            orjson.loads(entry.pdu)["content"]["topic"]
            for entry in pair.log(pair.b)
            if entry.type == "m.room.topic"
        ]
        assert topics == ["first", "second"]
        assert pair.b.node.rooms.state(pair.room_id)["m.room.topic", ""].content == {"topic": "second"}
        await pair.arrived(await pair.say(pair.a, "go on"))


async def test_served_events_may_say_their_own_id(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdu = {**pair.event(), "event_id": "$anything"}
        await pair.b.node.rooms.receive_pdu(pair.room_id, pdu, "a.example")
        assert "event_id" not in orjson.loads(pair.log(pair.b)[-1].pdu)


async def test_backfill_may_come_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "BACKFILL_LIMIT", 3)
    async with joined_pair(tmp_path) as pair:
        rewrite(pair, monkeypatch, "/backfill/", lambda answer: {"pdus": answer["pdus"][::-1]})
        await miss(pair, 5)
        await next_event(pair)
        pair.agree()


@pytest.mark.parametrize("content", [{}, None])
async def test_a_get_may_be_signed_without_content(tmp_path: Path, content: JsonObject | None) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        path = f"{FINAL}/v1/make_join/{room_id}/{BOB}?ver=I.1"
        authorization = sign_request(
            w.foreign.identity, destination="a.example", method="GET", uri=path, content=content
        )
        async with httpx.AsyncClient(transport=w.network.transport("b.example")) as client:
            answer = await client.get(f"https://a.example{path}", headers={"Authorization": authorization})
        assert answer.status_code == 200


async def test_transaction_ids_may_collide(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        notes = [w.foreign.lpdu(room_id, BOB, "org.example.note", {"n": n}) for n in range(3)]
        for note in [*notes, *notes]:
            assert (await w.foreign.send("the same", note)).body == {"failed_pdus": {}}
        entries = w.server.node.store.entries(room_id, after=0, limit=100)
        assert [
            orjson.loads(entry.pdu)["content"]["n"] for entry in entries if entry.type == "org.example.note"
        ] == [0, 1, 2]


async def test_events_of_the_hubs_own_users_name_no_hub(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdu = pair.event()
        assert "hub_server" not in pdu
        assert "lpdu" not in pdu["hashes"]
        await pair.b.node.rooms.receive_pdu(pair.room_id, pdu, "a.example")
        assert pair.log(pair.b)[-1].sender == ALICE
