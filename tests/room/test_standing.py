"""Who is joined, by a room's state and by drafts over it."""

from __future__ import annotations

from linearized.protocol.events import Event
from linearized.protocol.state import membership
from linearized.room.standing import DraftState, RoomState, joined_users
from tests.room.support import ALICE, ANNA, BOB, NOW, member, new_room, state_event


def events(*memberships: tuple[str, str]) -> dict[tuple[str, str], Event]:
    room = new_room(initial=[state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})])
    changes = {}
    for user, value in memberships:
        sender = ALICE if value in {"invite", "ban"} else user
        event = room.submit(member(user, value, sender=sender), now=NOW).entry.event
        changes[event.type, user] = event
    return changes


def test_state_and_drafts_over_it_know_who_is_joined() -> None:
    room = new_room()
    state = RoomState(room.state)
    assert state.joined == joined_users(state) == {ALICE}
    changes = events((ANNA, "join"), (BOB, "invite"))
    draft = DraftState(changes, state)
    assert joined_users(draft) == {ALICE, ANNA}
    assert state.joined == {ALICE}
    state.take(changes)
    assert state.joined == {ALICE, ANNA}
    assert membership(state, BOB) == "invite"
    state.take(events((ANNA, "join"), (ANNA, "leave"), (ALICE, "leave")))
    assert state.joined == set()


def test_what_is_about_nobody_changes_nobody() -> None:
    state = RoomState(new_room().state)
    before = state.joined
    state.take({("m.room.name", ""): state["m.room.create", ""]})
    assert state.joined is before


def test_any_state_says_who_is_joined() -> None:
    room = new_room()
    assert joined_users(dict(room.state)) == {ALICE}
    assert joined_users({}) == set()
