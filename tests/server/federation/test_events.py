"""Events, state and history for servers in a room, and nothing for others."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from linearized.room.submissions import LocalEvent
from linearized.server.federation.visibility import visible_until
from linearized.store.base import EntryRow, Role, RoomAppend, RoomRow

from .schemas import check
from .support import ALICE, BOB, FINAL, UNSTABLE, Answer, Foreign, World, event_of, room, world


def entries(w: World, room_id: str) -> list[EntryRow]:
    return w.server.node.store.entries(room_id, after=0, limit=1000)


async def note(w: World, room_id: str, text: str) -> str:
    event = LocalEvent(sender=ALICE, type="org.example.note", content={"text": text})
    return await w.server.node.rooms.send(room_id, event)


def path(kind: str, room_id: str, query: str) -> str:
    return f"{UNSTABLE}/{kind}/{quote(room_id, safe='')}?{query}"


async def backfill(w: World, room_id: str, last: str, limit: object, who: Foreign | None = None) -> Answer:
    return await (who or w.foreign).ask("GET", path("backfill", room_id, f"v={quote(last)}&limit={limit}"))


async def test_an_event_is_served_as_it_was_stored(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        for entry in entries(w, room_id):
            for where in (f"{FINAL}/v2/event", f"{UNSTABLE}/event"):
                answer = await w.foreign.ask("GET", f"{where}/{quote(entry.event_id, safe='')}")
                check("event.response", answer.body)
                assert (answer.status, answer.body) == (200, orjson.loads(entry.pdu))
                assert event_of(answer.body).event_id == entry.event_id, "complete, with what the hub adds"


async def test_state_is_that_before_the_event(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        await note(w, room_id, "behind Bob's join, which was an LPDU once")
        log = entries(w, room_id)
        rules = next(entry for entry in log if entry.type == "m.room.join_rules")
        answer = await w.foreign.ask("GET", path("state", room_id, f"event_id={quote(rules.event_id)}"))
        check("state.response", answer.body)
        assert [event_of(pdu).event_id for pdu in answer.body["pdus"]] == [e.event_id for e in log[:2]]
        assert [event_of(pdu).type for pdu in answer.body["auth_chain"]] == ["m.room.create"]
        last = log[-1].event_id
        full = await w.foreign.ask("GET", f"{FINAL}/v1/state/{quote(room_id)}?event_id={quote(last)}")
        ids = await w.foreign.ask("GET", f"{FINAL}/v1/state_ids/{quote(room_id)}?event_id={quote(last)}")
        check("state_ids.response", ids.body)
        joined = next(event for event in map(event_of, full.body["pdus"]) if event.state_key == BOB)
        assert joined.pdu["signatures"].keys() == {"a.example", "b.example"}
        assert ids.body == {
            "auth_chain_ids": [event_of(pdu).event_id for pdu in full.body["auth_chain"]],
            "pdu_ids": [event_of(pdu).event_id for pdu in full.body["pdus"]],
        }


async def test_the_auth_chain_reaches_back_to_the_create_event_through_superseded_ones(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        for level in (1, 2, 3):
            content = {"users": {ALICE: 100}, "events_default": level, "users_default": level}
            event = LocalEvent(sender=ALICE, type="m.room.power_levels", state_key="", content=content)
            await w.server.node.rooms.send(room_id, event)
        last = await note(w, room_id, "now")
        answer = await w.foreign.ask("GET", path("state", room_id, f"event_id={quote(last)}"))
        chain = [event_of(pdu) for pdu in answer.body["auth_chain"]]
        assert chain[0].type == "m.room.create"
        assert [event.type for event in chain].count("m.room.power_levels") == 2
        known = {event.event_id for event in chain}
        assert all(known.issuperset(event.auth_events) for event in chain)


async def test_backfill_goes_back_from_the_event_and_is_oldest_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        for number in range(5):
            await note(w, room_id, str(number))
        log = entries(w, room_id)
        answer = await backfill(w, room_id, log[-2].event_id, 3)
        check("backfill.response", answer.body)
        assert [event_of(pdu).event_id for pdu in answer.body["pdus"]] == [e.event_id for e in log[-4:-1]]
        everything = await backfill(w, room_id, log[-1].event_id, 100)
        assert [event_of(pdu).event_id for pdu in everything.body["pdus"]] == [e.event_id for e in log]


async def test_backfill_is_bounded_by_our_own_limit(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        limit = w.server.node.config.limits.max_backfill
        for number in range(limit):
            last = await note(w, room_id, str(number))
        answer = await backfill(w, room_id, last, 10**8)
        assert len(answer.body["pdus"]) == limit


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5", "", "9" * 10, "%D9%A3"])
async def test_a_limit_is_a_number(tmp_path: Path, limit: str) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await backfill(w, room_id, entries(w, room_id)[-1].event_id, limit)
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize(("kind", "query"), [("backfill", "limit=1"), ("state", "x=1"), ("state_ids", "x=1")])
async def test_a_missing_parameter_is_named(tmp_path: Path, kind: str, query: str) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        answer = await w.foreign.ask("GET", path(kind, room_id, query))
        assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")


async def assert_hidden(w: World, who: Foreign, room_id: str, event_id: str) -> None:
    for target in (
        f"{UNSTABLE}/event/{quote(event_id)}",
        path("state", room_id, f"event_id={quote(event_id)}"),
        path("state_ids", room_id, f"event_id={quote(event_id)}"),
        path("backfill", room_id, f"v={quote(event_id)}&limit=1"),
    ):
        answer = await who.ask("GET", target)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND"), target


async def test_for_a_server_that_was_never_in_it_a_room_does_not_exist(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        stranger = Foreign("c.example", w.network)
        for entry in entries(w, room_id):
            await assert_hidden(w, stranger, room_id, entry.event_id)
        await assert_hidden(w, w.foreign, room_id, "$unknown")


async def test_an_event_of_another_room_is_not_found_in_this_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first, second = await room(w.server), await room(w.server)
        for room_id in (first, second):
            await w.foreign.join(room_id)
        answer = await backfill(w, first, entries(w, second)[-1].event_id, 1)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_an_invited_server_sees_nothing_yet(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.server.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        await assert_hidden(w, w.foreign, room_id, entries(w, room_id)[-1].event_id)
        await w.server.node.rooms.send(
            room_id,
            LocalEvent(sender=ALICE, type="m.room.member", state_key=BOB, content={"membership": "leave"}),
        )
        await assert_hidden(w, w.foreign, room_id, entries(w, room_id)[-1].event_id)


@pytest.mark.parametrize("membership", ["leave", "ban"])
async def test_a_server_that_had_to_go_sees_the_room_up_to_there(tmp_path: Path, membership: str) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        gone = await w.server.node.rooms.send(
            room_id,
            LocalEvent(sender=ALICE, type="m.room.member", state_key=BOB, content={"membership": membership}),
        )
        after = await note(w, room_id, "in private")
        answer = await backfill(w, room_id, gone, 100)
        assert len(answer.body["pdus"]) == len(entries(w, room_id)) - 1
        await assert_hidden(w, w.foreign, room_id, after)


async def test_a_ban_after_leaving_does_not_show_what_lay_between(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        for membership in ("leave", "ban", "leave"):
            await w.server.node.rooms.send(
                room_id,
                LocalEvent(
                    sender=ALICE, type="m.room.member", state_key=BOB, content={"membership": membership}
                ),
            )
            await note(w, room_id, f"after {membership}")
        left = next(entry for entry in entries(w, room_id) if b'"membership":"leave"' in entry.pdu)
        assert (await backfill(w, room_id, left.event_id, 1)).status == 200
        for entry in entries(w, room_id):
            if entry.seq > left.seq:
                await assert_hidden(w, w.foreign, room_id, entry.event_id)


async def test_a_world_readable_room_is_seen_by_everybody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        visible = LocalEvent(
            sender=ALICE,
            type="m.room.history_visibility",
            state_key="",
            content={"history_visibility": "world_readable"},
        )
        room_id = await room(w.server, more=(visible,))
        stranger = Foreign("c.example", w.network)
        last = entries(w, room_id)[-1].event_id
        assert (await backfill(w, room_id, last, 10, stranger)).status == 200


@pytest.mark.parametrize(
    ("visibility", "hidden"), [("joined", ["before", "invited"]), ("invited", ["before"]), ("shared", [])]
)
async def test_what_was_said_before_a_server_came_is_shown_as_the_room_has_it(
    tmp_path: Path, visibility: str, hidden: list[str]
) -> None:
    async with world(tmp_path) as w:
        rule = LocalEvent(
            sender=ALICE,
            type="m.room.history_visibility",
            state_key="",
            content={"history_visibility": visibility},
        )
        room_id = await room(w.server, more=(rule,))
        await note(w, room_id, "before")
        await w.server.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        await note(w, room_id, "invited")
        await w.foreign.join(room_id)
        last = await note(w, room_id, "joined")
        answer = await backfill(w, room_id, last, 100)
        check("backfill.response", answer.body)
        shown = {event_of(pdu).event_id: pdu["content"] for pdu in answer.body["pdus"]}
        for entry in entries(w, room_id):
            content = orjson.loads(entry.pdu)["content"]
            expected = {} if content.get("text") in hidden else content
            assert shown[entry.event_id] == expected
            single = await w.foreign.ask("GET", f"{UNSTABLE}/event/{quote(entry.event_id)}")
            assert single.body["content"] == expected


async def test_the_log_of_a_mimi_room_is_not_served_as_events(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        row = RoomRow(
            room_id="!theirs:c.example",
            version="dev.linearized.1",
            role=Role.FOLLOWER,
            hub="c.example",
            head_seq=0,
            epoch=None,
        )
        joined = EntryRow(
            room_id=row.room_id,
            seq=1,
            event_id="$joined",
            type="m.room.member",
            state_key=BOB,
            sender=BOB,
            origin_server_ts=1,
            epoch=None,
            pdu=orjson.dumps({"type": "m.room.member", "content": {"membership": "join"}}),
        )
        await w.server.node.store.append(RoomAppend(room_id=row.room_id, room=row, entries=(joined,)))
        answer = await w.foreign.ask("GET", f"{UNSTABLE}/event/$joined")
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_the_room_of_another_hub_is_asked_for_at_the_wrong_server(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        row = RoomRow(
            room_id="!theirs:c.example",
            version="I.1",
            role=Role.PARTICIPANT,
            hub="c.example",
            head_seq=0,
            epoch=None,
        )
        await w.server.node.store.append(RoomAppend(room_id=row.room_id, room=row))
        for target in (
            path("state", row.room_id, "event_id=$x"),
            path("state_ids", row.room_id, "event_id=$x"),
            path("backfill", row.room_id, "v=$x&limit=1"),
            f"{FINAL}/v1/make_join/{quote(row.room_id)}/{quote(BOB)}?ver=I.1",
            f"{FINAL}/v1/make_leave/{quote(row.room_id)}/{quote(BOB)}",
        ):
            answer = await w.foreign.ask("GET", target)
            assert (answer.status, answer.errcode) == (400, "M_WRONG_SERVER")
        join = w.foreign.member(row.room_id, BOB, "join")
        answer = await w.foreign.ask("POST", f"{UNSTABLE}/send_join/1", join)
        assert (answer.status, answer.errcode) == (400, "M_WRONG_SERVER")


async def test_asking_for_an_event_does_not_cost_the_size_of_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        for number in range(3):
            user = f"@bob{number}:b.example"
            await w.foreign.join(room_id, user)
            left = await w.foreign.send(f"leave{number}", w.foreign.member(room_id, user, "leave"))
            assert left.body == {"failed_pdus": {}}
        row = w.server.node.rooms.row(room_id)
        assert row is not None

        def read_whole(*_args: object, **_named: object) -> None:
            raise AssertionError("the whole state was read")

        monkeypatch.setattr(type(w.server.node.store), "state_at", read_whole)
        assert visible_until(w.server.node, row, "b.example") == row.head_seq
        assert visible_until(w.server.node, row, "c.example") is None
