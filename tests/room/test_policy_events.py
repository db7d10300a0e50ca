"""What each capability lets its holders send, and that nobody else may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.roles import SingleSourceRoleChangeTargets
from linearized.protocol.events import Event
from linearized.protocol.state import StateMap
from linearized.room.claims import PROVIDER
from linearized.room.policy import RoomPolicy
from linearized.room.policy_events import check_event
from linearized.room.roles import EVENT_CAPABILITIES, power_levels_content
from linearized.room.submissions import Reason, Rejected
from tests.room.policy_support import (
    ADMIN,
    DORA,
    ENFORCER,
    EVERYBODY,
    OPEN,
    USER,
    changed,
    event,
    member_event,
    policy,
    state,
    with_role,
)
from tests.room.support import ALICE, ANNA, BOB, CAROL
from tests.room.test_claims import claim, rules

STATE = state()
FIXED = replace(policy(), base=BaseRoomPolicy(fixed_membership=True))


def allow(found: Event, rules: RoomPolicy | None = None, log: StateMap = STATE) -> None:
    check_event(policy() if rules is None else rules, found, log)


def deny(found: Event, reason: str, rules: RoomPolicy | None = None, log: StateMap = STATE) -> None:
    with pytest.raises(Rejected, match=reason) as raised:
        allow(found, rules, log)
    assert raised.value.code is Reason.FORBIDDEN


def without(index: int, *capabilities: Capability) -> RoomPolicy:
    return policy(roles=with_role(index, without=frozenset(capabilities)))


@pytest.mark.parametrize("kind", sorted(EVENT_CAPABILITIES.keys() - {"m.room.power_levels"}))
def test_an_event_needs_the_capability_that_its_type_names(kind: str) -> None:
    capability = EVENT_CAPABILITIES[kind]
    sent = event(BOB, kind, {}, None if kind == "m.room.encrypted" else "")
    allow(sent, policy(roles=with_role(USER, capability)))
    deny(sent, capability.label, without(USER, capability))


def test_types_that_no_capability_names_are_left_to_power_levels() -> None:
    allow(event(BOB, "com.example.state", {}))
    allow(event(BOB, "m.mls.commit", {}, None))


def test_who_is_no_participant_sends_nothing() -> None:
    deny(event(DORA, "m.room.encrypted", {}, None), "canSendMessage")


def test_power_levels_follow_from_roles() -> None:
    content = power_levels_content(OPEN, EVERYBODY, None)
    sent = event(ALICE, "m.room.power_levels", {**content, "notifications": {"room": 0}})
    deny(sent, "canChangeRoleDefinitions")
    may = policy(roles=with_role(4, Capability.CHANGE_ROLE_DEFINITIONS))
    allow(sent, may)
    deny(event(ALICE, "m.room.power_levels", {**content, "users": {BOB: 100}}), "follow from its roles", may)


def test_the_join_rule_follows_from_roles() -> None:
    may = policy(roles=with_role(4, Capability.CHANGE_ROOM_MEMBERSHIP_STYLE))
    allow(event(ALICE, "m.room.join_rules", {"join_rule": "knock"}), may)
    deny(event(ALICE, "m.room.join_rules", {"join_rule": "public"}), "follows from the room's roles", may)


# --- membership ---


def test_a_new_name_needs_no_capability() -> None:
    allow(member_event(BOB, BOB, "join"), without(USER, *Capability))


def test_participants_and_the_invited_join() -> None:
    allow(member_event(BOB, BOB, "join"), log=state(bob="leave"))
    allow(member_event(DORA, DORA, "join"), log=state(dora="invite"))
    deny(member_event(DORA, DORA, "join"), "neither invited")
    deny(member_event(CAROL, CAROL, "join"), "neither invited", log=state(carol="leave"))


def test_canopenjoin_and_canjoinifpreauthorized_let_others_join() -> None:
    entry = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(USER,))
    lobby = changed(0, role_capabilities=(Capability.OPEN_JOIN,), authorized_role_changes=(entry,))
    allow(member_event(DORA, DORA, "join"), policy(roles=lobby))
    may = policy(roles=with_role(USER, Capability.JOIN_IF_PREAUTHORIZED))
    preauth = rules((USER, [claim(PROVIDER, b"d.example")]))
    allow(member_event(DORA, DORA, "join"), replace(may, preauth=preauth))
    deny(member_event(DORA, DORA, "join"), "neither invited", may)


def test_canaddparticipant_invites() -> None:
    allow(member_event(BOB, DORA, "invite"))
    deny(member_event(BOB, DORA, "invite"), "canAddParticipant", without(USER, Capability.ADD_PARTICIPANT))
    only_bans = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(1,))
    deny(
        member_event(BOB, DORA, "invite"),
        "move anybody into the room",
        policy(roles=changed(USER, authorized_role_changes=(only_bans,))),
    )


def test_canknock_is_for_those_outside() -> None:
    deny(member_event(DORA, DORA, "knock"), "canKnock")
    allow(member_event(DORA, DORA, "knock"), policy(roles=changed(0, role_capabilities=(Capability.KNOCK,))))


def test_canremoveself_leaves() -> None:
    allow(member_event(BOB, BOB, "leave"))
    deny(member_event(BOB, BOB, "leave"), "canRemoveSelf", without(USER, Capability.REMOVE_SELF))
    stay = SingleSourceRoleChangeTargets(from_role_index=0, target_role_indexes=(USER,))
    deny(
        member_event(BOB, BOB, "leave"),
        "from role 2 to role 0",
        policy(roles=changed(USER, authorized_role_changes=(stay,))),
    )


def test_canremoveparticipant_kicks() -> None:
    allow(member_event(ANNA, BOB, "leave"))
    deny(member_event(BOB, ANNA, "leave"), "from role 3 to role 0")
    deny(member_event(ANNA, BOB, "leave"), "canRemove", without(ADMIN, Capability.REMOVE_PARTICIPANT))


def test_the_last_of_a_role_that_needs_one_cannot_go() -> None:
    last = policy({ALICE: 4, ANNA: ADMIN, BOB: USER})
    deny(member_event(ANNA, ANNA, "leave"), "demands 1 participants of the role group_admin", last)
    deny(member_event(ALICE, ANNA, "ban"), "demands 1 participants of the role group_admin", last)
    allow(member_event(ANNA, ANNA, "leave"), policy({ALICE: ADMIN, ANNA: ADMIN}))


def test_an_invitation_is_declined_by_the_invited_and_taken_back_by_who_may_give_one() -> None:
    invited = state(dora="invite")
    allow(member_event(DORA, DORA, "leave"), log=invited)
    allow(member_event(BOB, DORA, "leave"), log=invited)
    neither = without(USER, Capability.ADD_PARTICIPANT, Capability.REMOVE_PARTICIPANT)
    deny(member_event(BOB, DORA, "leave"), "canRemoveParticipant", neither, invited)


def test_canban_bans_whom_it_may_move_there() -> None:
    allow(member_event(ANNA, BOB, "ban"))
    allow(member_event(ANNA, DORA, "ban"))
    deny(member_event(BOB, DORA, "ban"), "canBan")
    deny(member_event(ANNA, ALICE, "ban"), "may not ban anybody of role 4")
    allow(member_event(DORA, BOB, "ban"), policy({**EVERYBODY, DORA: ENFORCER}))


def test_a_room_without_the_role_of_the_banned_bans_nobody() -> None:
    roles = changed(1, role_name="regular")
    deny(member_event(ANNA, BOB, "ban"), "no role 1 named banned", policy(roles=roles))


def test_canunban_lifts_bans_of_who_is_on_no_list() -> None:
    banned = state(dora="ban")
    allow(member_event(ANNA, DORA, "leave"), log=banned)
    deny(member_event(BOB, DORA, "leave"), "canUnBan", log=banned)
    # Who is on the list as banned is taken off it.
    allow(member_event(ANNA, CAROL, "leave"))
    deny(member_event(BOB, CAROL, "leave"), "from role 1 to role 0")


def test_a_fixed_membership_has_no_comings_and_goings() -> None:
    for sent in (
        member_event(BOB, DORA, "invite"),
        member_event(BOB, BOB, "leave"),
        member_event(ANNA, BOB, "leave"),
    ):
        deny(sent, "participants are fixed", FIXED)


def test_whom_the_hub_takes_out_with_the_parent_room_no_policy_keeps() -> None:
    allow(member_event("@_mimi:a.example", BOB, "leave"), FIXED)
