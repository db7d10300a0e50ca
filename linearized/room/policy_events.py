"""Events of the log held to the room's policy: what a Matrix client sends is judged as what a commit does."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.roles import BANNED, BANNED_NAME, NO_ROLE
from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user, user_domain
from linearized.protocol.state import JOIN_RULES, StateMap, membership
from linearized.room.policy import RoomPolicy, forbid, require
from linearized.room.policy_limits import check_limits
from linearized.room.roles import EVENT_CAPABILITIES, is_banned, power_levels_content, rule_for

_MEMBER: Final = "m.room.member"
_POWER_LEVELS: Final = "m.room.power_levels"


def check_event(policy: RoomPolicy, event: Event, state: StateMap) -> None:
    """Hold an event that the authorization rules allow to the room's policy.

    Types that no capability names are left to power levels; commits and proposals to what they do.

    Args:
        state: the room's state before the event.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``), naming what is missing.
    """
    if event.type == _MEMBER and event.state_key is not None:
        _check_member(policy, event.sender, event.state_key, event, state)
    elif event.type == _POWER_LEVELS:
        # Levels follow from roles; who wants others changes the roles, and the hub writes the levels.
        require(policy, event.sender, Capability.CHANGE_ROLE_DEFINITIONS)
        if power_levels_content(policy.roles, policy.participants, event.content) != event.content:
            forbid("The room's power levels follow from its roles: a commit changes both")
    elif event.type in EVENT_CAPABILITIES:
        require(policy, event.sender, EVENT_CAPABILITIES[event.type])
        rule = event.content.get("join_rule", "invite")
        if event.type == JOIN_RULES[0] and rule != rule_for(policy.roles, policy.preauth, str(rule)):
            forbid("Who may enter by themself follows from the room's roles: a commit changes both")


def _check_member(policy: RoomPolicy, sender: str, target: str, event: Event, state: StateMap) -> None:
    if sender == hub_user(user_domain(sender)):
        return  # rule L8: who has left the parent room, whatever the policy says of leaving
    current, value = membership(state, target), event.content.get("membership")
    if value == current:
        return  # a new name or picture
    match value:
        case "join":
            _check_join(policy, target, current)
        case "invite":
            _check_invite(policy, sender)
        case "knock":
            require(policy, target, Capability.KNOCK)
        case "ban":
            _check_ban(policy, sender, target)
        case _:
            _check_leave(policy, sender, target, current)


def _check_join(policy: RoomPolicy, target: str, current: str) -> None:
    listed = target in policy.participants and not policy.is_banned(target)
    if not listed and current != "invite" and not policy.entrances(target):
        forbid(f"{target} is neither invited to the room nor may enter it by themself")


def _check_invite(policy: RoomPolicy, sender: str) -> None:
    if policy.base.fixed_membership:
        forbid("The room's participants are fixed")
    require(policy, sender, Capability.ADD_PARTICIPANT)
    # In which role they come is said by the commit that lists them.
    targets = policy.role_of(sender).targets(NO_ROLE)
    if not any(target != NO_ROLE and not is_banned(policy.roles, target) for target in targets):
        forbid(f"The role of {sender} may not move anybody into the room")


def _check_ban(policy: RoomPolicy, sender: str, target: str) -> None:
    require(policy, sender, Capability.BAN)
    # "to use the canBan and canUnban capabilities, the role needs to exist exactly as described above."
    if not policy.roles.bans:
        forbid(f"The room has no role {BANNED} named {BANNED_NAME}")
    source = policy.index_of(target)
    if not policy.may_move(sender, Capability.BAN, source, BANNED):
        forbid(f"The role of {sender} may not ban anybody of role {source}")
    _check_without(policy, target)


def _check_leave(policy: RoomPolicy, sender: str, target: str, current: str) -> None:
    if target not in policy.participants:
        _check_unlisted(policy, sender, target, current)
        return
    # "Ordinary users cannot leave or be removed, however a user can remove all its clients".
    if policy.base.fixed_membership:
        forbid("The room's participants are fixed")
    capability = Capability.REMOVE_SELF if sender == target else Capability.REMOVE_PARTICIPANT
    require(policy, sender, capability)
    source = policy.index_of(target)
    if not policy.may_move(sender, capability, source, NO_ROLE):
        forbid(f"The role of {sender} may not move anybody from role {source} to role {NO_ROLE}")
    _check_without(policy, target)


def _check_unlisted(policy: RoomPolicy, sender: str, target: str, current: str) -> None:
    """Who is on no list may go; an invitation is taken back by who gives them, a ban by who lifts them."""
    if sender == target:
        return
    if current == "ban":
        require(policy, sender, Capability.UN_BAN)
    elif not policy.may(sender, Capability.ADD_PARTICIPANT):
        require(policy, sender, Capability.REMOVE_PARTICIPANT)


def _check_without(policy: RoomPolicy, target: str) -> None:
    """Hold the room without a user to its minimums."""
    participants = {user: index for user, index in policy.participants.items() if user != target}
    clients = {user: count for user, count in policy.clients.items() if user != target}
    check_limits(policy, replace(policy, participants=participants, clients=clients))
