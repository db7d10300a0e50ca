"""A room that changes its hub, as its hub and as a participant see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.protocol.build import build_event, build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.redaction import redact
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import hub_of
from linearized.protocol.versions import get_version
from linearized.room.replica import Gap, Replica
from linearized.room.room import Room
from linearized.room.submissions import LinearizedPdu, LocalEvent, Reason, Rejected
from tests.room.support import (
    ALICE,
    BOB,
    MLS,
    NOW,
    ROOM,
    A,
    B,
    linearized_pdu,
    new_room,
    refusal,
    state_event,
)


def lpdu(
    room: Room, kind: str, content: JsonObject, *, state_key: str = "", hub: str = "a.example"
) -> LinearizedPdu:
    built = build_lpdu(
        identity=B,
        version=room.version,
        room_id=ROOM,
        type=kind,
        sender=BOB,
        content=content,
        origin_server_ts=NOW,
        hub_server="a.example",
        state_key=state_key,
    )
    return linearized_pdu(built, B, room.version)


def transfer(room: Room, *, after: str | None = None) -> LinearizedPdu:
    return replace(lpdu(room, "m.room.hub", {"after": after or room.log.head[1]}), transfer=True)


@pytest.fixture
def room() -> Room:
    """Alice's room; Bob of b.example is in it and in charge as she is."""
    made = with_bob("dev.linearized.1")
    levels = state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 100}})
    made.submit(levels, now=NOW)
    return made


def with_bob(version: str) -> Room:
    public = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})
    made = new_room(version=version, encrypted=False, initial=[public])
    made.submit(lpdu(made, "m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    return made


def named(room: Room, sender: str = ALICE) -> LocalEvent:
    return state_event(sender, "m.room.name", {"name": "x"})


def replica_of(room: Room) -> Replica:
    return Replica(version=room.version, hub="a.example", state=room.state, head=room.log.head, grouped=False)


def taken_over(room: Room) -> Room:
    """The room as b.example goes on with it."""
    return Room(room_id=ROOM, version=room.version, identity=B, mls=MLS, state=room.state, head=room.log.head)


def test_the_hub_that_agreed_hands_the_room_over_and_decides_nothing_more(room: Room) -> None:
    event = room.submit(transfer(room), now=NOW).entries[-1].event
    assert hub_of(room.state) == "b.example"
    assert set(event.pdu["signatures"]) == {"a.example", "b.example"}
    assert refusal(room, named(room), Reason.WRONG_HUB).args == ("The hub of this room is b.example",)


def test_a_transfer_that_the_hub_has_not_agreed_to_is_refused(room: Room) -> None:
    refusal(room, replace(transfer(room), transfer=False), Reason.FORBIDDEN)


def test_a_transfer_is_good_for_one_place_in_the_log(room: Room) -> None:
    kept = transfer(room)
    room.submit(named(room), now=NOW)
    refusal(room, kept, Reason.FORBIDDEN)
    refusal(room, transfer(room, after="$other"), Reason.FORBIDDEN)


def test_the_hub_does_not_hand_the_room_to_itself(room: Room) -> None:
    refusal(room, state_event(ALICE, "m.room.hub", {"after": room.log.head[1]}), Reason.FORBIDDEN)


def test_the_new_hub_goes_on_where_the_old_one_ended(room: Room) -> None:
    room.submit(transfer(room), now=NOW)
    taken = taken_over(room)
    accepted = taken.submit(named(taken, BOB), now=NOW)
    assert accepted.entries[0].seq == room.head_seq + 1
    # Back again: the second transfer names the first.
    first = room.state["m.room.hub", ""].event_id
    built = build_lpdu(
        identity=A, version=room.version, room_id=ROOM, type="m.room.hub", sender=ALICE,
        content={"after": taken.log.head[1]}, origin_server_ts=NOW, hub_server="b.example", state_key="",
    )  # fmt: skip
    back = replace(linearized_pdu(built, A, room.version), transfer=True)
    event = taken.submit(back, now=NOW).entries[0].event
    assert first in event.auth_events
    assert hub_of(taken.state) == "a.example"


def test_a_participant_follows_to_the_new_hub(room: Room) -> None:
    replica = replica_of(room)
    event = room.submit(transfer(room), now=NOW).entries[0].event
    assert replica.hub == "a.example"
    replica.receive(event)
    assert replica.hub == "b.example"

    def next_event(identity: ServerIdentity, sender: str) -> Event:
        keys = (("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", sender))
        selected = [room.state[key].event_id for key in keys]
        return build_event(
            identity=identity, version=room.version, room_id=ROOM, type="m.room.name", sender=sender,
            content={}, origin_server_ts=NOW, auth_events=selected, prev_events=[event.event_id],
            state_key="",
        )  # fmt: skip

    with pytest.raises(Rejected):
        replica.receive(next_event(A, ALICE))
    replica.receive(next_event(B, BOB))


def test_what_a_new_hub_sends_to_who_missed_the_transfer_is_a_gap(room: Room) -> None:
    replica = replica_of(room)
    room.submit(transfer(room), now=NOW)
    taken = taken_over(room)
    event = taken.submit(named(taken, BOB), now=NOW).entries[0].event
    with pytest.raises(Gap) as gap:
        replica.receive(event)
    assert gap.value.missing == room.log.head[1]


def test_a_redacted_transfer_is_one_all_the_same(room: Room) -> None:
    event = room.submit(transfer(room), now=NOW).entries[0].event
    assert redact(event.pdu, room.version)["content"] == event.content


def test_where_there_are_no_transfers_such_an_event_hands_nothing_over() -> None:
    made = with_bob("I.1")
    made.submit(state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 100}}), now=NOW)
    made.submit(lpdu(made, "m.room.hub", {}), now=NOW)
    assert hub_of(made.state) == "a.example"
    made.submit(named(made), now=NOW)
    assert not get_version("I.1").hub_transfers
