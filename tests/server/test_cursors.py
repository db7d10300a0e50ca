"""Which providers follow a room, from where, and until where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from linearized.room.room import Room
from linearized.room.submissions import Accepted, LocalEvent
from linearized.server.cursors import (
    LINEARIZED,
    MIMI,
    current_followers,
    cursor_changes,
    is_finished,
    joined_providers,
    may_move_cursors,
)
from linearized.store.base import FollowerRow
from tests.room.lpdus import lpdu
from tests.room.party import PUBLIC
from tests.room.support import ALICE, BOB, CAROL, NOW, ROOM, Member, grouped_room, handshake, member, new_room

OURS = frozenset({"a.example", "matrix.example"})


def changes(
    room: Room, *batch: Accepted, existing: Mapping[str, FollowerRow] | None = None
) -> list[FollowerRow]:
    entries = [entry for accepted in batch for entry in accepted.entries]
    return list(cursor_changes(ROOM, entries=entries, state=room.state, existing=existing or {}, ours=OURS))


def follower(provider: str, cursor: int, *, stop: int | None = None, protocol: str = MIMI) -> FollowerRow:
    return FollowerRow(room_id=ROOM, provider=provider, protocol=protocol, cursor=cursor, stop_seq=stop)


def test_a_provider_added_by_a_commit_follows_from_that_commit_on() -> None:
    room, alice, _ = grouped_room()
    accepted = room.submit(alice.add(Member(BOB)), now=NOW)
    alice.accept()
    later = room.submit(alice.message(), now=NOW)
    assert changes(room, accepted, later) == [follower("b.example", accepted.entries[-1].seq)]


def test_our_own_domains_and_our_bridges_follow_nobody() -> None:
    room, alice, _ = grouped_room()
    assert changes(room, room.submit(alice.add(Member(CAROL)), now=NOW)) == []


def test_a_second_user_of_a_following_provider_changes_nothing() -> None:
    room, alice, _ = grouped_room(Member(BOB))
    accepted = room.submit(alice.add(Member("@bill:b.example")), now=NOW)
    assert changes(room, accepted, existing={"b.example": follower("b.example", 5)}) == []


def test_a_linearized_matrix_server_follows_from_its_join() -> None:
    room = new_room(initial=[PUBLIC])
    accepted = room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    expected = follower("b.example", accepted.entries[0].seq - 1, protocol=LINEARIZED)
    assert changes(room, accepted) == [expected]


def test_a_server_that_takes_pdus_is_not_also_sent_mimi() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    alice = Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    room.submit(alice.add(Member("@bill:b.example")), now=NOW)
    assert joined_providers(room.state, ours=OURS) == {"b.example": LINEARIZED}


def test_a_removed_provider_gets_everything_up_to_the_commit_that_removes_it() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    accepted = room.submit(alice.remove(bob), now=NOW)
    alice.accept()
    later = room.submit(alice.message(), now=NOW)
    existing = {"b.example": follower("b.example", 5)}
    assert changes(room, accepted, later, existing=existing) == [
        follower("b.example", 5, stop=accepted.entries[-1].seq)
    ]


def test_a_provider_whose_last_user_leaves_gets_the_leave_and_no_more() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    accepted = room.submit(lpdu("m.room.member", {"membership": "leave"}, state_key=BOB), now=NOW)
    existing = {"b.example": follower("b.example", 3, protocol=LINEARIZED)}
    expected = follower("b.example", 3, stop=accepted.entries[0].seq, protocol=LINEARIZED)
    assert changes(room, accepted, existing=existing) == [expected]


def test_a_provider_that_comes_back_follows_from_its_new_join() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    gone = room.submit(alice.remove(bob), now=NOW)
    alice.accept()
    back = room.submit(alice.add(Member(BOB, "NEW")), now=NOW)
    existing = {"b.example": follower("b.example", 5, stop=gone.entries[-1].seq)}
    assert changes(room, back, existing=existing) == [follower("b.example", back.entries[-1].seq)]


def test_a_provider_whose_users_come_by_another_protocol_changes_over_without_a_gap() -> None:
    room = new_room(initial=[PUBLIC])
    alice = Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    room.submit(alice.add(Member("@bill:b.example")), now=NOW)
    accepted = room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    at = accepted.entries[0].seq - 1
    existing = {"b.example": follower("b.example", 4)}
    assert changes(room, accepted, existing=existing) == [
        follower("b.example", at, protocol=LINEARIZED),
        follower("b.example", 4, stop=at),
    ]


def test_of_two_followers_of_a_provider_the_running_one_counts() -> None:
    stopped, running = follower("b.example", 9, stop=9), follower("b.example", 9, protocol=LINEARIZED)
    other = follower("c.example", 3, stop=5)
    for order in ([stopped, running, other], [running, stopped, other]):
        assert current_followers(order) == {"b.example": running, "c.example": other}
    assert [is_finished(row) for row in (stopped, running, other)] == [True, False, False]


def test_entries_that_move_nobody_move_no_cursor() -> None:
    room, alice, _ = grouped_room(Member(BOB))
    assert changes(room, room.submit(handshake(alice, alice.joined().commit()), now=NOW)) == []
    invite = room.submit(member("@eve:c.example", "invite", sender=ALICE), now=NOW)
    assert changes(room, invite, existing={"b.example": follower("b.example", 5)}) == []


def test_entries_that_may_move_a_cursor_are_known_by_their_type() -> None:
    bob = Member(BOB)
    room, _, _ = grouped_room(bob)
    message = room.submit(bob.message(), now=NOW)
    assert not may_move_cursors(message.entries)
    acl = LocalEvent(sender=ALICE, type="m.room.server_acl", state_key="", content={"allow": ["*"]})
    for submission in (acl, member("@eve:c.example", "invite", sender=ALICE)):
        assert may_move_cursors((*message.entries, *room.submit(submission, now=NOW).entries))


def test_homeservers_of_an_imported_past_follow_nothing_until_they_come_themselves() -> None:
    room = new_room(initial=[PUBLIC])
    provenance = {"protocol": "matrix", "provider": "b.example", "event_id": "$old", "imported": True}
    accepted = room.submit(replace(member(BOB, "join"), provenance=provenance), now=NOW)
    assert joined_providers(room.state, ours=OURS) == {}
    assert changes(room, accepted) == []
    accepted = room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    assert [row.provider for row in changes(room, accepted)] == ["b.example"]
