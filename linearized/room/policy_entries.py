"""What a commit in a room with a policy means in the log, beside joins and leaves: bans, and power levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from linearized.mimi.policy.roles import RoleData
from linearized.mimi.room_policy import role_of_power_level
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import POWER_LEVELS, StateMap, membership
from linearized.room.participation import Act, StateChange, membership_changes
from linearized.room.roles import is_banned, power_levels_content


def policy_changes(act: Act, *, roles: RoleData, present: Set[str], state: StateMap) -> list[StateChange]:
    """The state events an act implies, in the order they have to stand in the log.

    Args:
        roles: after the commit.
        present: the users with a leaf after the commit.
        state: the room's state before the act. Users whose membership already says so get no event.
    """
    by_level = replace(
        act,
        before=_listed_by_level(act.before, roles, state),
        after=_listed_by_level(act.after, roles, state),
    )
    memberships = membership_changes(by_level, present=present, state=state)
    banned = {user for user, index in act.after.items() if is_banned(roles, index)}
    return [
        *_ban_changes(before=act.before, after=act.after, roles=roles, committer=act.user_id, state=state),
        *(change for change in memberships if change.state_key not in banned),
    ]


def _listed_by_level(participants: Mapping[str, int], roles: RoleData, state: StateMap) -> dict[str, int]:
    """Participants as a room without a policy would list them: those who are not banned, in the role of the
    power level they have.
    """
    return {
        user: role_of_power_level(user_level(state, user)).index
        for user, index in participants.items()
        if not is_banned(roles, index)
    }


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
    was = {user for user, index in before.items() if is_banned(roles, index)}
    now = {user for user, index in after.items() if is_banned(roles, index)}
    bans = {user for user in now - was if membership(state, user) != "ban"}
    lifted = {user for user in was - now if membership(state, user) == "ban"}
    return [
        *(_member(committer, user, "leave") for user in sorted(lifted)),
        *(_member(committer, user, "ban") for user in sorted(bans)),
    ]


def level_changes(acts: Sequence[Act], *, roles: RoleData, state: StateMap) -> list[StateChange]:
    """The ``m.room.power_levels`` that roles demand once all acts of a commit are done, if it is not there.
    Whoever changed the list last is who changes the levels.

    Args:
        acts: at least the committer's own.
        roles: after the commit.
        state: after the membership events of all acts.
    """
    committer = next((act.user_id for act in reversed(acts) if act.before != act.after), acts[0].user_id)
    participants = acts[-1].after
    event = state.get(POWER_LEVELS)
    current = None if event is None else event.content
    content = power_levels_content(roles, participants, current)
    if content == current:
        return []
    return [StateChange(sender=committer, type=POWER_LEVELS[0], state_key=POWER_LEVELS[1], content=content)]


def _member(sender: str, target: str, value: str) -> StateChange:
    return StateChange(sender=sender, type="m.room.member", state_key=target, content={"membership": value})
