"""What each capability lets its holders do to a group, and that nobody else may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from linearized.mimi.key_material import basic_credential
from linearized.mimi.participants import FRANKING_AGENT, ROOM_METADATA
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import (
    BASE_ROOM_POLICY,
    BOT_POLICY,
    JOIN_LINKS,
    MLS_OPERATIONAL_POLICY,
    PREAUTH_LIST,
    ROLES_LIST,
)
from linearized.mimi.policy.join_links import JoinLink, JoinLinksUpdate
from linearized.mimi.policy.roles import RoleData, SingleSourceRoleChangeTargets
from linearized.mimi.room_metadata import RichDescription, RoomMetaData
from linearized.protocol.state import StateMap
from linearized.room.claims import IDENTITY, PROVIDER
from linearized.room.policy import RoomPolicy
from linearized.room.policy_actions import Action, check_action
from linearized.room.submissions import Reason, Rejected
from tests.room.policy_support import (
    ADMIN,
    BANNED,
    DORA,
    ENFORCER,
    EVERYBODY,
    GOVERNOR,
    USER,
    changed,
    policy,
    state,
    with_role,
)
from tests.room.support import ALICE, ANNA, BOB, CAROL
from tests.room.test_claims import claim, rules

STATE = state()


def allow(action: Action, found: RoomPolicy | None = None, log: StateMap = STATE) -> None:
    check_action(policy() if found is None else found, action, app_data={}, state=log)


def deny(action: Action, reason: str, found: RoomPolicy | None = None, log: StateMap = STATE) -> None:
    with pytest.raises(Rejected, match=reason) as raised:
        allow(action, found, log)
    assert raised.value.code is Reason.FORBIDDEN


def without(index: int, *capabilities: Capability) -> RoomPolicy:
    return policy(roles=with_role(index, without=frozenset(capabilities)))


# --- adding ---


def test_canaddparticipant_adds_users_in_the_roles_it_may_give_with_their_clients() -> None:
    allow(Action(user_id=BOB, listed={DORA: USER}, added=(DORA, DORA)))
    deny(Action(user_id=BOB, listed={DORA: ADMIN}), "may not move anybody from role 0 to role 3")
    allow(Action(user_id=ANNA, listed={DORA: ADMIN}))
    fewer = without(USER, Capability.ADD_PARTICIPANT)
    deny(Action(user_id=BOB, listed={DORA: USER}), "canAddParticipant", fewer)


def test_who_is_no_participant_adds_nobody() -> None:
    deny(Action(user_id=DORA, listed={BOB: USER}), "@dora:d.example does not have canAddParticipant")


def test_a_client_of_somebody_else_comes_with_their_user_only() -> None:
    deny(Action(user_id=ALICE, added=(BOB,)), "only while adding them to the room")


def test_canaddownclient_adds_clients_of_ones_own() -> None:
    allow(Action(user_id=BOB, added=(BOB,)))
    allow(Action(user_id=BOB, added=(BOB,), external=True))
    fewer = without(USER, Capability.ADD_OWN_CLIENT)
    deny(Action(user_id=BOB, added=(BOB,)), "canAddOwnClient", fewer)
    # The same client in its own place is no new one.
    allow(Action(user_id=BOB, added=(BOB,), removed=(BOB,), external=True, replaces=True), fewer)


def test_who_is_no_participant_adds_no_client() -> None:
    deny(Action(user_id=DORA, added=(DORA,), external=True), "not a participant")


def lobby(*targets: int) -> RoomPolicy:
    entry = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=targets)
    return policy(
        roles=changed(0, role_capabilities=(Capability.OPEN_JOIN,), authorized_role_changes=(entry,))
    )


def test_canopenjoin_lets_anybody_in_by_themself_in_the_roles_it_names() -> None:
    joined = state(dora="join")
    allow(Action(user_id=DORA, listed={DORA: USER}, added=(DORA,), external=True), lobby(USER))
    allow(Action(user_id=DORA, added=(DORA,), external=True), lobby(USER))
    deny(Action(user_id=DORA, listed={DORA: ADMIN}, external=True), "may not enter", lobby(USER))
    # Somebody has to list them, whoever commits next; in that role and only once they are there.
    nobody = without(USER, Capability.ADD_PARTICIPANT)
    listing = Action(user_id=BOB, listed={DORA: USER})
    reader = replace(
        lobby(USER), roles=replace_role(lobby(USER), USER, nobody.roles.role(USER).role_capabilities)
    )
    allow(listing, reader, joined)
    deny(listing, "canAddParticipant", reader)
    deny(Action(user_id=DORA, listed={DORA: 0}, external=True), "may not enter", lobby(USER, 0))


def replace_role(found: RoomPolicy, index: int, capabilities: tuple[int, ...]) -> RoleData:
    return replace(
        found.roles,
        roles=tuple(
            replace(role, role_capabilities=capabilities) if role.role_index == index else role
            for role in found.roles.roles
        ),
    )


def test_canjoinifpreauthorized_lets_in_who_has_the_claims() -> None:
    preauth = rules((USER, [claim(PROVIDER, b"d.example")]))
    may = replace(policy(roles=with_role(USER, Capability.JOIN_IF_PREAUTHORIZED)), preauth=preauth)
    allow(Action(user_id=DORA, listed={DORA: USER}, added=(DORA,), external=True), may)
    deny(Action(user_id=DORA, listed={DORA: ADMIN}, external=True), "may not enter", may)
    incapable = replace(policy(), preauth=preauth)
    deny(Action(user_id=DORA, listed={DORA: USER}, external=True), "may not enter", incapable)
    other = "@other:e.example"
    deny(Action(user_id=other, listed={other: USER}, external=True), "may not enter", may)


def test_a_claim_of_one_client_is_met_by_that_client() -> None:
    preauth = rules((USER, [claim(IDENTITY, b"mimi://d.example/d/dora/ABC")]))
    may = replace(policy(roles=with_role(USER, Capability.JOIN_IF_PREAUTHORIZED)), preauth=preauth)
    action = Action(
        user_id=DORA,
        credential=basic_credential(b"mimi://d.example/d/dora/ABC"),
        listed={DORA: USER},
        external=True,
    )
    allow(action, may)
    deny(replace(action, credential=basic_credential(b"mimi://d.example/d/dora/XYZ")), "may not enter", may)


def test_nobody_joins_a_fixed_membership() -> None:
    fixed = replace(policy(), base=BaseRoomPolicy(fixed_membership=True))
    deny(Action(user_id=ALICE, listed={DORA: USER}), "participants are fixed", fixed)
    deny(Action(user_id=ALICE, delisted=frozenset({BOB})), "participants are fixed", fixed)
    assert fixed.entrances(DORA) == []


# --- removing ---


def test_canremoveparticipant_removes_users_of_the_roles_it_may() -> None:
    allow(Action(user_id=BOB, delisted=frozenset({DORA}), removed=(DORA,)), policy({**EVERYBODY, DORA: USER}))
    deny(Action(user_id=BOB, delisted=frozenset({ANNA})), "from role 3 to role 0")
    fewer = without(USER, Capability.REMOVE_PARTICIPANT)
    deny(Action(user_id=BOB, delisted=frozenset({ANNA})), "canRemoveParticipant", fewer)


def test_canremoveself_is_for_leaving() -> None:
    own = Action(user_id=BOB, delisted=frozenset({BOB}), removed=(BOB,))
    allow(own)
    deny(own, "canRemoveSelf", without(USER, Capability.REMOVE_SELF))


@pytest.mark.parametrize("membership", ["leave", "ban"])
def test_who_left_or_was_banned_in_the_log_is_removed_by_anybody(membership: str) -> None:
    gone = state(anna=membership)
    allow(Action(user_id=BOB, delisted=frozenset({ANNA}), removed=(ANNA,)), log=gone)
    allow(Action(user_id=BOB, removed=(ANNA,)), log=gone)


def test_who_is_listed_as_banned_stays_so_until_the_ban_is_lifted() -> None:
    deny(Action(user_id=BOB, delisted=frozenset({CAROL})), "from role 1 to role 0")
    allow(Action(user_id=ALICE, delisted=frozenset({CAROL})))
    allow(Action(user_id=BOB, delisted=frozenset({CAROL})), log=state(carol="leave"))


def test_canremoveownclient_and_cankick_remove_clients_alone() -> None:
    allow(Action(user_id=BOB, removed=(BOB,)))
    fewer = without(USER, Capability.REMOVE_OWN_CLIENT)
    deny(Action(user_id=BOB, removed=(BOB,)), "canRemoveOwnClient", fewer)
    allow(Action(user_id=ANNA, removed=(BOB,)))
    deny(Action(user_id=BOB, removed=(ANNA,)), "canKick")


# --- roles ---


def test_canchangeuserrole_moves_users_between_the_roles_it_may() -> None:
    allow(Action(user_id=ANNA, moved={BOB: ADMIN}))
    deny(Action(user_id=ANNA, moved={BOB: GOVERNOR}), "from role 2 to role 4")
    deny(Action(user_id=BOB, moved={ANNA: USER}), "canChangeUserRole")


def test_canchangeownrole_needs_a_preauthorization() -> None:
    own = Action(user_id=BOB, moved={BOB: ADMIN})
    deny(own, "canChangeOwnRole")
    may = policy(roles=with_role(USER, Capability.CHANGE_OWN_ROLE))
    deny(own, "not preauthorized", may)
    preauth = rules((ADMIN, [claim(PROVIDER, b"b.example")]))
    allow(own, replace(may, preauth=preauth))
    deny(Action(user_id=BOB, moved={BOB: GOVERNOR}), "not preauthorized", replace(may, preauth=preauth))


def test_canban_moves_users_to_the_role_of_the_banned() -> None:
    allow(Action(user_id=ANNA, moved={BOB: BANNED}, removed=(BOB,)))
    deny(Action(user_id=BOB, moved={ANNA: BANNED}), "canBan")
    deny(Action(user_id=ANNA, moved={ALICE: BANNED}), "from role 4 to role 1")
    allow(Action(user_id=ANNA, listed={DORA: BANNED}))
    deny(Action(user_id=BOB, listed={DORA: BANNED}), "canBan")


def test_who_changes_roles_and_kicks_may_ban_as_well() -> None:
    roles = with_role(ADMIN, without=frozenset({Capability.BAN}))
    allow(Action(user_id=ANNA, moved={BOB: BANNED}), policy(roles=roles))
    roles = with_role(ADMIN, without=frozenset({Capability.BAN, Capability.KICK}))
    deny(Action(user_id=ANNA, moved={BOB: BANNED}), "canBan", policy(roles=roles))
    allow(Action(user_id=ANNA, moved={BOB: BANNED}), policy(roles=roles, clients={}))


def test_a_ban_in_the_log_is_listed_by_anybody() -> None:
    banned = state(anna="ban", dora="ban")
    allow(Action(user_id=BOB, moved={ANNA: BANNED}, removed=(ANNA,)), log=banned)
    allow(Action(user_id=BOB, listed={DORA: BANNED}), log=banned)


def test_canunban_moves_the_banned_back_without_their_clients() -> None:
    allow(Action(user_id=ANNA, moved={CAROL: USER}))
    deny(Action(user_id=ANNA, moved={CAROL: USER}, added=(CAROL,)), "only while adding them")
    deny(Action(user_id=ANNA, moved={CAROL: GOVERNOR}), "from role 1 to role 4")
    fewer = without(ADMIN, Capability.UN_BAN)
    allow(Action(user_id=ANNA, moved={CAROL: USER}), fewer)
    deny(Action(user_id=BOB, moved={CAROL: USER}), "canChangeUserRole")


def test_the_policy_enforcer_bans_and_cleans_up_and_does_nothing_else() -> None:
    enforcer = policy({**EVERYBODY, DORA: ENFORCER})
    allow(Action(user_id=DORA, moved={ANNA: BANNED}), enforcer)
    allow(Action(user_id=DORA, delisted=frozenset({CAROL})), enforcer)
    deny(Action(user_id=DORA, moved={CAROL: USER}), "from role 1 to role 2", enforcer)
    deny(Action(user_id=DORA, added=(DORA,)), "canAddOwnClient", enforcer)


# --- components ---


@pytest.mark.parametrize(
    ("component", "capability"),
    [
        (ROLES_LIST, "canChangeRoleDefinitions"),
        (PREAUTH_LIST, "canChangePreauthorizedUserList"),
        (BASE_ROOM_POLICY, "canChangeRoomMembershipStyle"),
        (MLS_OPERATIONAL_POLICY, "canChangeMlsOperationalPolicies"),
        (BOT_POLICY, "canChangeOtherPolicyAttribute"),
    ],
)
def test_a_policy_is_changed_by_who_has_its_capability(component: int, capability: str) -> None:
    change = Action(user_id=ALICE, components={component: b""})
    deny(replace(change, user_id=BOB), capability)
    wanted = next(found for found in Capability if found.label == capability)
    allow(change, policy(roles=with_role(GOVERNOR, wanted)))


def test_the_hubs_franking_agent_is_named_by_anybody() -> None:
    for user_id in (ALICE, BOB):
        allow(Action(user_id=user_id, credential=b"", components={FRANKING_AGENT: b"the hub's"}))


def test_links_are_made_and_taken_back_by_who_may() -> None:
    made = JoinLinksUpdate(added_links=(JoinLink(join_link=b"x"),)).encode()
    taken = JoinLinksUpdate(removed_indices=(0,)).encode()
    for update, capability in ((made, Capability.CREATE_JOIN_CODE), (taken, Capability.DELETE_JOIN_CODE)):
        action = Action(user_id=BOB, components={JOIN_LINKS: update})
        deny(action, capability.label)
        allow(action, policy(roles=with_role(USER, capability)))
    with pytest.raises(Rejected) as raised:
        allow(Action(user_id=BOB, components={JOIN_LINKS: b"\xff"}))
    assert raised.value.code is Reason.INVALID_PROPOSAL


DESCRIPTIONS = (RichDescription(description_content=b"x"),)
METADATA = RoomMetaData(room_uri="mimi://a.example/r/clubhouse", room_name="Clubhouse")


@pytest.mark.parametrize(
    ("field", "value", "capability"),
    [
        ("room_name", "Den", Capability.CHANGE_ROOM_NAME),
        (
            "room_descriptions",
            DESCRIPTIONS,
            Capability.CHANGE_ROOM_DESCRIPTION,
        ),
        ("room_avatar", "https://a.example/x", Capability.CHANGE_ROOM_AVATAR),
        ("room_subject", "tea", Capability.CHANGE_ROOM_SUBJECT),
        ("room_mood", "merry", Capability.CHANGE_ROOM_MOOD),
    ],
)
def test_each_field_of_the_metadata_has_its_capability(
    field: str, value: Any, capability: Capability
) -> None:
    update = replace(METADATA, **{field: value}).encode()
    action = Action(user_id=ANNA, components={ROOM_METADATA: update})
    data = {ROOM_METADATA: METADATA.encode()}
    check_action(policy(), action, app_data=data, state=STATE)
    fewer = without(ADMIN, capability)
    with pytest.raises(Rejected, match=capability.label):
        check_action(fewer, action, app_data=data, state=STATE)
    # What stays as it is needs nothing.
    same = Action(user_id=ANNA, components={ROOM_METADATA: METADATA.encode()})
    check_action(fewer, same, app_data=data, state=STATE)


def test_the_first_metadata_are_judged_as_a_change_from_none() -> None:
    allow(Action(user_id=BOB, components={ROOM_METADATA: METADATA.encode()}))
    fewer = without(USER, Capability.CHANGE_ROOM_NAME)
    deny(Action(user_id=BOB, components={ROOM_METADATA: METADATA.encode()}), "canChangeRoomName", fewer)


def test_a_room_keeps_its_uri() -> None:
    update = replace(METADATA, room_uri="mimi://a.example/r/other").encode()
    with pytest.raises(Rejected, match="URI"):
        check_action(
            policy(),
            Action(user_id=ALICE, components={ROOM_METADATA: update}),
            app_data={ROOM_METADATA: METADATA.encode()},
            state=STATE,
        )


def test_malformed_metadata_are_an_invalid_proposal() -> None:
    with pytest.raises(Rejected) as raised:
        allow(Action(user_id=ALICE, components={ROOM_METADATA: b"\xff"}))
    assert raised.value.code is Reason.INVALID_PROPOSAL
