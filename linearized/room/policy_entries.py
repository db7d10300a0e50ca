"""What a commit in a room with a policy means in the log, beside joins and leaves: bans, and power levels."""

from __future__ import annotations

from collections.abc import Mapping, Set

from linearized.mimi.policy.roles import RoleData
from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import JOIN_RULES, POWER_LEVELS, StateMap, join_rule, membership
from linearized.room.participation import StateChange, attendance_changes
from linearized.room.policy import preauth_of
from linearized.room.roles import banned_of, power_levels_content, roles_of, rule_for


def policy_changes(
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
    roles: RoleData,
    present: Set[str],
    committer: str,
    state: StateMap,
) -> list[StateChange]:
    """The state events a commit implies, in the order they have to stand in the log.

    Args:
        before, after: user ID to role index.
        roles: after the commit.
        present: the users with a leaf after the commit.
        committer: user ID.
        state: the room's state before the commit. Users whose membership already says so get no event.
    """
    attendance = attendance_changes(
        before=_listed(before, roles),
        after=_listed(after, roles),
        present=present,
        committer=committer,
        state=state,
    )
    banned = banned_of(after, roles)
    return [
        *_ban_changes(before=before, after=after, roles=roles, committer=committer, state=state),
        *(change for change in attendance if change.state_key not in banned),
        *_level_changes(after, roles=roles, committer=committer, state=state),
    ]


def _listed(participants: Mapping[str, int], roles: RoleData) -> Mapping[str, int]:
    """Participants as a room without a policy would list them: those who are not banned."""
    banned = banned_of(participants, roles)
    if not banned:
        return participants
    return {user: index for user, index in participants.items() if user not in banned}


def _ban_changes(
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
    roles: RoleData,
    committer: str,
    state: StateMap,
) -> list[StateChange]:
    """The membership events by which users enter and leave the role of the banned.

    Args:
        before, after: user ID to role index.
        state: the room's state before the commit. Users whose membership already says so get no event.
    """
    was, now = banned_of(before, roles), banned_of(after, roles)
    bans = {user for user in now - was if membership(state, user) != "ban"}
    lifted = {user for user in was - now if membership(state, user) == "ban"}
    return [
        *(_member(committer, user, "leave") for user in sorted(lifted)),
        *(_member(committer, user, "ban") for user in sorted(bans)),
    ]


def join_rule_changes(app_data: Mapping[int, bytes], *, committer: str, state: StateMap) -> list[StateChange]:
    """The ``m.room.join_rules`` of a policy that lets users in by themselves, or does so no more.

    Args:
        app_data: of the group after the commit, whose policy was found to hold if it has one.
    """
    roles, current = roles_of(app_data), join_rule(state)
    rule = current if roles is None else rule_for(roles, preauth_of(app_data), current)
    if rule == current:
        return []
    content: JsonObject = {"join_rule": rule}
    return [StateChange(sender=committer, type=JOIN_RULES[0], state_key=JOIN_RULES[1], content=content)]


def _level_changes(
    participants: Mapping[str, int], *, roles: RoleData, committer: str, state: StateMap
) -> list[StateChange]:
    """The ``m.room.power_levels`` that roles demand, if it is not there.

    Args:
        participants: user ID to role index, after the commit.
        roles: after the commit.
    """
    event = state.get(POWER_LEVELS)
    current = None if event is None else event.content
    content = power_levels_content(roles, participants, current)
    # The level of who is gone stays: they may go by the commit of somebody who could not take it from them.
    # Listed again, they have the one of their role.
    before = (current or {}).get("users")
    levels = before if isinstance(before, dict) else {}
    content["users"] = {
        **{user: level for user, level in levels.items() if user not in participants},
        **content["users"],
    }
    if content == current:
        return []
    return [StateChange(sender=committer, type=POWER_LEVELS[0], state_key=POWER_LEVELS[1], content=content)]


def _member(sender: str, target: str, value: str) -> StateChange:
    return StateChange(sender=sender, type="m.room.member", state_key=target, content={"membership": value})
