"""Rooms with a policy from their first commit on: what is judged, and what it becomes in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import openmls
import pytest

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
    apply_update,
)
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.choice import POLICY_CHOICE
from linearized.mimi.policy.components import (
    JOIN_LINKS,
    MLS_OPERATIONAL_POLICY,
    PREAUTH_LIST,
    ROLES_LIST,
)
from linearized.mimi.policy.join_links import JoinLink, JoinLinksUpdate
from linearized.mimi.policy.operational import (
    AppMessagePolicy,
    ExtendedCapabilities,
    MinDefaultMaxTime,
    OperationalParameters,
    PendingProposalPolicy,
    PendingProposalStrategy,
)
from linearized.mimi.policy.presets import PRESETS, Preset
from linearized.mimi.policy.roles import RoleData, SingleSourceRoleChangeTargets
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import POWER_LEVELS, join_rule, membership
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.claims import PROVIDER
from linearized.room.policy_actions import Action
from linearized.room.policy_commits import actions_of
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Handshake, LocalEvent, Reason
from tests.room.policy_support import ADMIN, BANNED, GOVERNOR, USER, changed, with_role
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    CAROL,
    MLS,
    NOW,
    ROOM,
    A,
    Member,
    handshake,
    member,
    new_room,
    participant_list,
    refusal,
    state_event,
)
from tests.room.test_claims import claim, rules

OPEN = PRESETS["open"]


def found_room(
    preset: Preset = OPEN,
    *others: Member,
    role: int | None = None,
    initial: tuple[LocalEvent, ...] = (),
    more: Mapping[int, bytes] | None = None,
) -> tuple[Room, Member, Accepted]:
    """A room of a policy with a group of Alice and the others."""
    room, alice = new_room(initial=initial), Member(ALICE)
    data = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role)), **preset.components()}
    accepted = room.submit(alice.create(app_data={**data, **(more or {})}), now=NOW)
    alice.accept()
    if others:
        accepted = room.submit(
            alice.add(*others, role=preset.roles.entry_role(preset.creator_role) if role is None else role),
            now=NOW,
        )
        alice.accept()
        for other in others:
            other.join(accepted)
    return room, alice, accepted


def component(sender: Member, number: int, update: bytes, data: bytes | None = None) -> Handshake:
    bundle = sender.joined().commit(
        app_data_updates={number: update}, new_app_data={number: update if data is None else data}
    )
    return handshake(sender, bundle)


def move(sender: Member, user_id: str, role: int, *, remove: tuple[int, ...] = ()) -> Handshake:
    index = sender.participants().index_of(user_uri(user_id))
    assert index is not None
    update = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=role),))
    return sender.change(update, remove=remove)


def leaf_of(sender: Member, other: Member) -> int:
    return next(
        leaf.leaf_index for leaf in sender.joined().members() if leaf.identity == other.client.identity
    )


def written(accepted: Accepted) -> list[tuple[str, str | None, object]]:
    return [
        (entry.event.type, entry.event.state_key, entry.event.content.get("membership"))
        for entry in accepted.entries
    ]


def content(room: Room) -> JsonObject:
    return room.state[POWER_LEVELS].content


# --- founding ---


def test_a_rooms_first_commit_makes_its_power_levels_follow_from_its_roles() -> None:
    room, _, accepted = found_room()
    assert written(accepted) == [("m.room.power_levels", "", None), ("m.mls.commit", None, None)]
    assert content(room)["users"] == {ALICE: 100}
    assert content(room)["kick"] == 0


@pytest.mark.parametrize(
    "users", [((ALICE, GOVERNOR), (BOB, USER)), ((BOB, GOVERNOR),), ((ALICE, BANNED),)], ids=str
)
def test_a_group_starts_with_its_creator_alone(users: tuple[tuple[str, int], ...]) -> None:
    data = {PARTICIPANT_LIST: participant_list(*users), **OPEN.components()}
    refusal(new_room(), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)


@pytest.mark.parametrize("choice", ["moderated", "unheard of"])
def test_a_group_has_the_policy_its_room_was_created_with(choice: str) -> None:
    data = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR)), **OPEN.components()}
    refusal(chosen_room(choice), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)
    refusal(chosen_room(choice), Member(ALICE).create(), Reason.INVALID_COMMIT)
    assert chosen_room("open").submit(Member(ALICE).create(app_data=data), now=NOW)


def chosen_room(choice: str) -> Room:
    room = Room(room_id=ROOM, version=get_version("dev.linearized.1"), identity=A, mls=MLS)
    creation = {
        "room_version": "dev.linearized.1",
        "encryption": {"algorithm": ALGORITHM},
        POLICY_CHOICE: choice,
    }
    room.submit(state_event(ALICE, "m.room.create", creation), now=NOW)
    room.submit(member(ALICE, "join"), now=NOW)
    return room


def test_a_policy_that_does_not_hold_makes_no_room() -> None:
    listed = {PARTICIPANT_LIST: participant_list((ALICE, GOVERNOR))}
    for roles in (b"\xff", RoleData().encode()):
        data = {**listed, ROLES_LIST: roles}
        refusal(new_room(), Member(ALICE).create(app_data=data), Reason.INVALID_COMMIT)


def test_a_room_without_a_policy_takes_no_roles_later() -> None:
    room, alice = new_room(), Member(ALICE)
    room.submit(alice.create(), now=NOW)
    alice.accept()
    change = component(alice, ROLES_LIST, OPEN.roles.encode())
    assert "0x0025" in str(refusal(room, change, Reason.INVALID_PROPOSAL))


# --- participants ---


def test_who_may_adds_users_and_a_role_becomes_a_power_level() -> None:
    bob, anna = Member(BOB), Member(ANNA)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(alice.add(anna, role=ADMIN), now=NOW)
    assert written(accepted)[:3] == [
        ("m.room.member", ANNA, "invite"),
        ("m.room.member", ANNA, "join"),
        ("m.room.power_levels", "", None),
    ]
    assert user_level(room.state, ANNA) == 50
    assert user_level(room.state, BOB) == 0


def test_who_may_not_is_refused_as_not_allowed() -> None:
    bob = Member(BOB)
    room, _, _ = found_room(OPEN, bob)
    reason = refusal(room, bob.add(Member(CAROL), role=ADMIN), Reason.FORBIDDEN)
    assert "may not move anybody from role 0 to role 3" in str(reason)


def test_an_ordinary_user_of_an_open_room_adds_others_of_their_own() -> None:
    bob = Member(BOB)
    room, _, _ = found_room(OPEN, bob)
    room.submit(bob.add(Member(CAROL), role=USER), now=NOW)
    assert membership(room.state, CAROL) == "join"


def test_a_role_of_another_room_is_no_role() -> None:
    room, alice, _ = found_room()
    refusal(room, alice.add(Member(BOB), role=9), Reason.INVALID_COMMIT)


def test_a_new_role_becomes_a_new_power_level() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    room.submit(move(alice, BOB, ADMIN), now=NOW)
    assert content(room)["users"] == {ALICE: 100, BOB: 50}


def test_moving_a_user_within_a_power_level_writes_no_power_levels() -> None:
    bob = Member(BOB)
    moderated = PRESETS["moderated"]
    room, alice, _ = found_room(moderated, bob)
    accepted = room.submit(move(alice, BOB, 4), now=NOW)
    assert written(accepted) == [("m.mls.commit", None, None)]


def test_a_ban_is_a_role_without_clients_and_stays_in_the_list() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    assert written(accepted) == [("m.room.member", BOB, "ban"), ("m.mls.commit", None, None)]
    alice.accept()
    assert alice.participants().role_of(user_uri(BOB)) == BANNED
    # The next commit finds nothing amiss.
    room.submit(handshake(alice, alice.joined().commit()), now=NOW)


def test_a_banned_user_keeps_no_client() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    reason = refusal(room, move(alice, BOB, BANNED), Reason.FORBIDDEN)
    assert "0 active participants of the role banned" in str(reason)


def test_a_banned_user_does_not_come_back_by_themself() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    refusal(room, bob.rejoin(accepted), Reason.FORBIDDEN)


def test_a_lifted_ban_invites_again_and_a_cleaned_up_one_does_not() -> None:
    for role, ends in ((USER, "invite"), (None, "leave")):
        bob = Member(BOB)
        room, alice, _ = found_room(OPEN, bob)
        room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
        alice.accept()
        change = move(alice, BOB, role) if role is not None else alice.remove(bob)
        accepted = room.submit(change, now=NOW)
        assert written(accepted)[0] == ("m.room.member", BOB, "leave")
        assert membership(room.state, BOB) == ends


def test_who_was_never_there_can_be_banned() -> None:
    room, alice, _ = found_room()
    update = ParticipantListUpdate(added=(UserRolePair(user=user_uri(BOB), role_index=BANNED),))
    accepted = room.submit(alice.change(update), now=NOW)
    assert written(accepted) == [("m.room.member", BOB, "ban"), ("m.mls.commit", None, None)]


def test_a_ban_in_the_log_is_listed_by_the_next_commit() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(OPEN, bob)
    room.submit(member(BOB, "ban", sender=ALICE), now=NOW)
    assert "must remove it" in str(refusal(room, handshake(alice, alice.joined().commit()), Reason.FORBIDDEN))
    alice.joined().clear_pending_commit()
    accepted = room.submit(move(alice, BOB, BANNED, remove=(leaf_of(alice, bob),)), now=NOW)
    assert written(accepted) == [("m.mls.commit", None, None)]


def test_a_direct_conversation_has_the_participants_it_was_made_with() -> None:
    room, alice, bob = new_room(), Member(ALICE), Member(BOB)
    direct = PRESETS["direct"]
    first = alice.create(app_data={PARTICIPANT_LIST: participant_list((ALICE, USER)), **direct.components()})
    alice.joined().clear_pending_commit()
    founded = replace(alice.add(bob, role=USER), initial_group=first.initial_group)
    accepted = room.submit(founded, now=NOW)
    alice.accept()
    bob.join(accepted)
    assert content(room)["users"] == {}
    assert "fixed" in str(refusal(room, alice.add(Member(CAROL), role=USER), Reason.FORBIDDEN))
    assert "fixed" in str(refusal(room, member(ALICE, "leave"), Reason.FORBIDDEN))


# --- coming in ---

PUBLIC = state_event(ALICE, "m.room.join_rules", {"join_rule": "public"})
LOBBY = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(USER,))


def test_canopenjoin_lets_a_user_in_who_lists_themself() -> None:
    roles = changed(0, role_capabilities=(Capability.OPEN_JOIN,), authorized_role_changes=(LOBBY,))
    room, alice, accepted = found_room(replace(OPEN, roles=roles), initial=(PUBLIC,))
    room.submit(member(ANNA, "join"), now=NOW)
    anna = Member(ANNA)
    assert accepted.group is not None
    update = ParticipantListUpdate(added=(UserRolePair(user=user_uri(ANNA), role_index=USER),))
    _, bundle = anna.client.join_external(
        group_info=accepted.group.group_info,
        ratchet_tree=accepted.group.ratchet_tree,
        app_data_updates={PARTICIPANT_LIST: update.encode()},
        new_app_data={PARTICIPANT_LIST: apply_update(alice.participants(), update).encode()},
    )
    assert written(room.submit(handshake(anna, bundle), now=NOW)) == [("m.mls.commit", None, None)]


def test_without_it_nobody_lets_themself_in() -> None:
    room, _, accepted = found_room(OPEN, initial=(PUBLIC,))
    # The room's own rules say so as well, whatever they said before.
    assert written(accepted)[0] == ("m.room.join_rules", "", None)
    assert join_rule(room.state) == "invite"
    refusal(room, member(ANNA, "join"), Reason.FORBIDDEN)


def test_a_preauthorized_user_is_listed_by_whoever_commits_next() -> None:
    roles = with_role(USER, Capability.JOIN_IF_PREAUTHORIZED, without=frozenset({Capability.ADD_PARTICIPANT}))
    preauth = rules((USER, [claim(PROVIDER, b"a.example")])).encode()
    bob = Member(BOB)
    room, _, _ = found_room(replace(OPEN, roles=roles), bob, initial=(PUBLIC,), more={PREAUTH_LIST: preauth})
    room.submit(member(ANNA, "join"), now=NOW)
    room.submit(bob.add(Member(ANNA), role=USER), now=NOW)


# --- policies ---


def test_new_roles_become_new_power_levels() -> None:
    governed = replace(OPEN, roles=with_role(GOVERNOR, Capability.CHANGE_ROLE_DEFINITIONS))
    bob = Member(BOB)
    room, alice, _ = found_room(governed, bob)
    roles = with_role(USER, Capability.CHANGE_USER_ROLE, without=frozenset({Capability.ADD_PARTICIPANT}))
    accepted = room.submit(component(alice, ROLES_LIST, roles.encode()), now=NOW)
    assert written(accepted) == [("m.room.power_levels", "", None), ("m.mls.commit", None, None)]
    assert user_level(room.state, BOB) == 50
    assert content(room)["invite"] == 50


def test_roles_are_changed_by_who_may_and_hold_together_afterwards() -> None:
    room, alice, _ = found_room()
    update = component(alice, ROLES_LIST, OPEN.roles.encode())
    assert "canChangeRoleDefinitions" in str(refusal(room, update, Reason.FORBIDDEN))
    governed = replace(OPEN, roles=with_role(GOVERNOR, Capability.CHANGE_ROLE_DEFINITIONS))
    room, alice, _ = found_room(governed)
    refusal(room, component(alice, ROLES_LIST, RoleData().encode()), Reason.INVALID_COMMIT)
    alice.joined().clear_pending_commit()
    refusal(room, component(alice, ROLES_LIST, b"\xff"), Reason.INVALID_PROPOSAL)


@pytest.mark.parametrize(
    ("number", "removes", "taken"),
    [
        (ROLES_LIST, True, False),
        (ROLES_LIST, False, False),
        (PREAUTH_LIST, True, True),
        (PREAUTH_LIST, False, False),
    ],
)
def test_disruptive_changes_stand_alone(number: int, removes: bool, taken: bool) -> None:
    governed = replace(OPEN, roles=with_role(GOVERNOR, Capability.CHANGE_ROLE_DEFINITIONS))
    bob = Member(BOB)
    room, alice, _ = found_room(governed, bob)
    payload = governed.roles.encode() if number == ROLES_LIST else rules().encode()
    index = alice.participants().index_of(user_uri(BOB))
    assert index is not None
    change = (
        ParticipantListUpdate(removed=(index,))
        if removes
        else ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=ADMIN),))
    )
    bundle = alice.joined().commit(
        remove=[leaf_of(alice, bob)] if removes else [],
        app_data_updates={PARTICIPANT_LIST: change.encode(), number: payload},
        new_app_data={PARTICIPANT_LIST: apply_update(alice.participants(), change).encode(), number: payload},
    )
    submission = handshake(alice, bundle)
    if taken:
        room.submit(submission, now=NOW)
    else:
        assert "same commit" in str(refusal(room, submission, Reason.FORBIDDEN))


def test_joining_links_are_updated_by_what_changes() -> None:
    roles = with_role(GOVERNOR, Capability.CREATE_JOIN_CODE)
    room, alice, _ = found_room(replace(OPEN, roles=roles))
    update = JoinLinksUpdate(added_links=(JoinLink(join_link=b"abc"),))
    room.submit(component(alice, JOIN_LINKS, update.encode(), update.encode()[1:]), now=NOW)
    alice.accept()
    stray = JoinLinksUpdate(removed_indices=(4,)).encode()
    removal = component(alice, JOIN_LINKS, stray)
    assert "no joining link 4" in str(refusal(room, removal, Reason.INVALID_PROPOSAL))


def test_the_rooms_name_is_changed_by_who_may() -> None:
    bob = Member(BOB)
    room, _, _ = found_room(PRESETS["announcement"], bob)
    refusal(room, component(bob, ROOM_METADATA, b"\xff"), Reason.INVALID_PROPOSAL)


TIMES = MinDefaultMaxTime(minimum_time=0, default_time=0, maximum_time=0)


def operational(*, external_commits: bool, external_proposals: bool = True) -> bytes:
    return OperationalParameters(
        mandatory_capabilities=ExtendedCapabilities(),
        default_capabilities=ExtendedCapabilities(),
        forbidden_capabilities=ExtendedCapabilities(),
        handshake_formats=(1,),
        external_proposal_allowed=external_proposals,
        external_commit_allowed=external_commits,
        pending_proposal_policy=PendingProposalPolicy(
            pending_proposal_strategy=PendingProposalStrategy.UNSPECIFIED
        ),
        leaf_node_update_time=TIMES,
        app_message_policy=AppMessagePolicy(epoch_tolerance=0, pad_to_size=0, max_generations_skipahead=0),
        max_kp_lifetime=0,
        max_credential_lifetime=0,
        resumption_psk_lifetime=0,
        sender_nonce_keypair_lifetime=TIMES,
        max_keypairs=0,
        buffer_incoming_message_time=TIMES,
        max_buffered_messages=0,
    ).encode()


@pytest.mark.parametrize("allowed", [True, False])
def test_a_room_may_refuse_external_commits(allowed: bool) -> None:
    bob = Member(BOB)
    more = {MLS_OPERATIONAL_POLICY: operational(external_commits=allowed)}
    room, _, accepted = found_room(OPEN, bob, more=more)
    rejoin = bob.rejoin(accepted)
    if allowed:
        room.submit(rejoin, now=NOW)
    else:
        assert "external commits" in str(refusal(room, rejoin, Reason.FORBIDDEN))


# --- messages ---


def test_messages_are_sent_by_roles_that_may() -> None:
    bob = Member(BOB)
    room, alice, _ = found_room(PRESETS["moderated"], bob)
    assert "canSendMessage" in str(refusal(room, bob.message(), Reason.FORBIDDEN))
    room.submit(alice.message(), now=NOW)
    promotion = move(alice, BOB, 4)
    room.submit(promotion, now=NOW)
    alice.accept()
    listed = {PARTICIPANT_LIST: alice.joined().app_data()[PARTICIPANT_LIST]}
    bob.joined().process(promotion.bundle.message, new_app_data=listed, now=MLS.now)
    room.submit(bob.message(), now=NOW)


# --- who did what ---


def test_a_proposal_by_reference_is_its_senders_and_the_hubs_own_is_nobodys() -> None:
    hub, alice, bob, carol = openmls.SignatureKeyPair.generate(), Member(ALICE), Member(BOB), Member(CAROL)
    alice.group = alice.client.create_group(
        group_id=b"group",
        app_data={PARTICIPANT_LIST: participant_list((ALICE, 2), (BOB, 1), (CAROL, 1))},
        external_senders=[(hub.public_key, b"mimi://a.example")],
    )
    added = alice.group.commit(add=[bob.key_package(), carol.key_package()])
    alice.accept()
    assert added.welcome is not None
    bob.group = bob.client.join_welcome(welcome=added.welcome, ratchet_tree=added.ratchet_tree)
    public = openmls.PublicGroup.observe(
        group_info=added.group_info, ratchet_tree=added.ratchet_tree, now=MLS.now
    )
    for proposal in (
        bob.group.propose_self_remove(),
        public.propose_remove(signer=hub, sender_index=0, leaf_index=leaf_of(alice, carol)),
    ):
        public.add_proposal(proposal, now=MLS.now)
        alice.group.process(proposal, now=MLS.now)
    staged = public.stage_commit(alice.group.commit().commit, now=MLS.now)
    assert {member.identity for member in staged.removed} == {bob.client.identity, carol.client.identity}
    assert list(actions_of(public, staged)) == [
        Action(user_id=ALICE, credential=alice.client.credential),
        Action(
            user_id=BOB,
            credential=bob.client.credential,
            removed=(BOB,),
            references=tuple(
                each.reference for each in staged.proposals if each.kind == "self_remove" and each.reference
            ),
        ),
    ]


def test_candestroyroom_ends_a_group_whatever_the_limits() -> None:
    for capable in (True, False):
        removed = frozenset() if capable else frozenset({Capability.DESTROY_ROOM})
        anna = Member(ANNA)
        room, alice, _ = found_room(
            replace(OPEN, roles=with_role(GOVERNOR, without=removed)), anna, role=ADMIN
        )
        ending = replace(alice.remove(anna), deletes_group=True)
        if capable:
            room.submit(ending, now=NOW)
            refusal(room, alice.message(), Reason.FORBIDDEN)
        else:
            assert "canDestroyRoom" in str(refusal(room, ending, Reason.FORBIDDEN))
