"""``PUT /send``: what is taken, what is named as failed, and that nothing is taken twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
import trio.lowlevel
import trio.testing

from linearized.protocol.canonical import JsonObject
from linearized.protocol.hashing import event_id
from linearized.server.app import build_app
from linearized.server.deciding import Overloaded
from linearized.server.federation import devices
from linearized.server.http import Request, Response, Route
from linearized.store.base import DeviceRow
from tests.server.support import commits

from .schemas import check
from .support import ALICE, BOB, FINAL, UNSTABLE, V1, Answer, Foreign, World, event_of, room, world

CAROL = "@carol:c.example"


def topic(w: World, room_id: str, text: str, **more: Any) -> JsonObject:
    return w.foreign.lpdu(room_id, BOB, "org.example.note", {"text": text}, **more)


def notes(w: World, room_id: str) -> list[str]:
    entries = w.server.node.store.entries(room_id, after=0, limit=1000)
    return [orjson.loads(e.pdu)["content"]["text"] for e in entries if e.type == "org.example.note"]


async def test_lpdus_are_appended_in_order_and_come_back_as_pdus(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        carols = Foreign("c.example", w.network)
        await w.foreign.join(room_id)
        await carols.join(room_id, CAROL)
        lpdus = [topic(w, room_id, str(number)) for number in range(5)]
        check("transaction.request", {"pdus": lpdus})
        answer = await w.foreign.send("1", *lpdus)
        check("transaction.response", answer.body)
        assert answer == Answer(200, {"failed_pdus": {}})
        assert notes(w, room_id) == ["0", "1", "2", "3", "4"]
        with trio.fail_after(10):
            while len(w.foreign.received) < 7 or len(carols.received) < 6:  # the joins and the five
                await trio.testing.wait_all_tasks_blocked()
                await trio.lowlevel.checkpoint()
        check("transaction.request", {"pdus": w.foreign.received})
        echoed = [event_of(pdu) for pdu in w.foreign.received]
        assert [event.type for event in echoed] == ["m.room.member"] * 2 + ["org.example.note"] * 5
        # To all participants, "including the original sender".
        assert carols.received == w.foreign.received[1:]
        assert all(event.pdu["signatures"].keys() == {"a.example", "b.example"} for event in echoed[2:])


async def test_a_transaction_as_large_as_it_may_be_is_taken(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        units = [{"type": "org.example.unit", "content": {}}] * 100
        lpdus = [topic(w, room_id, str(number)) for number in range(50)]
        assert (await w.foreign.send("1", *lpdus, edus=units)).body == {"failed_pdus": {}}
        assert len(notes(w, room_id)) == 50


async def test_a_transaction_is_answered_without_waiting_for_its_delivery(tmp_path: Path) -> None:
    async def never(_request: Request) -> Response:
        await trio.sleep_forever()

    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        carols = Foreign("c.example", w.network)
        await carols.join(room_id, CAROL)
        w.network.views["a.example", "c.example"] = build_app(
            [Route("PUT", f"{UNSTABLE}/send/{{txn}}", never)]
        )
        with trio.fail_after(10):
            answer = await w.foreign.send("1", topic(w, room_id, "for all"))
        assert answer.body == {"failed_pdus": {}}
        assert notes(w, room_id) == ["for all"]


async def test_a_transaction_costs_one_commit_however_many_lpdus_are_in_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        await w.foreign.send("1", topic(w, room_id, "first"))
        before = commits(w.server)
        await w.foreign.send("2", *(topic(w, room_id, str(number)) for number in range(50)))
        # The entries; perhaps the follower's cursor has moved on meanwhile.
        assert commits(w.server) - before <= 2
        assert len(notes(w, room_id)) == 51


async def test_lpdus_of_two_rooms_are_taken_in_the_order_of_each(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        rooms = [await room(w.server), await room(w.server)]
        for room_id in rooms:
            await w.foreign.join(room_id)
        lpdus = [topic(w, rooms[number % 3 % 2], str(number)) for number in range(9)]
        assert (await w.foreign.send("1", *lpdus)).body == {"failed_pdus": {}}
        assert [notes(w, room_id) for room_id in rooms] == [["0", "2", "3", "5", "6", "8"], ["1", "4", "7"]]


async def test_the_final_path_works_as_the_unstable_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("PUT", f"{FINAL}/v2/send/1", {"pdus": []})
        assert answer == Answer(200, {"failed_pdus": {}})
        assert await w.foreign.ask("PUT", f"{UNSTABLE}/send/2", {}) == answer


async def test_a_transaction_sent_again_is_answered_and_not_processed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        bad = w.foreign.lpdu(room_id, BOB, "m.room.topic", {"topic": "mine"}, state_key="")
        first = await w.foreign.send("1", topic(w, room_id, "good"), bad)
        assert len(first.body["failed_pdus"]) == 1
        assert await w.foreign.send("1", topic(w, room_id, "good"), bad) == first
        assert notes(w, room_id) == ["good"]


async def test_a_transaction_of_events_that_were_all_taken_is_known_by_them(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        lpdus = [topic(w, room_id, str(number)) for number in range(3)]
        first = await w.foreign.send("1", *lpdus)
        before = commits(w.server)
        await w.foreign.send("2", topic(w, room_id, "later"))
        assert await w.foreign.send("1", *lpdus) == first
        assert notes(w, room_id) == ["0", "1", "2", "later"]
        assert commits(w.server) - before <= 2, "the later one, and perhaps the follower's cursor"


async def test_the_same_transaction_id_with_another_body_is_another_transaction(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        await w.foreign.send("1", topic(w, room_id, "one"))
        await w.foreign.send("1", topic(w, room_id, "two"))
        assert notes(w, room_id) == ["one", "two"]


async def test_an_lpdu_in_two_transactions_is_appended_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        lpdu = topic(w, room_id, "once")
        for txn in ("1", "2"):
            assert (await w.foreign.send(txn, lpdu)).body == {"failed_pdus": {}}
        assert notes(w, room_id) == ["once"]


async def test_another_transaction_in_flight_is_refused_and_a_repetition_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        rooms, go = w.server.node.rooms, trio.Event()
        submit_all = rooms.submit_all

        async def slowly(*args: Any, **more: Any) -> Any:
            await go.wait()
            return await submit_all(*args, **more)

        monkeypatch.setattr(rooms, "submit_all", slowly)
        lpdu, answers = topic(w, room_id, "slow"), list[Answer]()

        async def send() -> None:
            answers.append(await w.foreign.send("1", lpdu))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            other = await w.foreign.send("2", topic(w, room_id, "other"))
            assert (other.status, other.errcode) == (400, "M_BAD_STATE")
            stranger = Foreign("c.example", w.network)
            assert (await stranger.send("9")).status == 200, "another server is not held up"
            go.set()
        assert answers == [Answer(200, {"failed_pdus": {}})] * 2
        assert notes(w, room_id) == ["slow"]
        assert (await w.foreign.send("2", topic(w, room_id, "other"))).status == 200


async def test_a_transaction_whose_sender_hung_up_is_done_once_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        rooms = w.server.node.rooms
        submit_all, hung_up = rooms.submit_all, False

        async def lost(*args: Any, **more: Any) -> Any:
            nonlocal hung_up
            decided = await submit_all(*args, **more)
            if not hung_up:
                hung_up = True
                await trio.sleep_forever()  # as far as its sender waits
            return decided

        monkeypatch.setattr(rooms, "submit_all", lost)
        lpdus = [topic(w, room_id, text) for text in ("one", "two")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.foreign.send, "1", *lpdus)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert hung_up
            nursery.cancel_scope.cancel()
        assert (await w.foreign.send("1", *lpdus)).body == {"failed_pdus": {}}
        assert (await w.foreign.send("2", topic(w, room_id, "three"))).body == {"failed_pdus": {}}
        assert notes(w, room_id) == ["one", "two", "three"]


async def test_a_full_queue_breaks_the_transaction_off_and_its_repetition_appends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        rooms = w.server.node.rooms
        submit_all, calls = rooms.submit_all, 0

        async def busy(room_id: str, submissions: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:  # as if there were room for the first of them only
                await submit_all(room_id, submissions[:1])
                raise Overloaded("busy")
            return await submit_all(room_id, submissions)

        monkeypatch.setattr(rooms, "submit_all", busy)
        lpdus = [topic(w, room_id, text) for text in ("one", "two")]
        broken = await w.foreign.send("1", *lpdus)
        assert (broken.status, broken.errcode) == (429, "M_LIMIT_EXCEEDED")
        assert (await w.foreign.send("1", *lpdus)).body == {"failed_pdus": {}}
        assert notes(w, room_id) == ["one", "two"]


async def test_rejected_events_are_named_by_the_id_of_what_was_received_and_dropped_ones_are_not(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        forbidden = w.foreign.lpdu(room_id, BOB, "m.room.topic", {"topic": "mine"}, state_key="")
        forged = {**topic(w, room_id, "forged"), "origin_server_ts": 7}
        foreign_user = {**topic(w, room_id, "x"), "sender": ALICE}
        nowhere = w.foreign.lpdu("!nowhere:a.example", BOB, "org.example.note", {"text": "x"})
        vouched = {**nowhere, "provenance": {"protocol": "mimi"}}
        answer = await w.foreign.send(
            "1", forbidden, forged, foreign_user, nowhere, vouched, topic(w, room_id, "fine")
        )
        check("transaction.response", answer.body)
        failed = answer.body["failed_pdus"]
        for pdu in (forbidden, nowhere):
            assert event_id(pdu, V1) in failed
        assert len(failed) == 3  # with the one that claims a provenance, in no room either
        assert "Unknown room" in failed[event_id(nowhere, V1)]["error"]
        assert notes(w, room_id) == ["fine"]


async def test_a_pdu_for_a_room_we_order_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        joined = (await w.foreign.join(room_id))["event"]
        answer = await w.foreign.send("1", joined)
        assert list(answer.body["failed_pdus"]) == [event_of(joined).event_id]


@pytest.mark.parametrize(
    "body",
    [
        {"pdus": {}},
        {"pdus": ["x"]},
        {"edus": 1},
        {"pdus": [{}] * 51},
        {"edus": [{}] * 101},
    ],
)
async def test_a_malformed_transaction_is_refused(tmp_path: Path, body: JsonObject) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("PUT", f"{UNSTABLE}/send/1", body)
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")


async def test_an_event_without_any_form_does_not_hold_up_its_neighbours(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        broken: list[JsonObject] = [
            {},
            {"room_id": room_id},
            {"room_id": 5},
            {"room_id": room_id, "type": ["m.room.server_acl"]},
            {"room_id": room_id, "content": []},
        ]
        broken.append({"room_id": room_id, "auth_events": []})
        answer = await w.foreign.send("1", *broken, topic(w, room_id, "fine"))
        assert answer.status == 200
        assert notes(w, room_id) == ["fine"]


async def test_an_unsigned_transaction_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.server.http() as http:
        answer = await http.put(f"{UNSTABLE}/send/1", json={"pdus": []})
        check("error", answer.json())
        assert (answer.status_code, answer.json()["errcode"]) == (401, "M_FORBIDDEN")


def direct(**changes: Any) -> JsonObject:
    content = {"target": ALICE, "target_device": "PHONE", "message_type": "m.test", "message": {"a": 1}}
    return {"type": "m.direct_to_device", "sender": BOB, "content": content | changes}


async def test_a_to_device_message_reaches_its_device(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        store = w.server.node.store
        await store.put_device(
            DeviceRow(user_id=ALICE, device_id="PHONE", display_name=None, token_hash=None)
        )
        check("direct_to_device", direct())
        ticket = w.server.node.notifier.ticket(ALICE)
        answer = await w.foreign.send("1", edus=[direct()])
        assert answer.status == 200
        (message,) = store.to_device(ALICE, "PHONE", after=0, limit=10)
        assert (message.type, message.sender, orjson.loads(message.content)) == ("m.test", BOB, {"a": 1})
        assert ticket.is_set()
        await w.foreign.send("1", edus=[direct()])
        assert len(store.to_device(ALICE, "PHONE", after=0, limit=10)) == 1


@pytest.mark.parametrize(
    "edu",
    [
        {},
        {"type": "m.typing", "sender": BOB, "content": {}},
        {**direct(), "sender": "@eve:c.example"},
        {**direct(), "sender": 5},
        {**direct(), "content": []},
        direct(target="@nobody:a.example"),
        direct(target="@alice:b.example"),
        direct(target=5),
        direct(target_device="LAPTOP"),
        direct(message="text"),
        direct(message_type=None),
        direct(message_type="x" * 256),
    ],
)
async def test_any_other_ephemeral_unit_is_dropped(tmp_path: Path, edu: JsonObject) -> None:
    async with world(tmp_path) as w:
        store = w.server.node.store
        await store.put_device(
            DeviceRow(user_id=ALICE, device_id="PHONE", display_name=None, token_hash=None)
        )
        assert (await w.foreign.send("1", edus=[edu])).status == 200
        assert store.to_device_position() == 0


async def test_one_server_cannot_fill_a_devices_queue_or_take_anothers_place_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        store = w.server.node.store
        for device_id in ("PHONE", "LAPTOP"):
            await store.put_device(
                DeviceRow(user_id=ALICE, device_id=device_id, display_name=None, token_hash=None)
            )
        monkeypatch.setattr(devices, "MAX_WAITING", 3)
        monkeypatch.setattr(devices, "MAX_WAITING_BYTES", 100)

        def waiting(device_id: str = "PHONE") -> list[Any]:
            rows = store.to_device(ALICE, device_id, after=0, limit=100)
            return [orjson.loads(row.content)["a"] for row in rows]

        answer = await w.foreign.send("1", edus=[direct(message={"a": n}) for n in range(5)])
        assert (answer.status, answer.body) == (200, {"failed_pdus": {}})
        assert waiting() == [0, 1, 2]
        long = [direct(message={"a": text}, target_device="LAPTOP") for text in ("x" * 90, "y" * 90, "z")]
        await w.foreign.send("2", edus=long)
        assert waiting("LAPTOP") == ["x" * 90]
        other = Foreign("c.example", w.network)
        await other.send("1", edus=[{**direct(message={"a": "other"}), "sender": "@carol:c.example"}])
        assert waiting() == [0, 1, 2, "other"]
        # What the device has taken makes room.
        first = store.to_device(ALICE, "PHONE", after=0, limit=1)[0]
        await store.delete_to_device(ALICE, "PHONE", up_to=first.position)
        await w.foreign.send("3", edus=[direct(message={"a": "more"})])
        assert waiting() == [1, 2, "other", "more"]
