"""A participant and a hub that is not to be trusted: what is refused, event by event and join by join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from linearized.exceptions import InvalidInput
from linearized.protocol.build import build_event, complete_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_lpdu
from linearized.protocol.verify import VerifiedLpdu
from linearized.room.submissions import Reason, Rejected
from tests.server.federation.support import V1, Foreign
from tests.server.linearized_pair import (
    ALICE,
    BOB,
    HubPair,
    changed,
    hub_pair,
    joined_pair,
    next_event,
)


@pytest.mark.parametrize(
    "forge",
    [
        lambda pair: changed(pair.event(), signatures={}),
        lambda pair: changed(pair.event(), origin_server_ts=2),
        lambda pair: changed(pair.event(), prev_events=["$x"]),
        lambda pair: changed(pair.event(), sender="@anna:a.example"),
        lambda pair: changed(pair.event(), room_id="!other:a.example"),
        lambda pair: pair.event(identity=replace(pair.b.node.identity, name="a.example")),
        lambda pair: pair.event(room_id="!other:a.example"),
        lambda pair: pair.event(sender="@stranger:a.example"),
        lambda pair: pair.event(auth_events=[]),
        lambda pair: pair.event(prev_events=[]),
        lambda pair: pair.event(prev_events=[pair.log(pair.a)[-1].event_id, pair.log(pair.a)[-2].event_id]),
        lambda pair: pair.event(identity=pair.b.node.identity, sender=BOB),
        lambda pair: {},
        lambda pair: {"room_id": pair.room_id},
    ],
    ids=[
        "unsigned", "other time", "other place", "other sender", "moved", "other key", "other room",
        "no member", "no authority", "no past", "two pasts", "not by the hub", "nothing", "hardly anything",
    ],
)  # fmt: skip
async def test_an_event_the_hub_should_not_have_sent_is_refused(
    tmp_path: Path, forge: Callable[[HubPair], JsonObject]
) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, forge(pair), "a.example")
        assert pair.log(pair.b) == before
        await next_event(pair)


async def test_an_event_whose_content_was_changed_on_the_way_is_kept_without_it(tmp_path: Path) -> None:
    # "the event is redacted before further processing"
    async with joined_pair(tmp_path) as pair:
        pdu = pair.event()
        await pair.b.node.rooms.receive_pdu(
            pair.room_id, changed(pdu, content={"body": "changed"}), "a.example"
        )
        assert orjson.loads(pair.log(pair.b)[-1].pdu)["content"] == {}


async def test_only_the_hub_is_heard(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        for room_id, origin in ((pair.room_id, "c.example"), ("!unknown:a.example", "a.example")):
            with pytest.raises(Rejected):
                await pair.b.node.rooms.receive_pdu(room_id, pair.event(), origin)
        with pytest.raises(Rejected) as refused:
            await pair.a.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")
        assert refused.value.code is Reason.WRONG_HUB


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"state": [], "event": []},
        {"state": [], "event": {}},
        {"state": [3]},
        {"failed_pdus": {"$x": "?"}},
    ],
)
async def test_an_answer_to_a_join_that_does_not_hold_begins_no_copy(
    tmp_path: Path, answer: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        real = pair.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "send_join" in path:
                return answer
            return await real(server, method, path, **more)

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(InvalidInput):
            await pair.join()
        assert pair.b.node.rooms.row(pair.room_id) is None
        assert not pair.b.node.rooms.participating._locks


@pytest.mark.parametrize("spoil", ["another event", "lies about state", "timeline"])
async def test_the_state_of_a_join_is_checked(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        said = await pair.say(pair.a, "before")
        real = pair.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if "send_join" not in path:
                return answer
            if spoil == "another event":
                return {**answer, "event": pair.event()}
            if spoil == "lies about state":
                return {
                    **answer,
                    "state": [*answer["state"][:-1], {**answer["state"][-1], "content": {}, "type": "x"}],
                }
            stored = pair.a.node.store.entry_by_id(said)
            assert stored is not None
            return {**answer, "state": [*answer["state"], orjson.loads(stored.pdu), answer["event"]]}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        if spoil == "timeline":  # some peers send the whole of it, the join included
            await pair.join()
            assert [entry.type for entry in pair.log(pair.b)] == [
                "m.room.create", "m.room.member", "m.room.join_rules", "m.room.member",
            ]  # fmt: skip
        else:
            with pytest.raises(InvalidInput):
                await pair.join()
            assert pair.b.node.rooms.row(pair.room_id) is None


@pytest.mark.parametrize("room_id", [None, "!ours:c.example"])
@pytest.mark.parametrize("creator", [None, "@eve:c.example", ALICE])
async def test_only_the_creators_server_can_be_joined_through(
    tmp_path: Path, room_id: str | None, creator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        taken = room_id or pair.room_id
        eve = Foreign("c.example", pair.network)

        def event(kind: str, content: JsonObject, auth: list[str], sender: str = "@eve:c.example") -> Event:
            return build_event(
                identity=pair.a.node.identity if sender == ALICE else eve.identity,
                version=V1, room_id=taken, type=kind, sender=sender, content=content, origin_server_ts=1,
                auth_events=auth, prev_events=["$last"] if auth else [], state_key="",
            )  # fmt: skip

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "make_join" in path:
                return {"room_version": "I.1"}
            create = event("m.room.create", {"room_version": "I.1"}, [], creator or "@eve:c.example")
            rules = event("m.room.join_rules", {"join_rule": "public"}, [create.event_id])
            verified = VerifiedLpdu(lpdu=parse_lpdu(more["json"], V1), origin="b.example")
            joined = complete_lpdu(
                verified, identity=eve.identity, version=V1, prev_events=["$last"],
                auth_events=[*([create.event_id] if creator else []), rules.event_id],
            )  # fmt: skip
            return {"state": [*([create.pdu] if creator else []), rules.pdu], "event": joined.pdu}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        rooms = pair.b.node.rooms
        if (room_id, creator) == ("!ours:c.example", "@eve:c.example"):
            await rooms.join_remote(taken, user_id=BOB, via=["c.example"])
            return
        with pytest.raises(InvalidInput):
            await rooms.join_remote(taken, user_id=BOB, via=["c.example"])
        assert rooms.row(taken) is None


async def test_what_an_invite_shows_of_a_room_is_believed_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies: list[JsonObject] = [
        {"type": "m.room.create", "state_key": "", "sender": "@eve:c.example",
         "content": {"room_version": "org.matrix.msc3995", "encryption": {"algorithm": "none"}}},
        {"type": "m.room.power_levels", "state_key": "", "sender": ALICE, "content": {"users": {BOB: 100}}},
        {"type": "m.room.hub", "state_key": "", "sender": "@eve:c.example", "content": {}},
    ]  # fmt: skip
    async with hub_pair(tmp_path, public=False) as pair:
        monkeypatch.setattr("linearized.server.invites.stripped_state", lambda _: lies)
        await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
        assert (pair.row(pair.b).version, pair.row(pair.b).hub) == ("I.1", "a.example")
        await pair.join()
        state = pair.b.node.rooms.state(pair.room_id)
        real = pair.a.node.rooms.state(pair.room_id)
        assert {key: event.event_id for key, event in state.items()} == {
            key: event.event_id for key, event in real.items()
        }
