"""The roles' half of checking a log: what a hub may have appended in a room whose creator chose a policy.

A commit and the entries that it brings about are judged by who did what in it, every other entry by the role
of its sender, with the checks that a hub makes when it takes them (draft-ietf-mimi-room-policy).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from linearized.mls import ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.events import Event
from linearized.protocol.state import StateMap, hub_of
from linearized.room.acts import acts_of, departures, state_changes
from linearized.room.admission import COMMIT, COMMIT_PART, PROPOSAL
from linearized.room.join_codes import admission_changes
from linearized.room.leaves import identify
from linearized.room.participation import StateChange
from linearized.room.policy import RoomPolicy, policy_of
from linearized.room.policy_commits import check_commit
from linearized.room.policy_entries import join_rule_changes
from linearized.room.policy_events import check_event
from linearized.room.roles import has_policy, roles_of
from linearized.room.roster import Roster
from linearized.room.vouching import is_change

_HANDSHAKE: Final = frozenset({COMMIT, COMMIT_PART, PROPOSAL})


class PolicyWalk:
    """Follows a log and holds it to the policy of its group."""

    def __init__(self) -> None:
        self._policy: tuple[int, RoomPolicy | None] | None = None
        # What stands in the log because of the proposals before it, as far as it has not come yet.
        self._expected: deque[StateChange] = deque()
        # Entries that stand before the commit they belong to, and the state before the first of them.
        self._leading: list[Event] = []
        self._before: StateMap = {}

    def event(self, event: Event, state: StateMap, *, group: PublicGroup, roster: Roster) -> None:
        """Take an entry that belongs to no commit.

        Args:
            state: the room's before it.

        Raises:
            Rejected: its sender's role does not allow it.
        """
        policy = self._policy_of(group, roster)
        if policy is None or event.type in _HANDSHAKE:
            return
        if self._expected and is_change(event, self._expected[0]):
            self._expected.popleft()
            return
        self._expected.clear()
        check_event(policy, event, state)

    def leading(self, event: Event, state: StateMap) -> None:
        """Take an entry that stands before its commit; it is judged with that."""
        if not self._leading:
            self._before = dict(state)
        self._leading.append(event)

    def proposed(
        self, event: Event, state: StateMap, proposals: Sequence[ProposalInfo], *, group: PublicGroup
    ) -> None:
        """Take an entry with proposals. They are judged with the commit that takes them; whom they take off
        the participant list leaves the room at once, by entries that stand behind them.
        """
        self._expected.clear()
        roles = roles_of(group.app_data())
        if roles is None or not proposals:
            return
        acts = list(
            acts_of(group, proposals, committer=event.sender, hub=hub_of(state), roles=(roles, roles))
        )
        leaving = departures(acts)
        if leaving is not None:
            self._expected.extend(state_changes(leaving, present=frozenset(), state=state))

    def commit(
        self,
        state: StateMap,
        *,
        group: PublicGroup,
        staged: StagedCommit,
        roster: Roster,
        founding: bool,
        deletes: bool,
    ) -> None:
        """Take a commit, before it is merged.

        Args:
            state: the room's before it and behind the entries that stand before it.
            founding: whether it is the room's first.
            deletes: whether it ends the group.

        Raises:
            Rejected: the roles of those who did what is in it do not allow that, or one of the entries before
                it does not follow from it and its sender's role does not allow it.
        """
        self._expected.clear()
        leading, before = deque(self._leading), dict(self._before) if self._leading else dict(state)
        self._leading = []
        committer = identify(staged.committer).user_id
        policy = self._policy_of(group, roster)
        present = roster.users_after(staged).keys()
        roles = roles_of(group.app_data()), roles_of(staged.app_data)
        acts = (
            []
            if policy is None
            else list(acts_of(group, staged.proposals, committer=committer, hub=hub_of(before), roles=roles))
        )

        def follows(event: Event) -> bool:
            """Whether an entry is what the commit brings about in the state as it is now."""
            due = [change for act in acts for change in state_changes(act, present=present, state=before)]
            rules = join_rule_changes(staged.app_data, committer=committer, state=before)
            return any(is_change(event, change) for change in (*rules, *due))

        admission = self._admission(leading, before, committer) if staged.is_external else []
        # A copy does not say where one append ends and the next begins: there may be others in front.
        while policy is not None and leading and not admission:
            event = leading[0]
            if event.type == COMMIT_PART or event.state_key is None or follows(event):
                break
            check_event(policy, event, before)
            before[event.type, event.state_key] = leading.popleft()
            admission = self._admission(leading, before, committer) if staged.is_external else []
        check_commit(
            group,
            staged,
            before,
            roster=roster,
            founding=founding,
            deletes=deletes,
            admitted=bool(admission),
        )
        if policy is None:
            return
        self._pass(admission, leading, before)
        self._pass(join_rule_changes(staged.app_data, committer=committer, state=before), leading, before)
        for act in acts:
            self._pass(state_changes(act, present=present, state=before), leading, before)
        for event in leading:
            if event.type != COMMIT_PART:
                check_event(policy, event, before)

    @staticmethod
    def _admission(leading: deque[Event], state: StateMap, committer: str) -> list[StateChange]:
        """Who comes by a joining code is invited by whoever made it, in the entry before all others. Whether
        there was such a code only the hub knows.
        """
        if not leading or leading[0].sender == committer:
            return []
        changes = admission_changes(committer, leading[0].sender, state)
        return changes if changes and is_change(leading[0], changes[0]) else []

    @staticmethod
    def _pass(
        changes: Iterable[StateChange], leading: deque[Event], state: dict[tuple[str, str], Event]
    ) -> None:
        """Take away the entries that follow from a commit, and carry them into the state."""
        for change in changes:
            if not leading or not is_change(leading[0], change):
                return
            event = leading.popleft()
            state[event.type, change.state_key] = event

    def _policy_of(self, group: PublicGroup, roster: Roster) -> RoomPolicy | None:
        if self._policy is None or self._policy[0] != group.epoch:
            app_data = group.app_data()
            found = policy_of(app_data, dict(roster.users)) if has_policy(app_data) else None
            self._policy = (group.epoch, found)
        return self._policy[1]
