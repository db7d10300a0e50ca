"""Standalone proposals: what a hub takes, what it has pending, and what a commit makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.protocol.base64 import encode_base64
from linearized.protocol.state import membership
from linearized.room.submissions import Reason
from tests.room.party import (
    HUB_KEY,
    HUB_SENDER,
    HUB_USER,
    Party,
    commit_pending,
    leave,
    offer,
    propose_update,
    references,
)
from tests.room.support import ALICE, ANNA, BOB, CAROL, NOW, Member, handshake, member, new_room, refusal


def test_a_leaving_user_is_out_at_once_and_gone_with_the_next_commit() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone)
    message = bob.message()
    submission = leave(bob, phone)
    accepted = party.submit(submission, by=bob)
    proposal, left = (entry.event for entry in accepted.entries)
    messages = (submission.bundle.message, *submission.bundle.more_proposals)
    assert accepted.event_id == proposal.event_id
    assert (proposal.type, proposal.sender) == ("m.mls.proposal", BOB)
    assert proposal.content == {
        "message": encode_base64(messages[0]),
        "more_proposals": [encode_base64(message) for message in messages[1:]],
    }
    assert (left.sender, left.state_key, left.content["membership"]) == (BOB, BOB, "leave")
    assert membership(party.room.state, BOB) == "leave"
    refusal(party.room, message, Reason.FORBIDDEN)
    party.check()
    party.submit(commit_pending(party.alice), by=party.alice)
    assert party.members == [party.alice]
    party.check()
    party.agree()


def test_the_hub_proposes_to_remove_who_leaves_by_an_event() -> None:
    bob, phone, anna = Member(BOB), Member(BOB, "PHONE"), Member(ANNA)
    party = Party(bob, phone, anna)
    accepted = party.submit(member(ANNA, "leave"))
    assert accepted.event_id == accepted.entries[0].event.event_id
    assert [(entry.event.type, entry.event.sender) for entry in accepted.entries] == [
        ("m.room.member", ANNA),
        ("m.mls.proposal", HUB_USER),
    ]
    party.submit(member(BOB, "ban", sender=ALICE))
    assert len(references(party.room)) == 5
    party.check()
    party.submit(commit_pending(party.alice), by=party.alice)
    assert party.members == [party.alice]
    party.agree()


def test_a_commit_that_leaves_out_a_pending_removal_is_refused_and_told_which() -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, carol)
    party.submit(leave(bob), by=bob)
    refused = refusal(party.room, commit_pending(party.alice, pending=False), Reason.INVALID_PROPOSAL)
    assert sorted(refused.invalid_proposals) == references(party.room)
    party.alice.joined().clear_pending_commit()
    party.submit(commit_pending(party.alice), by=party.alice)
    party.check()


def test_a_joiner_takes_self_removes_along_and_the_hub_proposes_the_rest_anew() -> None:
    bob, phone, carol = Member(BOB), Member(BOB, "PHONE"), Member(CAROL)
    party = Party(bob, phone, carol)
    party.submit(leave(bob, phone), by=bob)
    tablet = Member(CAROL, "TABLET")
    joining = party.join(tablet)
    accepted = party.submit(joining, by=tablet)
    assert [entry.event.type for entry in accepted.entries] == ["m.mls.commit", "m.mls.proposal"]
    assert accepted.entry.event.type == "m.mls.commit"
    assert [found.kind for found in party.group_of_hub().proposals()] == ["remove", "app_data_update"]
    party.check()
    party.submit(commit_pending(carol), by=carol)
    party.check()
    party.agree()


def test_a_joiner_that_leaves_a_self_remove_out_is_refused() -> None:
    bob = Member(BOB)
    party = Party(bob)
    joining = party.join(Member(ALICE, "TABLET"))
    party.submit(leave(bob), by=bob)
    refused = refusal(party.room, joining, Reason.INVALID_PROPOSAL)
    assert len(refused.invalid_proposals) == 1


def test_members_come_by_proposals_of_others_with_who_proposed_them_as_inviter() -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob)
    package = carol.key_package()
    submission = offer(
        bob,
        propose_update(bob, added=[CAROL]),
        bob.joined().propose_add(package),
        introduced={carol.client.credential},
    )
    party.submit(submission, by=bob)
    assert membership(party.room.state, CAROL) == "leave"
    accepted = party.submit(commit_pending(party.alice), by=party.alice)
    shown = [(entry.event.sender, entry.event.content.get("membership")) for entry in accepted.entries]
    assert shown == [(BOB, "invite"), (CAROL, "join"), (ALICE, None)]
    carol.join(accepted)
    party.members.append(carol)
    party.check()
    party.agree()


@pytest.mark.parametrize("version", ["I.1", "org.matrix.i-d.ralston-mimi-linearized-matrix.02"])
def test_a_room_of_the_drafts_versions_takes_commits_only(version: str) -> None:
    room = new_room(version=version, signer=HUB_KEY)
    alice = Member(ALICE)
    room.submit(alice.create(external_senders=[HUB_SENDER]), now=NOW)
    alice.accept()
    refusal(room, offer(alice, alice.joined().propose_update()), Reason.INVALID_PROPOSAL)
    accepted = room.submit(member(ALICE, "leave"), now=NOW)
    assert [entry.event.type for entry in accepted.entries] == ["m.room.member"]


def test_there_is_nothing_to_propose_to_before_the_first_commit() -> None:
    alice = Member(ALICE)
    alice.create()
    alice.accept()
    refusal(new_room(), offer(alice, alice.joined().propose_update()), Reason.FORBIDDEN)


def test_the_hub_proposes_nothing_to_a_group_that_was_deleted() -> None:
    party = Party()
    ending = replace(handshake(party.alice, party.alice.joined().commit()), deletes_group=True)
    party.submit(ending, by=party.alice)
    accepted = party.submit(member(ALICE, "leave"))
    assert [entry.event.type for entry in accepted.entries] == ["m.room.member"]
