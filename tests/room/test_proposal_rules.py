"""Every way in which a hub refuses standalone proposals, and commits of them that no longer hold."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import openmls
import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserIndexRolePair,
)
from linearized.protocol.identifiers import group_id
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import membership
from linearized.room import departures, proposals
from linearized.room.proposals import messages_of
from linearized.room.proposers import proposer_of
from linearized.room.submissions import Handshake, Reason, Rejected
from tests.room.party import (
    B_KEY,
    B_SENDER,
    HUB_KEY,
    HUB_SENDER,
    Party,
    commit_pending,
    leaf_of,
    leave,
    offer,
    propose_update,
    references,
)
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    Member,
    handshake,
    member,
    new_room,
    refusal,
    state_event,
)


def reference(message: bytes) -> bytes:
    return openmls.proposal_reference(message, ciphersuite=1)


def from_b(message: bytes) -> Handshake:
    return offer(Member(BOB), message)


# --- who proposes ---


def test_proposals_of_an_epoch_that_has_passed_are_told_the_current_one() -> None:
    bob = Member(BOB)
    party = Party(bob)
    late = leave(bob)
    party.submit(handshake(party.alice, party.alice.joined().commit()), by=party.alice)
    assert refusal(party.room, late, Reason.WRONG_EPOCH).current_epoch == party.room.epoch


def test_a_proposal_that_was_changed_on_the_way_is_refused() -> None:
    bob = Member(BOB)
    party = Party(bob)
    message = bytearray(bob.joined().propose_self_remove())
    message[-40] ^= 1
    with pytest.raises(Rejected) as refused:
        party.room.submit(offer(bob, bytes(message)), now=NOW)
    assert refused.value.code in {Reason.INVALID_COMMIT, Reason.INVALID_PROPOSAL, Reason.MALFORMED}


def test_a_bundle_has_one_sender_who_is_the_one_that_submits_it() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = Party(bob, anna)
    two = offer(bob, bob.joined().propose_update(), anna.joined().propose_update())
    refusal(party.room, two, Reason.FORBIDDEN)
    another = offer(bob, party.alice.joined().propose_update())
    refusal(party.room, another, Reason.FORBIDDEN)


def test_a_provider_among_the_external_senders_takes_out_clients_of_its_users_and_no_more() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone, senders=[HUB_SENDER, B_SENDER])
    group = party.group_of_hub()
    own = group.propose_remove(signer=B_KEY, sender_index=1, leaf_index=leaf_of(bob, phone))
    others = group.propose_remove(signer=B_KEY, sender_index=1, leaf_index=0)
    update = group.propose_app_data_update(
        signer=B_KEY,
        sender_index=1,
        component_id=PARTICIPANT_LIST,
        payload=ParticipantListUpdate(removed=(1,)).encode(),
    )
    refusal(party.room, from_b(others), Reason.FORBIDDEN)
    refusal(party.room, from_b(update), Reason.FORBIDDEN)
    refused = refusal(party.room, offer(Member(BOB), own, update), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(update),)
    accepted = party.submit(from_b(own))
    assert accepted.entry.event.sender == BOB
    assert membership(party.room.state, BOB) == "join"
    party.check()
    party.submit(commit_pending(party.alice), by=party.alice)
    assert party.members == [party.alice, bob]
    party.check()


def test_who_is_no_provider_proposes_nothing_from_outside_and_nobody_does_in_the_hubs_name() -> None:
    party = Party(senders=[HUB_SENDER, (B_KEY.public_key, b"somebody")])
    group = party.group_of_hub()
    theirs = group.propose_remove(signer=B_KEY, sender_index=1, leaf_index=0)
    refusal(party.room, from_b(theirs), Reason.FORBIDDEN)
    ours = group.propose_remove(signer=HUB_KEY, sender_index=0, leaf_index=0)
    refusal(party.room, from_b(ours), Reason.FORBIDDEN)


def test_who_is_not_in_the_group_joins_by_a_commit() -> None:
    outside: Any = SimpleNamespace(sender_leaf=None, external_sender=None)
    with pytest.raises(Rejected) as refused:
        proposer_of(Party().group_of_hub(), outside, hub="a.example")
    assert refused.value.code is Reason.FORBIDDEN


def test_who_has_left_proposes_nothing_more() -> None:
    bob = Member(BOB)
    party = Party(bob, senders=[])
    fresh = bob.joined().propose_update()
    party.submit(leave(bob), by=bob)
    refusal(party.room, offer(bob, fresh), Reason.INVALID_PROPOSAL)
    more = propose_update(bob, added=[CAROL])
    refusal(party.room, offer(bob, more), Reason.FORBIDDEN)


# --- how much ---


def test_a_user_has_a_limited_number_of_proposals_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "MAX_PENDING_OF_USER", 2)
    bob, phone, tablet = Member(BOB), Member(BOB, "PHONE"), Member(BOB, "TABLET")
    party = Party(bob, phone, tablet)
    at_once = [
        bob.joined().propose_remove(leaf_of(bob, phone)),
        bob.joined().propose_remove(leaf_of(bob, tablet)),
        bob.joined().propose_update(),
    ]
    refusal(party.room, offer(bob, *at_once), Reason.FORBIDDEN)
    party.submit(offer(bob, *at_once[:2]), by=bob)
    refusal(party.room, offer(bob, at_once[2]), Reason.FORBIDDEN)
    party.submit(offer(party.alice, party.alice.joined().propose_update()), by=party.alice)


def test_an_epoch_has_a_limited_number_of_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = Party(bob, anna)
    monkeypatch.setattr(proposals, "MAX_PENDING", 1)
    party.submit(offer(bob, bob.joined().propose_update()), by=bob)
    refusal(party.room, offer(anna, anna.joined().propose_update()), Reason.FORBIDDEN)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_beyond_the_limit_the_hub_proposes_nothing_and_members_remove_by_value(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(departures, "MAX_PENDING", most)
    anna, phone = Member(ANNA), Member(ANNA, "PHONE")
    party = Party(anna, phone)
    party.submit(member(ANNA, "leave"))
    assert len(references(party.room)) == most
    refused = refusal(party.room, commit_pending(party.alice), Reason.FORBIDDEN)
    assert "must remove it" in str(refused)
    party.alice.joined().clear_pending_commit()
    removal = commit_pending(
        party.alice,
        update=ParticipantListUpdate(removed=(1,)),
        remove=[leaf_of(party.alice, anna), leaf_of(party.alice, phone)],
        pending=False,
    )
    party.submit(removal, by=party.alice)
    party.agree()


def test_one_proposal_of_the_hub_delists_a_limited_number_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    anna, carl = Member(ANNA), Member("@carl:a.example")
    party = Party(anna, carl, senders=[HUB_SENDER])
    for user in (ANNA, "@carl:a.example"):
        party.submit(member(user, "leave"))
    monkeypatch.setattr(departures, "MAX_DELISTED", 1)
    tablet = Member(ALICE, "TABLET")
    party.submit(party.join(tablet), by=tablet)  # after which the hub proposes anew
    kinds = [found.kind for found in party.group_of_hub().proposals()]
    assert kinds == ["remove", "remove", "app_data_update"]
    refusal(party.room, commit_pending(party.alice), Reason.FORBIDDEN)
    party.alice.joined().clear_pending_commit()
    party.submit(commit_pending(party.alice, update=ParticipantListUpdate(removed=(2,))), by=party.alice)
    party.agree()


# --- what ---


def test_kinds_that_no_room_takes_are_named() -> None:
    party = Party()
    for message in (
        party.alice.joined().propose_app_ephemeral(0x8001, b"x"),
        party.alice.joined().propose_group_context_extensions(external_senders=[]),
    ):
        refused = refusal(party.room, offer(party.alice, message), Reason.INVALID_PROPOSAL)
        assert refused.invalid_proposals == (reference(message),)


def test_what_is_pending_is_not_taken_again() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone)
    first = bob.joined().propose_remove(leaf_of(bob, phone))
    party.submit(offer(bob, first), by=bob)
    for message in (
        first,  # the same
        phone.joined().propose_self_remove(),  # of the same leaf
        phone.joined().propose_update(),
    ):
        refused = refusal(party.room, offer(phone, message), Reason.INVALID_PROPOSAL)
        assert refused.invalid_proposals == (reference(message),)
    update = bob.joined().propose_update()
    refused = refusal(party.room, offer(bob, update, bob.joined().propose_update()), Reason.INVALID_PROPOSAL)
    assert reference(update) not in refused.invalid_proposals


def test_an_update_brings_new_keys_for_a_leaf_and_a_removal_overrides_it() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = Party(bob, anna)
    for each in (bob, anna):
        party.submit(offer(each, each.joined().propose_update()), by=each)
    party.submit(leave(bob), by=bob)
    party.submit(member(ANNA, "leave"))
    party.check()
    party.submit(commit_pending(party.alice), by=party.alice)
    assert party.members == [party.alice]
    party.agree()


def test_updates_of_others_are_committed() -> None:
    bob = Member(BOB)
    party = Party(bob)
    before = party.group_of_hub().member(1)
    party.submit(offer(bob, bob.joined().propose_update()), by=bob)
    party.submit(commit_pending(party.alice), by=party.alice)
    after = party.group_of_hub().member(1)
    assert before is not None
    assert after is not None
    assert before.encryption_key != after.encryption_key
    party.check()


def test_an_update_that_makes_a_leaf_somebody_elses_is_refused() -> None:
    group: Any = SimpleNamespace(member=lambda _leaf: SimpleNamespace(credential=b"me"))
    changed: Any = SimpleNamespace(
        sender_leaf=0, updated=SimpleNamespace(credential=b"you"), reference=b"reference"
    )
    with pytest.raises(Rejected) as refused:
        proposals._check_identity_kept(group, changed)
    assert refused.value.invalid_proposals == (b"reference",)


def test_component_updates_have_to_go_together() -> None:
    bob = Member(BOB)
    party = Party(bob)
    alice = party.alice
    party.submit(offer(bob, propose_update(bob, removed=[BOB])), by=bob)
    metadata = alice.joined().propose_app_data_update(ROOM_METADATA, b"one")
    party.submit(offer(alice, metadata), by=alice)
    for message in (
        propose_update(alice, removed=[BOB]),
        alice.joined().propose_app_data_update(ROOM_METADATA, b"two"),
        alice.joined().propose_app_data_update(0x8001, b"x"),
        propose_update(alice, added=[CAROL], role=7),
    ):
        refused = refusal(party.room, offer(alice, message), Reason.INVALID_PROPOSAL)
        assert refused.invalid_proposals == (reference(message),)


def test_a_kick_by_proposals_takes_power_and_effect_at_once() -> None:
    bob = Member(BOB)
    party = Party(bob)
    alice = party.alice
    refusal(party.room, offer(bob, bob.joined().propose_remove(0)), Reason.FORBIDDEN)
    refusal(party.room, offer(bob, propose_update(bob, removed=[ALICE])), Reason.FORBIDDEN)
    kick = offer(alice, alice.joined().propose_remove(1), propose_update(alice, removed=[BOB]))
    accepted = party.submit(kick, by=alice)
    assert [(entry.event.sender, entry.event.state_key) for entry in accepted.entries] == [
        (ALICE, None),
        (ALICE, BOB),
    ]
    assert membership(party.room.state, BOB) == "leave"
    alice.joined().clear_pending_proposals()
    refusal(party.room, handshake(alice, alice.joined().commit()), Reason.INVALID_PROPOSAL)


def adding(bob: Member, new: Member, *, listed: bool = True) -> list[bytes]:
    update = [propose_update(bob, added=[new.user_id])] if listed else []
    return [*update, bob.joined().propose_add(new.key_package())]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (lambda bob: adding(bob, Member(ALICE), listed=False), Reason.INVALID_PROPOSAL),
        (lambda bob: adding(bob, Member(CAROL), listed=False), Reason.FORBIDDEN),
        (lambda bob: adding(bob, Member(CAROL)), Reason.FORBIDDEN),
        (
            lambda bob: (
                adding(bob, Member(BOB, "2"), listed=False) + adding(bob, Member(BOB, "2"), listed=False)
            ),
            Reason.INVALID_PROPOSAL,
        ),
    ],
    ids=["has a leaf", "not joined", "not introduced", "twice"],
)
def test_an_addition_that_no_commit_could_make_is_refused(
    messages: Callable[[Member], list[bytes]], code: Reason
) -> None:
    bob = Member(BOB)
    party = Party(bob)
    refusal(party.room, offer(bob, *messages(bob)), code)


def test_a_client_without_a_name_is_not_added() -> None:
    bob = Member(BOB)
    party = Party(bob)
    nobody = openmls.Client.create(identity=b"nobody")
    package = nobody.key_package(now=MLS.now, lifetime=3600)
    refusal(party.room, offer(bob, bob.joined().propose_add(package)), Reason.INVALID_PROPOSAL)


def test_a_users_own_device_comes_by_a_proposal_without_introduction() -> None:
    bob, tablet = Member(BOB), Member(BOB, "TABLET")
    party = Party(bob)
    party.submit(offer(bob, *adding(bob, tablet, listed=False)), by=bob)
    refusal(party.room, offer(bob, *adding(bob, tablet, listed=False)), Reason.INVALID_PROPOSAL)
    accepted = party.submit(commit_pending(party.alice), by=party.alice)
    tablet.join(accepted)
    party.members.append(tablet)
    party.check()
    party.agree()


# --- commits ---


def test_a_role_is_given_by_who_proposed_it() -> None:
    bob = Member(BOB)
    party = Party(bob)
    index = party.alice.participants().index_of("mimi://b.example/u/bob")
    assert index is not None
    promote = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=2),))
    message = party.alice.joined().propose_app_data_update(PARTICIPANT_LIST, promote.encode())
    party.submit(offer(party.alice, message), by=party.alice)
    assert user_level(party.room.state, BOB) == 0
    accepted = party.submit(commit_pending(bob), by=bob)
    assert [(entry.event.type, entry.event.sender) for entry in accepted.entries] == [
        ("m.room.power_levels", ALICE),
        ("m.mls.commit", BOB),
    ]
    assert user_level(party.room.state, BOB) == 100
    party.check()


def pending_carol(party: Party, bob: Member) -> list[bytes]:
    carol = Member(CAROL)
    messages = adding(bob, carol)
    party.submit(offer(bob, *messages, introduced={carol.client.credential}), by=bob)
    return messages


def commit_without(party: Party, *named: bytes) -> None:
    alice = party.alice
    alice.joined().clear_pending_commit()
    for found in named:
        alice.joined().remove_pending_proposal(found)
    alice_alone = [alice]
    others, party.members = party.members, alice_alone
    party.submit(commit_pending(alice), by=alice)
    party.members = others


def test_a_proposal_whose_sender_has_lost_the_power_for_it_is_named_and_can_be_left_out() -> None:
    bob = Member(BOB)
    party = Party(bob)
    update, addition = pending_carol(party, bob)
    levels = {"users": {ALICE: 100}, "invite": 50}
    party.submit(state_event(ALICE, "m.room.power_levels", levels))
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(update),)
    party.alice.joined().clear_pending_commit()
    party.alice.joined().remove_pending_proposal(reference(update))
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(addition),)
    commit_without(party, reference(addition))
    party.agree()


def test_a_proposal_to_add_somebody_ends_with_its_senders_membership() -> None:
    bob = Member(BOB)
    party = Party(bob)
    update, addition = pending_carol(party, bob)
    party.submit(leave(bob), by=bob)
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(update),)
    commit_without(party, reference(update), reference(addition))
    assert [leaf.identity for leaf in party.group_of_hub().members()] == [party.alice.client.identity]


def test_who_comes_back_before_a_commit_stays() -> None:
    anna = Member(ANNA)
    party = Party(anna)
    removal = party.submit(member(ANNA, "leave")).entries[-1].event
    remove, unlist = messages_of(removal.content)
    party.submit(member(ANNA, "join"))
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(unlist),)
    party.alice.joined().clear_pending_commit()
    party.alice.joined().remove_pending_proposal(reference(unlist))
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (reference(remove),)
    commit_without(party, reference(remove))
    assert len(party.group_of_hub().members()) == 2
    party.agree()


def test_a_removal_by_value_does_for_one_that_is_pending() -> None:
    bob = Member(BOB)
    party = Party(bob)
    party.submit(leave(bob), by=bob)
    removal = commit_pending(
        party.alice, update=ParticipantListUpdate(removed=(1,)), remove=[1], pending=False
    )
    party.submit(removal, by=party.alice)
    assert party.members == [party.alice]
    party.agree()


def test_a_device_whose_removal_is_pending_may_come_back_by_itself() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = Party(bob, phone)
    party.submit(offer(phone, phone.joined().propose_self_remove()), by=phone)
    party.members.remove(phone)
    party.submit(party.join(phone), by=phone)
    party.check()
    assert len(party.group_of_hub().members()) == 3


def test_a_group_of_another_suite_does_without_proposals_of_the_hub() -> None:
    algorithm = "m.mls.v1.dhkemp256-aes128gcm-sha256-p256"
    room = new_room(algorithm=algorithm, signer=HUB_KEY)
    alice = Member(ALICE)
    alice.client = openmls.Client.create(identity=alice.client.identity, ciphersuite=2)
    room.submit(alice.create(name=group_id(ROOM), external_senders=[HUB_SENDER]), now=NOW)
    alice.accept()
    room.submit(offer(alice, alice.joined().propose_update()), now=NOW)
    accepted = room.submit(member(ALICE, "leave"), now=NOW)
    assert [entry.event.type for entry in accepted.entries] == ["m.room.member"]


@pytest.mark.parametrize("content", [{"message": "x", "more_proposals": "x"}, {"message": "?"}, {}])
def test_a_content_without_proposals_is_malformed(content: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        messages_of(content)
    assert refused.value.code is Reason.MALFORMED
