"""Rooms with a policy: who comes in by themselves, and who changes the policy and what follows from that."""

from __future__ import annotations

from dataclasses import replace

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
from linearized.mimi.policy.components import (
    JOIN_LINKS,
    MLS_OPERATIONAL_POLICY,
    PREAUTH_LIST,
    ROLES_LIST,
)
from linearized.mimi.policy.join_links import JoinLink, JoinLinksUpdate
from linearized.mimi.policy.presets import PRESETS
from linearized.mimi.policy.roles import RoleData, SingleSourceRoleChangeTargets
from linearized.protocol.identifiers import user_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import join_rule
from linearized.room.claims import PROVIDER
from linearized.room.submissions import Reason
from tests.room.policy_rooms import (
    OPEN,
    component,
    content,
    found_room,
    leaf_of,
    operational,
    written,
)
from tests.room.policy_support import ADMIN, GOVERNOR, USER, changed, with_role
from tests.room.support import (
    ALICE,
    ANNA,
    BOB,
    NOW,
    Member,
    handshake,
    member,
    refusal,
    state_event,
)
from tests.room.test_claims import claim, rules

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
