from __future__ import annotations

import pytest

from bridges.matrix.megolm import held
from bridges.matrix.megolm.held import PATIENCE_MS, is_late, replacement
from bridges.matrix.queue import Incoming, IncomingQueue
from tests.bridges.encrypting_client import JsonObject
from tests.bridges.megolm.rig import ROOM, Rig
from tests.bridges.support import ALICE, BOB


def queued(rig: Rig, event_id: str, sender: str = ALICE) -> Incoming:
    event = {
        "type": "m.room.encrypted",
        "room_id": ROOM,
        "event_id": event_id,
        "sender": sender,
        "content": {"session_id": "s"},
    }
    queue = IncomingQueue(rig.database)
    assert queue.add(event)
    incoming = queue.next()
    assert incoming is not None
    return incoming


def upcoming(rig: Rig) -> list[str]:
    """What waits for its turn; each is then done."""
    queue, found = IncomingQueue(rig.database), []
    while (incoming := queue.next()) is not None:
        found.append(incoming.event_id)
        queue.finish(incoming)
    return found


def test_an_event_whose_key_comes_in_time_gets_its_turn() -> None:
    rig = Rig()
    assert rig.held.patience() is None
    assert rig.held.hold(queued(rig, "$1"), "s")
    assert upcoming(rig) == []
    assert rig.held.patience() == PATIENCE_MS
    assert rig.held.key_came(ROOM, "other") == 0
    assert rig.held.key_came(ROOM, "s") == 1
    assert upcoming(rig) == ["$1"]
    assert rig.held.patience() is None


def test_an_event_that_waited_long_enough_is_told_of_and_replaced_when_the_key_comes() -> None:
    rig = Rig()
    rig.held.hold(queued(rig, "$1"), "s")
    rig.now += PATIENCE_MS - 1
    rig.held.give_up()
    assert (upcoming(rig), rig.held.patience()) == ([], 1)
    rig.now += 1
    rig.held.give_up()
    incoming = IncomingQueue(rig.database).next()
    assert incoming is not None
    # It does not wait a second time.
    assert not rig.held.hold(incoming, "s")
    assert upcoming(rig) == ["$1"]
    rig.held.key_came(ROOM, "s")
    late = IncomingQueue(rig.database).next()
    assert late is not None
    assert is_late(late)
    assert late.event["event_id"] == "$1"
    assert len(upcoming(rig)) == 1
    rig.held.key_came(ROOM, "s")
    assert upcoming(rig) == []


def test_a_key_that_comes_just_before_the_event_is_told_of_leaves_nothing_to_replace() -> None:
    rig = Rig()
    rig.held.hold(queued(rig, "$1"), "s")
    rig.now += PATIENCE_MS
    rig.held.give_up()
    rig.held.key_came(ROOM, "s")
    assert upcoming(rig) == ["$1"]


def test_what_the_sender_withholds_the_key_of_does_not_wait() -> None:
    rig = Rig()
    rig.held.hold(queued(rig, "$1"), "s")
    rig.held.withheld(ROOM, "s", BOB)  # who has nothing to say about it
    assert rig.held.patience() == PATIENCE_MS
    rig.held.withheld(ROOM, "s", ALICE)
    rig.held.give_up()
    assert upcoming(rig) == ["$1"]


def test_only_so_many_wait_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_WAITING", 2)
    monkeypatch.setattr(held, "MAX_KEPT", 3)
    rig = Rig()
    for number in range(2):
        assert rig.held.hold(queued(rig, f"${number}"), "s")
    for number in range(2, 6):
        rig.now += 1
        incoming = queued(rig, f"${number}")
        assert not rig.held.hold(incoming, "s")
        IncomingQueue(rig.database).finish(incoming)
    kept = rig.database.all("SELECT event_id, said FROM undecrypted ORDER BY event_id")
    assert [tuple(row) for row in kept] == [("$0", 0), ("$1", 0), ("$3", 1), ("$4", 1), ("$5", 1)]


@pytest.mark.parametrize("comes", [True, False])
def test_what_a_sender_does_after_an_event_that_waits_waits_behind_it_and_what_others_do_does_not(
    *, comes: bool
) -> None:
    rig = Rig()
    assert not rig.held.hold_behind(queued(rig, "$before"))
    assert upcoming(rig) == ["$before"]
    assert rig.held.hold(queued(rig, "$1"), "s")
    rig.now += 10
    assert rig.held.hold_behind(queued(rig, "$2"))
    assert not rig.held.hold_behind(queued(rig, "$of-another", BOB))
    assert upcoming(rig) == ["$of-another"]
    assert rig.held.hold_behind(queued(rig, "$3"))
    if comes:
        rig.held.key_came(ROOM, "s")
    else:
        rig.now += PATIENCE_MS - 10
        rig.held.give_up()
    assert upcoming(rig) == ["$1", "$2", "$3"]
    assert rig.held.patience() is None
    # Of those that only waited behind it, nothing is to be replaced.
    rig.held.key_came(ROOM, "s")
    assert len(upcoming(rig)) == (0 if comes else 1)


def test_what_waits_behind_two_waits_for_both() -> None:
    rig = Rig()
    rig.held.hold(queued(rig, "$1"), "s")
    rig.held.hold(queued(rig, "$2"), "t")
    assert rig.held.hold_behind(queued(rig, "$3"))
    rig.held.key_came(ROOM, "s")
    assert upcoming(rig) == ["$1"]
    rig.held.key_came(ROOM, "t")
    assert upcoming(rig) == ["$2", "$3"]


def test_behind_an_event_that_waits_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_WAITING", 2)
    rig = Rig()
    rig.held.hold(queued(rig, "$1"), "s")
    assert rig.held.hold_behind(queued(rig, "$2"))
    assert not rig.held.hold_behind(queued(rig, "$3"))
    assert upcoming(rig) == ["$3"]


def late(content: JsonObject, kind: str = "m.room.message") -> JsonObject:
    incoming = Incoming(position=1, room_id=ROOM, event_id="$1~decrypted", event={})
    return replacement(incoming, {"type": kind, "event_id": "$1", "content": content})


def test_a_late_message_is_an_edit_of_the_text_that_stood_for_it() -> None:
    edit = late({"msgtype": "m.text", "body": "hello", "m.relates_to": {"rel_type": "m.thread"}})
    assert (edit["type"], edit["event_id"]) == ("m.room.message", "$1~decrypted")
    assert edit["content"]["m.new_content"] == {"msgtype": "m.text", "body": "hello"}
    assert edit["content"]["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$1"}


def test_a_late_edit_edits_what_it_names_and_what_is_no_message_becomes_a_text() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$0"}
    assert late({"body": "x", "m.relates_to": relation})["content"]["m.relates_to"] == relation
    poll = late({"m.text": "Tea?"}, "m.poll.start")
    assert (poll["type"], poll["content"]["m.new_content"]["msgtype"]) == ("m.room.message", "m.text")
