"""A participant's copy of a room: it takes what the hub may send and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.presets import PRESETS
from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_event
from linearized.protocol.events import Event
from linearized.protocol.versions import get_version
from linearized.room.replica import Gap, Replica
from linearized.room.room import Room
from linearized.room.seen_roles import SeenGroup, seen_group
from linearized.room.submissions import LocalEvent, Reason, Rejected
from tests.room.support import (
    ALICE,
    NOW,
    ROOM,
    A,
    B,
    Member,
    grouped_room,
    new_room,
    participant_list,
    state_event,
)

VERSION = get_version("dev.linearized.1")
OPEN = PRESETS["open"]


def replica_of(room: Room, *, grouped: bool = False) -> Replica:
    head = (room.head_seq, room.log.head[1])
    return Replica(version=VERSION, hub="a.example", state=room.state, head=head, grouped=grouped)


def named(room: Room, name: str) -> Event:
    return room.submit(state_event(ALICE, "m.room.name", {"name": name}), now=NOW).entries[0].event


def test_events_are_taken_in_order_and_numbered() -> None:
    room = new_room()
    replica = replica_of(room)
    first, second = named(room, "one"), named(room, "two")
    assert replica.receive(first).seq == 3
    assert replica.receive(second).seq == 4
    assert replica.state["m.room.name", ""].content == {"name": "two"}


def test_a_missing_event_is_noticed_and_names_what_is_missing() -> None:
    room = new_room()
    replica = replica_of(room)
    first, second = named(room, "one"), named(room, "two")
    with pytest.raises(Gap) as raised:
        replica.receive(second)
    assert raised.value.missing == first.event_id
    assert replica.receive(first).seq == 3


def test_a_copy_that_starts_from_state_alone_takes_its_first_event_wherever_it_stands() -> None:
    room = new_room()
    replica = Replica(version=VERSION, hub="a.example", state=room.state, head=(2, None), grouped=False)
    named(room, "one")
    assert replica.receive(named(room, "two")).seq == 3


def refused(replica: Replica, event: Event, code: Reason) -> None:
    before = dict(replica.state)
    with pytest.raises(Rejected) as raised:
        replica.receive(event)
    assert raised.value.code is code
    assert replica.state == before


def forged(room: Room, *, sender: str = ALICE, previous: list[str] | None = None) -> Event:
    return build_event(
        identity=A if sender.endswith(":a.example") else B,
        version=VERSION,
        room_id=ROOM,
        type="m.room.name",
        state_key="",
        sender=sender,
        content={},
        origin_server_ts=NOW,
        auth_events=[room.state["m.room.create", ""].event_id],
        prev_events=[str(room.log.head[1])] if previous is None else previous,
    )


def test_an_event_the_rules_forbid_is_refused_even_from_the_hub() -> None:
    room = new_room()
    refused(replica_of(room), forged(room, sender="@anna:a.example"), Reason.FORBIDDEN)


def test_what_is_no_state_does_not_become_any() -> None:
    room = new_room(encrypted=False)
    replica = replica_of(room)
    before = dict(replica.state)
    message = LocalEvent(sender=ALICE, type="m.room.message", content={})
    replica.receive(room.submit(message, now=NOW).entries[0].event)
    assert replica.state == before


def test_in_a_version_without_transfers_nothing_takes_a_room_over() -> None:
    room = new_room(version="I.1", encrypted=False)
    head = (room.head_seq, room.log.head[1])
    replica = Replica(version=room.version, hub="a.example", state=room.state, head=head, grouped=False)
    custom = state_event(ALICE, "m.room.hub", {"takeover": {"hub": "a.example"}})
    assert replica.receive(room.submit(custom, now=NOW).entries[0].event).soft_failed is None
    assert replica.hub == "a.example"


def test_an_event_with_two_predecessors_is_refused() -> None:
    room = new_room()
    refused(replica_of(room), forged(room, previous=["$a", "$b"]), Reason.FORBIDDEN)


def test_an_event_another_server_ordered_is_refused() -> None:
    room = new_room()
    replica = replica_of(room)
    event = room.submit(Member(ALICE).create(), now=NOW).entries[0].event
    assert replica.receive(event).seq == 3
    vouched = build_event(
        identity=B,
        version=VERSION,
        room_id=ROOM,
        type="m.room.name",
        state_key="",
        sender="@carol:matrix.example",
        content={},
        origin_server_ts=NOW,
        auth_events=[],
        prev_events=[event.event_id],
        provenance={"protocol": "matrix", "provider": "matrix.example", "event_id": "$x"},
    )
    refused(replica, vouched, Reason.WRONG_HUB)


@pytest.mark.parametrize("seen", [True, False])
def test_after_the_first_commit_imported_history_is_refused(seen: bool) -> None:
    if seen:
        room = new_room()
        replica = replica_of(room)
        for entry in room.submit(Member(ALICE).create(), now=NOW).entries:
            replica.receive(entry.event)
        # It is not forgotten with the next event, either.
        replica.receive(named(room, "one"))
    else:
        room, _, _ = grouped_room()
        replica = replica_of(room, grouped=True)
    old = build_event(
        identity=A,
        version=VERSION,
        room_id=ROOM,
        type="m.room.message",
        sender="@carol:matrix.example",
        content={},
        origin_server_ts=NOW,
        auth_events=[room.state["m.room.create", ""].event_id],
        prev_events=[str(room.log.head[1])],
        provenance={"protocol": "matrix", "provider": "matrix.example", "event_id": "$x", "imported": True},
    )
    refused(replica, old, Reason.FORBIDDEN)


def test_a_hub_is_held_to_the_roles_that_its_commits_show(monkeypatch: pytest.MonkeyPatch) -> None:
    room, alice = new_room(), Member(ALICE)
    replica = replica_of(room)
    data = {PARTICIPANT_LIST: participant_list((ALICE, OPEN.creator_role)), **OPEN.components()}
    for entry in room.submit(alice.create(app_data=data), now=NOW).entries:
        assert replica.receive(entry.event).soft_failed is None
    roles = replica.seen.policy
    assert roles is not None
    assert roles.participants == {ALICE: OPEN.creator_role}
    assert replica.receive(named(room, "allowed")).soft_failed is None
    assert replica.breaches == []
    # Of a policy in which nobody may change the name, the hub takes a new one all the same.
    monkeypatch.setattr("linearized.room.log.check_event", lambda *_: None)
    strict = replace(roles, participants={})
    held = Replica(
        version=VERSION,
        hub="a.example",
        state=replica.state,
        head=(room.head_seq, room.log.head[1]),
        grouped=True,
        seen=SeenGroup(policy=strict),
    )
    entry = held.receive(named(room, "forbidden"))
    assert entry.soft_failed is not None
    assert "canChangeRoomName" in entry.soft_failed
    assert held.breaches == [entry.event.event_id]


def test_a_room_without_a_policy_or_with_one_that_cannot_be_read_is_held_to_none() -> None:
    room, alice = new_room(), Member(ALICE)
    (*_, commit) = room.submit(alice.create(), now=NOW).entries
    shown = seen_group(commit.event.content)
    assert shown.policy is None
    assert shown.app_data is not None
    assert shown.app_data.keys() == {PARTICIPANT_LIST}
    assert seen_group({"public_group_state": "AAAA"}) == SeenGroup()
    assert seen_group({}) == SeenGroup()


def test_a_policy_that_cannot_be_read_is_none() -> None:
    alice = Member(ALICE)
    alice.group = alice.client.create_group(group_id=b"g", app_data={ROLES_LIST: b"\x07"})
    group_info, _ = alice.group.group_info()
    shown = seen_group({"public_group_state": encode_base64(group_info)})
    assert (shown.app_data, shown.policy) == ({ROLES_LIST: b"\x07"}, None)
