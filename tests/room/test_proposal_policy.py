"""Standalone proposals in rooms with a policy, and held to the keys that devices have published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate, UserIndexRolePair
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.presets import PRESETS, Preset
from linearized.protocol.identifiers import user_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import POWER_LEVELS, membership
from linearized.room.credentials import ClientIdentity
from linearized.room.roles import MODERATOR
from linearized.room.submissions import OtherKeyPublished, Reason
from tests.room.party import (
    B_KEY,
    B_SENDER,
    HUB_SENDER,
    Party,
    commit_pending,
    leave,
    offer,
    propose_update,
    references,
)
from tests.room.policy_support import ADMIN, BANNED, USER, changed, with_role
from tests.room.support import ALICE, ANNA, BOB, Member, member, participant_list, refusal

OPEN = PRESETS["open"]


def governed(
    *others: Member,
    preset: Preset = OPEN,
    senders: Sequence[tuple[bytes, bytes]] = (HUB_SENDER, B_SENDER),
) -> Party:
    app_data = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role)), **preset.components()}
    return Party(*others, app_data=app_data, role=USER, senders=senders)


def drop_own(party: Party, by: Member) -> None:
    """Forget the proposals that the hub did not take."""
    theirs = set(references(party.room))
    for found in by.joined().pending_proposals():
        if found.reference is not None and found.reference not in theirs:
            by.joined().remove_pending_proposal(found.reference)


def propose_role(by: Member, user_id: str, role: int) -> bytes:
    index = by.participants().index_of(user_uri(user_id))
    assert index is not None
    update = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=role),))
    return by.joined().propose_app_data_update(PARTICIPANT_LIST, update.encode())


def test_a_proposal_takes_the_capability_for_what_it_does() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = governed(bob, anna)
    refusal(party.room, offer(bob, propose_role(bob, ANNA, ADMIN)), Reason.FORBIDDEN)
    refusal(party.room, offer(bob, propose_update(bob, removed=[ANNA])), Reason.FORBIDDEN)
    party.submit(offer(party.alice, propose_role(party.alice, ANNA, ADMIN)), by=party.alice)
    bob.joined().clear_pending_proposals()
    party.members.remove(bob)
    accepted = party.submit(commit_pending(anna), by=anna)
    levels = [entry.event for entry in accepted.entries if entry.event.type == POWER_LEVELS[0]]
    assert [(event.sender, event.content["users"][ANNA]) for event in levels] == [
        (ALICE, user_level(party.room.state, ANNA))
    ]


def test_a_user_with_power_leaves_and_anybody_may_commit_it() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = governed(bob, anna)
    for user, role in ((ANNA, ADMIN), (BOB, ADMIN)):
        party.submit(offer(party.alice, propose_role(party.alice, user, role)), by=party.alice)
    party.submit(commit_pending(party.alice), by=party.alice)
    assert user_level(party.room.state, ANNA) > 0
    party.submit(leave(anna), by=anna)
    # Who is left alone with a role that the policy demands somebody has stays.
    refusal(party.room, leave(bob), Reason.FORBIDDEN)
    drop_own(party, bob)
    assert membership(party.room.state, ANNA) == "leave"
    party.submit(commit_pending(bob), by=bob)
    assert party.members == [party.alice, bob]
    party.check()
    party.submit(commit_pending(bob), by=bob)  # and it does not matter that her level is still written down


def test_a_ban_by_proposal_takes_effect_at_once_and_keeps_the_banned_listed() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = governed(bob, anna)
    alice = party.alice
    ban = offer(alice, alice.joined().propose_remove(1), propose_role(alice, BOB, BANNED))
    party.submit(ban, by=alice)
    assert membership(party.room.state, BOB) == "ban"
    refused = refusal(party.room, commit_pending(anna, pending=False), Reason.INVALID_PROPOSAL)
    assert len(refused.invalid_proposals) == 2
    anna.joined().clear_pending_commit()
    party.submit(commit_pending(anna), by=anna)
    assert party.members == [alice, anna]
    assert party.alice.participants().role_of(user_uri(BOB)) == BANNED
    # He stays listed as banned when somebody else goes; who is banned by an event is listed so as well.
    party.submit(member(ANNA, "ban", sender=ALICE))
    party.submit(commit_pending(alice), by=alice)
    assert {user: alice.participants().role_of(user_uri(user)) for user in (BOB, ANNA)} == {
        BOB: BANNED,
        ANNA: BANNED,
    }


def test_new_roles_are_the_act_of_who_proposed_them() -> None:
    bob = Member(BOB)
    roles = with_role(OPEN.creator_role, Capability.CHANGE_ROLE_DEFINITIONS)
    party = governed(bob, preset=replace(OPEN, roles=roles))
    alice = party.alice
    redefined = changed(USER, role_capabilities=(*OPEN.roles.role(USER).role_capabilities, Capability.KICK))
    message = bob.joined().propose_app_data_update(ROLES_LIST, redefined.encode())
    refusal(party.room, offer(bob, message), Reason.FORBIDDEN)
    bob.joined().clear_pending_proposals()
    message = alice.joined().propose_app_data_update(ROLES_LIST, redefined.encode())
    party.submit(offer(alice, message), by=alice)
    accepted = party.submit(commit_pending(bob), by=bob)
    assert [(entry.event.type, entry.event.sender) for entry in accepted.entries] == [
        ("m.room.power_levels", ALICE),
        ("m.mls.commit", BOB),
    ]
    assert user_level(party.room.state, BOB) == MODERATOR
    party.check()


def test_a_provider_takes_out_clients_of_its_users_whatever_the_policy() -> None:
    bob, phone = Member(BOB), Member(BOB, "PHONE")
    party = governed(bob, phone)
    message = party.group_of_hub().propose_remove(signer=B_KEY, sender_index=1, leaf_index=2)
    party.submit(offer(Member(BOB), message))
    party.submit(commit_pending(party.alice), by=party.alice)
    assert party.members == [party.alice, bob]


def test_what_the_policy_no_longer_allows_is_named_in_the_refusal_of_the_commit() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    party = governed(bob, anna, senders=[])
    party.submit(member(ANNA, "leave"))
    message = bob.joined().propose_remove(2)  # as anybody may do with who is gone
    party.submit(offer(bob, message), by=bob)
    party.submit(member(ANNA, "invite", sender=ALICE))
    party.submit(member(ANNA, "join"))
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert refused.invalid_proposals == (openmls.proposal_reference(message, ciphersuite=1),)


@pytest.mark.parametrize("kind", ["add", "update"])
def test_a_proposed_leaf_is_held_to_the_key_that_its_device_has_published(kind: str) -> None:
    published: dict[ClientIdentity, bytes] = {}
    bob, tablet = Member(BOB), Member(BOB, "TABLET")
    party = Party(bob, published=published.get)
    if kind == "add":
        client = ClientIdentity(BOB, "TABLET")
        message = bob.joined().propose_add(tablet.key_package())
        key = tablet.client.signature_key
    else:
        client, message, key = (
            ClientIdentity(BOB, "DEV"),
            bob.joined().propose_update(),
            bob.client.signature_key,
        )
    published[client] = b"another"
    refused = refusal(party.room, offer(bob, message), Reason.FORBIDDEN)
    assert isinstance(refused, OtherKeyPublished)
    assert refused.client == client
    published[client] = key
    party.submit(offer(bob, message), by=bob)
    # Published anew before the commit: it names the proposal, and can be made without it.
    published[client] = b"another"
    refused = refusal(party.room, commit_pending(party.alice), Reason.INVALID_PROPOSAL)
    assert isinstance(refused, OtherKeyPublished)
    assert len(refused.invalid_proposals) == 1
    party.alice.joined().clear_pending_commit()
