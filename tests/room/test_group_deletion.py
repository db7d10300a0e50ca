"""The end of a room's group: which commit may say it, and what is refused from then on."""

from __future__ import annotations

from dataclasses import replace

from linearized.room.grouping import GROUP_DELETED
from linearized.room.submissions import Reason
from tests.room.lpdus import commit_lpdu
from tests.room.support import ALICE, ANNA, BOB, NOW, Member, grouped_room, handshake, refusal, state_event


def test_a_commit_that_deletes_the_group_removes_everybody_else_and_is_the_last() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    room, alice, _ = grouped_room(bob, anna)
    some = alice.remove(bob)
    refusal(room, replace(some, deletes_group=True), Reason.INVALID_COMMIT)
    alice.joined().clear_pending_commit()
    rejoining = bob
    everybody = replace(alice.remove(bob, anna), deletes_group=True)
    accepted = room.submit(everybody, now=NOW)
    alice.accept()
    assert accepted.entries[-1].event.content[GROUP_DELETED] is True
    refusal(room, alice.message(), Reason.FORBIDDEN)
    refusal(room, handshake(alice, alice.joined().commit()), Reason.FORBIDDEN)
    refusal(room, rejoining.rejoin(accepted), Reason.FORBIDDEN)
    # The room itself goes on, with what needs no group.
    room.submit(state_event(ALICE, "m.room.topic", {"topic": "closed"}), now=NOW)


def test_only_a_commit_that_says_so_deletes_the_group() -> None:
    bob = Member(BOB)
    room, alice, _ = grouped_room(bob)
    accepted = room.submit(alice.remove(bob), now=NOW)
    alice.accept()
    assert GROUP_DELETED not in accepted.entries[-1].event.content
    room.submit(alice.message(), now=NOW)


def test_a_participants_commit_event_can_say_it_too_and_is_held_to_it() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    room, _, _ = grouped_room(bob, anna)
    some = handshake(bob, bob.joined().commit())
    refusal(room, commit_lpdu(some, {GROUP_DELETED: True}), Reason.INVALID_COMMIT)
    room.submit(commit_lpdu(some, {GROUP_DELETED: False}), now=NOW)
    bob.accept()
    room.submit(commit_lpdu(handshake(bob, bob.joined().commit())), now=NOW)
    assert room.epoch == 4
