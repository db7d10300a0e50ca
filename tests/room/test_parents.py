"""Rooms that depend on a parent room: who may be in them, and who goes with the parent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.choice import POLICY_CHOICE, chosen_policy
from linearized.mimi.policy.components import BASE_ROOM_POLICY, ROLES_LIST
from linearized.protocol.identifiers import group_id, user_uri
from linearized.protocol.state import PARENT_ROOM, membership
from linearized.room.admission import PROPOSAL
from linearized.room.parents import NO_PARENTS, check_base, check_dependence, parent_uris, strays
from linearized.room.proposals import messages_of
from linearized.room.submissions import LocalEvent, ParentChanged, Reason, Rejected
from tests.room.party import (
    HUB_KEY,
    HUB_SENDER,
    HUB_USER,
    PUBLIC,
    Party,
    commit_pending,
    leave,
    offer,
    process,
    propose_update,
    references,
)
from tests.room.policy_support import USER, event, member_event
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    NOW,
    ROOM,
    Member,
    handshake,
    member,
    new_room,
    participant_list,
    refusal,
)

PARENT = "!parent:a.example"
URI = "mimi://a.example/r/parent"


class Upstairs:
    """The parent room: who has joined it."""

    def __init__(self, *users: str, hosted: bool = True) -> None:
        self.users = set(users)
        self.hosted = hosted

    def hosts(self, room_id: str) -> bool:
        return room_id == PARENT and self.hosted

    def joined(self, room_id: str, user_id: str) -> bool:
        return room_id == PARENT and user_id in self.users

    def size(self, room_id: str) -> int:
        assert room_id == PARENT
        return len(self.users)


def everybody() -> Upstairs:
    return Upstairs(ALICE, ANNA, BOB, CAROL)


def creation(policy: str = "open") -> dict[str, Any]:
    return {PARENT_ROOM: PARENT, POLICY_CHOICE: policy}


def dependent(
    *others: Member, parents: Upstairs, policy: str = "open", initial: tuple[LocalEvent, ...] = (PUBLIC,)
) -> Party:
    preset = chosen_policy(policy, parent=(URI,))
    listed = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role))}
    return Party(
        *others,
        app_data={**listed, **preset.components()},
        role=USER,
        parents=parents,
        creation=creation(policy),
        initial=initial,
    )


# --- creating ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({PARENT_ROOM: "no room"}, "is a room ID"),
        ({PARENT_ROOM: 7}, "is a room ID"),
        ({PARENT_ROOM: PARENT}, "has a policy"),
        ({**creation(), PARENT_ROOM: "!other:b.example"}, "hosted by the parent's hub"),
    ],
)
def test_a_parent_is_a_room_of_the_same_hub_and_its_dependant_has_a_policy(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Rejected, match=reason) as raised:
        new_room(parents=everybody(), creation=changes)
    assert raised.value.code is Reason.FORBIDDEN
    with pytest.raises(Rejected, match=r"version I\.1 depends on no parent"):
        new_room(version="I.1", parents=everybody(), creation=creation())


def test_a_hub_that_only_follows_the_parent_room_creates_no_dependant_of_it() -> None:
    for parents in (Upstairs(ALICE, BOB, hosted=False), NO_PARENTS):
        with pytest.raises(Rejected, match="this is not it"):
            new_room(parents=parents, creation=creation())


def test_who_is_not_in_the_parent_room_creates_no_dependant_of_it() -> None:
    with pytest.raises(Rejected, match="is not in the parent room"):
        new_room(parents=Upstairs(BOB, CAROL), creation=creation())
    assert (NO_PARENTS.joined(PARENT, ALICE), NO_PARENTS.size(PARENT)) == (False, 0)


def test_the_participants_are_a_strict_subset_of_the_parents() -> None:
    with pytest.raises(Rejected, match="Not everybody"):
        new_room(parents=Upstairs(ALICE), creation=creation())
    room = new_room(parents=Upstairs(ALICE, BOB), creation=creation())
    assert "Not everybody" in str(refusal(room, member(BOB, "invite", sender=ALICE), Reason.FORBIDDEN))
    room = new_room(parents=Upstairs(ALICE, BOB, CAROL), creation=creation())
    room.submit(member(BOB, "invite", sender=ALICE), now=NOW)
    assert "Not everybody" in str(refusal(room, member(CAROL, "invite", sender=ALICE), Reason.FORBIDDEN))


# --- coming ---


def test_only_who_is_in_the_parent_room_is_invited_added_or_comes() -> None:
    parents, bob, anna = Upstairs(ALICE, ANNA, CAROL), Member(BOB), Member(ANNA)
    room = dependent(parents=parents)
    for submission in (member(BOB, "invite", sender=ALICE), room.alice.add(bob, role=USER)):
        assert "is not in the parent room" in str(refusal(room.room, submission, Reason.FORBIDDEN))
    room.alice.joined().clear_pending_commit()
    parents.users.remove(ANNA)
    refusal(room.room, room.join(anna), Reason.FORBIDDEN)
    create = room.room.state[("m.room.create", "")]
    with pytest.raises(Rejected, match="is not in the parent room"):
        check_dependence(member_event(ANNA, ANNA, "join"), {("m.room.create", ""): create}, parents)


def test_a_knock_is_for_who_is_in_the_parent_room() -> None:
    before = new_room(parents=everybody(), creation=creation()).state
    for parents in (Upstairs(ALICE), everybody()):
        knock = member_event(BOB, BOB, "knock")
        if BOB in parents.users:
            check_dependence(knock, before, parents)
        else:
            with pytest.raises(Rejected, match="is not in the parent room"):
                check_dependence(knock, before, parents)


def test_a_proposal_to_add_somebody_who_has_left_the_parent_since_is_named_when_it_is_committed() -> None:
    parents, bob = everybody(), Member(BOB)
    room = dependent(parents=parents)
    package = bob.key_package()
    proposals = (
        propose_update(room.alice, added=[BOB], role=USER),
        room.alice.joined().propose_add(package),
    )
    room.submit(offer(room.alice, *proposals, introduced=[bob.client.credential]), by=room.alice)
    parents.users.remove(BOB)
    error = refusal(room.room, commit_pending(room.alice), Reason.INVALID_PROPOSAL)
    assert "is not in the parent room" in str(error)
    assert len(error.invalid_proposals) == 1


# --- going ---


def test_who_has_left_the_parent_room_is_heard_no_more_and_may_only_go() -> None:
    parents, anna = everybody(), Member(ANNA)
    room = dependent(anna, parents=parents)
    room.submit(anna.message(), by=anna)
    parents.users.remove(ANNA)
    commit = handshake(anna, anna.joined().commit())
    anna.joined().clear_pending_commit()
    for submission in (anna.message(), commit, leave(anna), member(BOB, "invite", sender=ANNA)):
        assert "is not in the parent room" in str(refusal(room.room, submission, Reason.FORBIDDEN))
    room.submit(member(ANNA, "leave"))
    assert membership(room.room.state, ANNA) == "leave"


def test_the_hub_takes_out_who_has_left_the_parent_room_and_the_next_commit_has_to() -> None:
    parents, bob = everybody(), Member(BOB)
    room = dependent(bob, parents=parents)
    assert strays(room.room.state, parents) == []
    parents.users.remove(BOB)
    accepted = room.submit(ParentChanged())
    left, *proposed = accepted.entries
    assert (left.event.sender, left.event.state_key) == (HUB_USER, BOB)
    assert accepted.entry is left
    assert {entry.event.type for entry in proposed} == {PROPOSAL}
    assert membership(room.room.state, BOB) == "leave"
    without = commit_pending(room.alice, pending=False)
    assert set(refusal(room.room, without, Reason.INVALID_PROPOSAL).invalid_proposals) == set(
        references(room.room)
    )
    room.alice.joined().clear_pending_commit()
    room.submit(commit_pending(room.alice), by=room.alice)
    assert bob not in room.members
    room.agree()


def test_a_room_whose_participants_are_fixed_follows_its_parent_all_the_same() -> None:
    parents, alice, bob = everybody(), Member(ALICE), Member(BOB)
    room = new_room(parents=parents, creation=creation("direct"), signer=HUB_KEY)
    preset = chosen_policy("direct", parent=(URI,))
    listed = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role))}
    alice.group = alice.client.create_group(
        group_id=group_id(ROOM), app_data={**listed, **preset.components()}, external_senders=(HUB_SENDER,)
    )
    initial = alice.group.group_info()
    room.submit(replace(alice.add(bob, role=preset.creator_role), initial_group=initial), now=NOW)
    alice.accept()
    assert "fixed" in str(refusal(room, member(ALICE, "leave"), Reason.FORBIDDEN))
    parents.users.remove(BOB)
    left, *proposed = room.submit(ParentChanged(), now=NOW).entries
    assert (left.event.state_key, membership(room.state, BOB)) == (BOB, "leave")
    for entry in proposed:
        for message in messages_of(entry.event.content):
            process(alice, message)
    room.submit(commit_pending(alice), now=NOW)
    alice.accept()
    assert [pair.user for pair in alice.participants().participants] == [user_uri(ALICE)]


def test_nobody_is_taken_out_without_need() -> None:
    assert "in its parent room" in str(refusal(new_room(), ParentChanged(), Reason.FORBIDDEN))
    room = dependent(parents=everybody())
    assert "in its parent room" in str(refusal(room.room, ParentChanged(), Reason.FORBIDDEN))


def test_who_goes_with_the_parent_room_is_asked_for_no_minimum() -> None:
    parents, bob = everybody(), Member(BOB)
    room = dependent(bob, parents=parents)
    # Its only governor, of whom there has to be one.
    parents.users.remove(ALICE)
    room.submit(ParentChanged())
    room.submit(commit_pending(bob), by=bob)
    assert room.members == [bob]
    room.agree()


# --- for good ---


def test_the_parent_room_is_the_one_of_the_create_event() -> None:
    room = dependent(parents=everybody())
    for base in (
        BaseRoomPolicy(policy_component_ids=(ROLES_LIST,)),
        BaseRoomPolicy(parent_dependant=True, parent_room=("mimi://a.example/r/another",)),
    ):
        update = {BASE_ROOM_POLICY: base.encode()}
        bundle = room.alice.joined().commit(app_data_updates=update, new_app_data=update)
        refused = refusal(room.room, handshake(room.alice, bundle), Reason.FORBIDDEN)
        assert "the one that it was created with" in str(refused)
        room.alice.joined().clear_pending_commit()
    ordinary = new_room().state
    assert (parent_uris(room.room.state), parent_uris(ordinary)) == ((URI,), ())
    with pytest.raises(Rejected, match="created with"):
        check_base(replace(BaseRoomPolicy(), parent_dependant=True, parent_room=(URI,)), ordinary)


def test_a_group_without_the_parent_that_its_room_was_created_with_is_refused() -> None:
    room = new_room(parents=everybody(), creation=creation())
    alice, preset = Member(ALICE), chosen_policy("open")
    listed = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role))}
    refused = refusal(room, alice.create(app_data={**listed, **preset.components()}), Reason.INVALID_COMMIT)
    assert "the policy the room was created with" in str(refused)


def test_a_dependent_room_stays_at_its_hub() -> None:
    room = new_room(parents=everybody(), creation=creation())
    move = event(BOB, "m.room.hub", {"after": "$last"}, "")
    with pytest.raises(Rejected, match="stays at the parent's hub"):
        check_dependence(move, room.state, everybody())
    check_dependence(move, new_room().state, everybody())
