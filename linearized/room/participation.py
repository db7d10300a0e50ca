"""What a commit's participant list change means in the log: the ``m.room.member`` entries that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

from linearized.mimi.room_policy import power_level_of_role, role_of_power_level
from linearized.protocol.canonical import JsonObject
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import StateMap, membership
from linearized.room.standing import beyond, joined_users

_PRESENT: Final = frozenset({"join", "invite", "knock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A state event to write on somebody's behalf."""

    sender: str
    type: str
    state_key: str
    content: JsonObject


def membership_changes(
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
    present: Set[str],
    committer: str,
    state: StateMap,
) -> list[StateChange]:
    """The state events a new participant list implies, in the order they have to stand in the log.

    An added user is invited by the committer and joins (the draft's rules let nobody join somebody else); a
    removed one leaves, by their own hand if they are the committer, else kicked; a new role becomes a new
    power level. Users whose membership already says so get no event.

    Args:
        before, after: user ID to role index.
        present: the users with a leaf after the commit. An added user without one is only invited: their
            provider has handed out no key package, so nothing says that they want to be here.
        committer: user ID.
        state: the room's state before the commit.
    """
    changes = attendance_changes(
        before=before, after=after, present=present, committer=committer, state=state
    )
    if after is before:
        return changes  # the list may be long
    # A role stands for a range of levels (a moderator of level 50 is a regular participant), so only a role
    # that the user's level does not already have moves it.
    levels = {
        user: power_level_of_role(role)
        for user, role in after.items() - before.items()
        if role_of_power_level(user_level(state, user)).index != role
    }
    if levels:
        changes.append(_power_levels(committer, levels, state))
    return changes


def attendance_changes(
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
    present: Set[str],
    committer: str,
    state: StateMap,
) -> list[StateChange]:
    """Those of ``membership_changes`` that are about who comes and goes."""
    changes: list[StateChange] = []
    outside = beyond(present, joined_users(state))
    arrived = {user for user in outside if user in after and membership(state, user) == "invite"}
    if after is before and not arrived:
        return changes  # the list may be long
    for user_id in sorted(arrived | (after.keys() - before.keys())):
        changes += addition(user_id, committer, state, joins=user_id in present)
    for user_id in sorted(before.keys() - after.keys()):
        if membership(state, user_id) in _PRESENT:
            changes.append(_member(committer, user_id, "leave"))
    return changes


def addition(user_id: str, committer: str, state: StateMap, *, joins: bool) -> list[StateChange]:
    """The entries by which one user lets another in: an invite, and with ``joins`` their join."""
    current = membership(state, user_id)
    if current == "join":
        return []
    invite = [] if current == "invite" else [_member(committer, user_id, "invite")]
    return [*invite, _member(user_id, user_id, "join")] if joins else invite


def _member(sender: str, target: str, value: str) -> StateChange:
    return StateChange(sender=sender, type="m.room.member", state_key=target, content={"membership": value})


def _power_levels(committer: str, levels: Mapping[str, int], state: StateMap) -> StateChange:
    current = state.get(("m.room.power_levels", ""))
    content = (
        dict(current.content) if current is not None else {"users": {committer: user_level(state, committer)}}
    )
    users = content.get("users")
    content["users"] = {**(users if isinstance(users, dict) else {}), **levels}
    return StateChange(sender=committer, type="m.room.power_levels", state_key="", content=content)
