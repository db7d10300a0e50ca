"""Commits, proposals and messages as events of Linearized Matrix participants."""

from __future__ import annotations

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
)
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.room.admission import ALGORITHM
from linearized.room.parts import INITIAL_GROUP
from linearized.room.room import Room
from linearized.room.submissions import (
    Reason,
)
from tests.room.lpdus import commit_lpdu, lpdu
from tests.room.party import PUBLIC
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    NOW,
    Member,
    handshake,
    member,
    new_room,
    participant_list,
    refusal,
)


def linearized_room(*others: Member) -> tuple[Room, Member]:
    """A room that Bob joined by Linearized Matrix before he was added to the group."""
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    alice = Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    accepted = room.submit(alice.add(*others), now=NOW)
    alice.accept()
    for other in others:
        other.join(accepted)
    return room, alice


def test_a_participants_commit_event_moves_the_group() -> None:
    bob = Member(BOB)
    room, alice = linearized_room(bob)
    submission = handshake(bob, bob.joined().commit())
    accepted = room.submit(commit_lpdu(submission), now=NOW)
    assert room.epoch == 3
    assert accepted.entries[0].event.pdu["signatures"].keys() == {"a.example", "b.example"}
    alice.joined().process(submission.bundle.message)


def test_a_participant_can_create_the_group() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    submission = Member(BOB).create(role=1)
    assert submission.initial_group is not None
    refusal(room, commit_lpdu(submission), Reason.INVALID_COMMIT)
    group_info, tree = submission.initial_group
    initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
    room.submit(commit_lpdu(submission, {INITIAL_GROUP: initial}), now=NOW)
    assert room.epoch == 1


def test_a_groups_creator_has_the_role_of_their_power_level() -> None:
    room = new_room(initial=[PUBLIC, member(ANNA, "join")])
    refusal(room, Member(ANNA).create(role=2), Reason.INVALID_COMMIT)
    assert room.submit(Member(ANNA).create(role=1), now=NOW)


def test_a_commit_event_is_refused_when_sender_and_committer_differ() -> None:
    bob, other = Member(BOB), Member("@bill:b.example")
    room, _ = linearized_room(bob, other)
    submission = handshake(other, other.joined().commit())
    refusal(room, commit_lpdu(submission), Reason.FORBIDDEN)


def test_a_commit_event_without_its_parts_is_malformed() -> None:
    room, _ = linearized_room(Member(BOB))
    refusal(room, lpdu("m.mls.commit", {}), Reason.MALFORMED)
    for message in ("!", "AAAA"):
        content: JsonObject = {"message": message, "public_group_state": ""}
        refusal(room, lpdu("m.mls.commit", content), Reason.MALFORMED)


def test_a_participants_external_commit_rejoins() -> None:
    bob = Member(BOB)
    room, alice = linearized_room(bob)
    accepted = room.submit(handshake(alice, alice.joined().commit()), now=NOW)
    alice.accept()
    room.submit(commit_lpdu(bob.rejoin(accepted)), now=NOW)
    assert room.epoch == 4


def test_a_participants_commit_has_to_agree_with_the_room() -> None:
    anna, bob = Member(ANNA), Member(BOB)
    room, _ = linearized_room(anna, bob)
    room.submit(member(ANNA, "leave"), now=NOW)
    refusal(room, commit_lpdu(handshake(bob, bob.joined().commit())), Reason.FORBIDDEN)


def test_a_participants_commit_event_changes_neither_roles_nor_who_participates() -> None:
    bob = Member(BOB)
    room, _ = linearized_room(bob)
    index = bob.participants().index_of(user_uri(BOB))
    assert index is not None
    promotion = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=2),))
    refusal(room, commit_lpdu(bob.change(promotion)), Reason.FORBIDDEN)
    bob.joined().clear_pending_commit()
    room.submit(lpdu("m.room.member", {"membership": "invite"}, sender=BOB, state_key=CAROL), now=NOW)
    listing = ParticipantListUpdate(added=(UserRolePair(user=user_uri(CAROL), role_index=1),))
    room.submit(commit_lpdu(bob.change(listing)), now=NOW)


def test_a_participants_first_commit_lists_its_creator_alone() -> None:
    room = new_room(initial=[PUBLIC])
    room.submit(lpdu("m.room.member", {"membership": "join"}, state_key=BOB), now=NOW)
    listed = {PARTICIPANT_LIST: participant_list((BOB, 1), (ALICE, 1))}
    submission = Member(BOB).create(app_data=listed)
    assert submission.initial_group is not None
    group_info, tree = submission.initial_group
    initial = {"group_info": encode_base64(group_info), "ratchet_tree": encode_base64(tree)}
    refusal(room, commit_lpdu(submission, {INITIAL_GROUP: initial}), Reason.INVALID_COMMIT)


def test_a_participants_message_and_proposal_events() -> None:
    bob = Member(BOB)
    room, _ = linearized_room(bob)
    content = {"algorithm": ALGORITHM, "ciphertext": encode_base64(bob.joined().encrypt(b"x"))}
    refusal(room, lpdu("m.room.encrypted", content), Reason.MALFORMED)
    content["commit_event_id"] = room.last_commit_id or ""
    for wrong in ({"algorithm": "m.megolm.v1.aes-sha2"}, {"ciphertext": "not base64!"}):
        refusal(room, lpdu("m.room.encrypted", content | wrong), Reason.MALFORMED)
    assert room.submit(lpdu("m.room.encrypted", content), now=NOW)
    refusal(room, lpdu("m.mls.proposal", {"message": ""}), Reason.FORBIDDEN)
