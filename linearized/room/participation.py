"""What participant list updates mean in the log: the ``m.room.member`` entries that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Final

from linearized.mimi.participants import ParticipantListData, apply_update
from linearized.mimi.room_policy import power_level_of_role, role_of_power_level
from linearized.mls import ProposalInfo, PublicGroup
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import hub_user, user_id_from_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.state import StateMap, membership
from linearized.room.departures import listed, updates_of
from linearized.room.proposers import proposer_of

_PRESENT: Final = frozenset({"join", "invite", "knock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A state event to write on somebody's behalf."""

    sender: str
    type: str
    state_key: str
    content: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One participant list update: the list before it and after it alone (user ID to role index), the user
    who answers for it, and the reference of its proposal, None if it is in a commit by value.
    """

    user_id: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    reference: bytes | None = None

    @property
    def added(self) -> Set[str]:
        """Who is on the list only after it."""
        return self.after.keys() - self.before.keys()

    def departures(self) -> Act:
        """The part of it that takes users off the list."""
        kept = {user: role for user, role in self.before.items() if user in self.after}
        return replace(self, after=kept)


def acts_of(
    group: PublicGroup, proposals: Iterable[ProposalInfo], *, committer: str, hub: str
) -> Iterator[Act]:
    """What proposals do to the participant list of a group that has one, each by its own sender, after what
    the committer does by committing.

    "Each of these actions … is authorized separately" (MIMI protocol, Participant List).

    Args:
        committer: user ID of who sends those by value.
    """
    current = listed(group)
    before = _roles(current)
    yield Act(user_id=committer, before=before, after=before)  # who was invited and has a leaf now
    for proposal, update in updates_of(proposals):
        user_id = committer
        if proposal.reference is not None:
            client = proposer_of(group, proposal, hub=hub).client
            user_id = hub_user(hub) if client is None else client.user_id
        after = _roles(apply_update(current, update))
        yield Act(user_id=user_id, before=before, after=after, reference=proposal.reference)


def _roles(data: ParticipantListData) -> dict[str, int]:
    return {user_id_from_uri(pair.user): pair.role_index for pair in data.participants}


def membership_changes(act: Act, *, present: Set[str], state: StateMap) -> list[StateChange]:
    """The state events an update implies, in the order they have to stand in the log.

    An added user is invited by who answers for the update, and joins (the draft's rules let nobody join
    somebody else); a removed one leaves, by their own hand if they answer for it, else kicked; a new role
    becomes a new power level. Users whose membership already says so get no event.

    Args:
        present: the users with a leaf after the commit. An added user without one is only invited: their
            provider has handed out no key package, so nothing says that they want to be here.
        state: the room's state before it.
    """
    changes: list[StateChange] = []
    arrived = {user for user in present & act.after.keys() if membership(state, user) == "invite"}
    for user_id in sorted(arrived | act.added):
        changes += _addition(user_id, act.user_id, state, joins=user_id in present)
    for user_id in sorted(act.before.keys() - act.after.keys()):
        if membership(state, user_id) in _PRESENT:
            changes.append(_member(act.user_id, user_id, "leave"))
    # A role stands for a range of levels (a moderator of level 50 is a regular participant), so only a role
    # that the user's level does not already have moves it.
    levels = {
        user: power_level_of_role(role)
        for user, role in act.after.items()
        if act.before.get(user) != role and role_of_power_level(user_level(state, user)).index != role
    }
    if levels:
        changes.append(_power_levels(act.user_id, levels, state))
    return changes


def _addition(user_id: str, committer: str, state: StateMap, *, joins: bool) -> list[StateChange]:
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
