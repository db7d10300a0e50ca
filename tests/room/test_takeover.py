"""A takeover, as a participant sees it: it binds whose operator agreed, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.authorization import select_auth_events
from linearized.protocol.build import build_event, build_lpdu
from linearized.protocol.events import Event
from linearized.protocol.redaction import redact
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import hub_of
from linearized.room.replica import Gap, Replica
from linearized.room.room import Room
from linearized.room.submissions import Reason, Rejected
from tests.room.support import ALICE, BOB, NOW, ROOM, A, B, identity, linearized_pdu, state_event
from tests.room.test_transfer import named, with_bob

C = identity("c.example")
CAROL = "@carol:c.example"


@pytest.fixture
def room() -> Room:
    """Alice's room; Bob of b.example is in it and in charge as she is."""
    made = with_bob("dev.linearized.1")
    made.submit(state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 100}}), now=NOW)
    return made


def takeover(
    room: Room, identity: ServerIdentity = B, sender: str = BOB, *, hub: str = "a.example", **changes: str
) -> Event:
    content = {"after": room.log.head[1], "takeover": {"hub": hub, "size": room.head_seq, "root": "cm9vdA"}}
    selected = select_auth_events(
        type="m.room.hub", state_key="", sender=sender, content=content, state=room.state,
        version=room.version,
    )  # fmt: skip
    return build_event(
        identity=identity, version=room.version, room_id=ROOM, type="m.room.hub", sender=sender,
        content=content | changes, origin_server_ts=NOW, auth_events=selected,
        prev_events=[room.log.head[1] or ""], state_key="",
    )  # fmt: skip


def agreeing(room: Room, agreed: str | None) -> Replica:
    return Replica(
        version=room.version,
        hub="a.example",
        state=room.state,
        head=room.log.head,
        grouped=False,
        agreed=agreed,
    )


def test_a_participant_follows_a_takeover_that_its_operator_agreed_to(room: Room) -> None:
    replica = agreeing(room, "b.example")
    entry = replica.receive(takeover(room))
    assert (replica.hub, hub_of(replica.state)) == ("b.example", "b.example")
    assert entry.seq == room.head_seq + 1
    # What was agreed to was this one: the next needs a word of its own, and the old hub is out.
    for event in (
        takeover(room, A, ALICE, hub="b.example"),
        room.submit(named(room), now=NOW).entries[0].event,
    ):
        with pytest.raises((Rejected, Gap)):
            replica.receive(event)


def test_what_was_agreed_to_is_not_forgotten_with_the_next_event(room: Room) -> None:
    replica = agreeing(room, "b.example")
    replica.receive(room.submit(named(room), now=NOW).entries[0].event)
    replica.receive(takeover(room))
    assert replica.hub == "b.example"


@pytest.mark.parametrize("agreed", [None, "c.example"])
def test_a_takeover_that_the_operator_has_not_agreed_to_changes_nothing(
    room: Room, agreed: str | None
) -> None:
    replica = agreeing(room, agreed)
    with pytest.raises(Rejected, match="has not agreed") as refused:
        replica.receive(takeover(room))
    assert refused.value.code is Reason.FORBIDDEN
    assert replica.hub == "a.example"
    replica.receive(room.submit(named(room), now=NOW).entries[0].event)  # the old hub goes on


def test_a_takeover_behind_which_there_is_more_is_not_followed(room: Room) -> None:
    stale = takeover(room)
    room.submit(named(room), now=NOW)
    with pytest.raises(Gap):
        agreeing(room, "b.example").receive(stale)


def test_a_takeover_in_anothers_name_or_without_power_is_refused_whoever_agreed(room: Room) -> None:
    for event in (takeover(room, hub="c.example"), takeover(with_bob("dev.linearized.1"))):
        with pytest.raises((Rejected, Gap)):
            agreeing(room, "b.example").receive(event)
    room = with_bob("dev.linearized.1")
    with pytest.raises(Rejected, match="power"):
        agreeing(room, "b.example").receive(takeover(room))


def test_a_redacted_takeover_is_one_all_the_same(room: Room) -> None:
    event = takeover(room)
    assert redact(event.pdu, room.version)["content"] == event.content


ORDERS = st.lists(st.sampled_from(["hub", "b", "c"]), min_size=1, max_size=6)


@given(ORDERS, st.sampled_from([None, "b.example", "c.example"]))
def test_no_order_of_events_makes_a_participant_take_two_hubs_for_one_place(
    order: list[str], agreed: str | None
) -> None:
    room = with_bob("dev.linearized.1")
    joins = build_lpdu(
        identity=C, version=room.version, room_id=ROOM, type="m.room.member", sender=CAROL,
        content={"membership": "join"}, origin_server_ts=NOW, hub_server="a.example", state_key=CAROL,
    )  # fmt: skip
    room.submit(linearized_pdu(joins, C, room.version), now=NOW)
    room.submit(
        state_event(ALICE, "m.room.power_levels", {"users": {ALICE: 100, BOB: 100, CAROL: 100}}), now=NOW
    )
    replica = agreeing(room, agreed)
    events = {"b": takeover(room), "c": takeover(room, C, CAROL)}
    events["hub"] = room.submit(named(room), now=NOW).entries[0].event
    taken = []
    for name in order:
        try:
            replica.receive(events[name])
        except (Rejected, Gap):
            continue
        taken.append(name)
    # All three stand in the same place: one of them at most is there, and a takeover only if agreed to.
    assert len(taken) <= 1
    assert not taken or taken[0] == "hub" or f"{taken[0]}.example" == agreed
