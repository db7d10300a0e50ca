"""What the participant list updates of a commit, or of proposals, mean in the log: each is its sender's act.

"Each of these actions (modifying a user's role, removing a user, and adding a user) is authorized separately"
(MIMI protocol, Participant List): the entries that go with an update are sent by who proposed it, whoever
commits it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate, changes
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.roles import RoleData
from linearized.mls import ProposalInfo, PublicGroup
from linearized.protocol.identifiers import hub_user, user_id_from_uri
from linearized.protocol.state import StateMap
from linearized.room.participation import StateChange, membership_changes
from linearized.room.policy_entries import policy_changes
from linearized.room.proposers import proposer_of
from linearized.room.roles import is_banned
from linearized.room.tie import participants_of, read_list

ACTING: Final = frozenset({PARTICIPANT_LIST, ROLES_LIST})
"""Components whose updates mean something in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One update: the list before and after it (user ID to role index), the user who answers for it, and the
    reference of its proposal, None if it is in a commit by value. ``roles`` are those after it, None in a
    room without a policy.
    """

    user_id: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    roles: RoleData | None = None
    reference: bytes | None = None

    @property
    def added(self) -> Set[str]:
        """Who is on the list only after it."""
        return self.after.keys() - self.before.keys()


def departures(acts: Sequence[Act]) -> Act | None:
    """The part of one sender's acts that takes users out, off the list or into the role of the banned; None
    if there is none.
    """
    first, after = acts[0], acts[-1].after
    kept = {
        user: after[user] if is_banned(first.roles, after[user]) else role
        for user, role in first.before.items()
        if user in after
    }
    return None if kept == first.before else replace(first, after=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One AppDataUpdate: whose act it is, and the reference of its proposal, None if it is in a commit by
    value.
    """

    user_id: str
    component: int
    payload: bytes
    reference: bytes | None = None


def acts_of(
    group: PublicGroup,
    proposals: Iterable[ProposalInfo],
    *,
    committer: str,
    hub: str,
    roles: tuple[RoleData | None, RoleData | None] = (None, None),
) -> Iterator[Act]:
    """What proposals do to the participant list of a group that has one; at last what the committer does by
    committing: let in who was invited and has a leaf now.

    Args:
        committer: user ID of who sends those by value.
        roles: before and after, in a room with a policy.
    """

    def steps() -> Iterator[Step]:
        for proposal in proposals:
            if proposal.component_id not in ACTING:
                continue
            user_id = committer
            if proposal.reference is not None:
                client = proposer_of(group, proposal, hub=hub).client
                user_id = hub_user(hub) if client is None else client.user_id
            yield Step(
                user_id=user_id,
                component=proposal.component_id,
                payload=proposal.payload or b"",
                reference=proposal.reference,
            )

    return acts_from(group.app_data(), steps(), committer=committer, roles=roles)


def acts_from(
    app_data: Mapping[int, bytes],
    steps: Iterable[Step],
    *,
    committer: str,
    roles: tuple[RoleData | None, RoleData | None] = (None, None),
) -> Iterator[Act]:
    """``acts_of`` of a group of which no more is known than its application data.

    Args:
        app_data: before them.
        steps: of the components in ``ACTING``.
    """
    before = read_list(app_data[PARTICIPANT_LIST])
    current = participants_of(app_data)
    known, later = roles
    for step in steps:
        after = current
        if step.component == PARTICIPANT_LIST:
            found = changes(before, ParticipantListUpdate.decode(step.payload))
            gone = {user_id_from_uri(user) for user in found.removed}
            after = {user: role for user, role in current.items() if user not in gone}
            for pair in (*found.changed, *found.added):
                after[user_id_from_uri(pair.user)] = pair.role_index
        else:
            known = later
        yield Act(user_id=step.user_id, before=current, after=after, roles=known, reference=step.reference)
        current = after
    yield Act(user_id=committer, before=current, after=current, roles=known)


def state_changes(act: Act, *, present: Set[str], state: StateMap) -> list[StateChange]:
    """The state events an act implies, in the order they have to stand in the log.

    Args:
        present: the users with a leaf after the commit.
        state: the room's state before it.
    """
    if act.roles is None:
        return membership_changes(
            before=act.before, after=act.after, present=present, committer=act.user_id, state=state
        )
    return policy_changes(
        before=act.before,
        after=act.after,
        roles=act.roles,
        present=present,
        committer=act.user_id,
        state=state,
    )
