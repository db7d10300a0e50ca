"""The handshakes of a room's MLS group: commits and proposals in bundles, and commits that participants send
as events.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from linearized.protocol.state import StateMap
from linearized.protocol.verify import VerifiedLpdu
from linearized.room.acts import Act, acts_of, departures, state_changes
from linearized.room.admission import COMMIT, COMMIT_PART, PROPOSAL
from linearized.room.certificates import Authorities
from linearized.room.devices import Published
from linearized.room.draft import Draft
from linearized.room.grouping import GROUP_DELETED, Transition, initial_group
from linearized.room.join_codes import admission_changes
from linearized.room.log import RoomLog
from linearized.room.participation import StateChange
from linearized.room.parts import divide
from linearized.room.plain_events import check_addressed
from linearized.room.policy_commits import check_offer_policy
from linearized.room.policy_entries import join_rule_changes
from linearized.room.proposals import content_of
from linearized.room.provenance import Provenance
from linearized.room.roles import roles_of
from linearized.room.speakers import Speakers
from linearized.room.submissions import Accepted, Handshake, Reason, Rejected
from linearized.room.tie import check_introductions, refused
from linearized.room.transitions import (
    check_policy_of_commit,
    check_tie,
    commit_acts,
    commit_bundle,
    deleting,
)


class Handshakes:
    """Those of one room.

    Args:
        published: the keys of devices that have published one.
        authorities: those trusted for certificates of each domain's users.
    """

    def __init__(
        self, log: RoomLog, speakers: Speakers, *, published: Published, authorities: Authorities
    ) -> None:
        self._log = log
        self._speakers = speakers
        self._published = published
        self._authorities = authorities

    def take(self, submission: Handshake, *, now: int) -> Accepted:
        """Take a bundle over.

        Raises:
            Rejected: nothing has changed.
        """
        self._log.require_encryption()
        if not submission.bundle.is_commit:
            return self._proposal(submission, now)
        return self._commit(submission, now)

    def take_event(self, lpdu: VerifiedLpdu, *, now: int) -> Accepted:
        """Take an ``m.mls.commit`` of a Linearized Matrix participant over: membership moves by events of its
        own.

        Raises:
            Rejected: nothing has changed.
        """
        log = self._log
        check_addressed(log, lpdu.lpdu.pdu)
        log.require_encryption()
        content = lpdu.lpdu.pdu["content"]
        bundle = commit_bundle(content)
        transition = log.group.stage(bundle, initial_group(content), log.state, now=now)
        log.group.check_parent(content)
        if content.get(GROUP_DELETED) is True:
            transition = deleting(transition)
        committer = transition.commit.committer
        if committer.user_id != lpdu.lpdu.pdu["sender"]:
            raise Rejected(Reason.FORBIDDEN, "The commit was made by another user than the event's sender")
        check_introductions(transition.commit.staged, committer, frozenset())
        check_policy_of_commit(transition, log.state)
        present = transition.roster.users_after(transition.commit.staged).keys()
        if any(state_changes(act, present=present, state=log.state) for act in self._acts(transition)):
            raise Rejected(
                Reason.FORBIDDEN, "The participant list says something that no event in the room says"
            )
        draft = log.draft()
        draft.epoch = transition.commit.staged.epoch
        self._check_tie(transition, draft.state, now)
        draft.complete(lpdu)
        return log.take_commit(draft, transition, now)

    def _commit(self, submission: Handshake, now: int) -> Accepted:
        log = self._log
        transition = log.group.stage(submission.bundle, submission.initial_group, log.state, now=now)
        staged, committer = transition.commit.staged, transition.commit.committer
        if submission.deletes_group:
            transition = deleting(transition)
        self._speakers.check_submitter(submission, committer.user_id)
        check_introductions(staged, committer, submission.introduced)
        inviter = submission.invited_by if staged.is_external else None
        admission = admission_changes(committer.user_id, inviter, log.state)
        check_policy_of_commit(transition, log.state, admitted=bool(admission))
        draft = log.draft()
        draft.epoch = staged.epoch
        provenance = self._provenance(submission)
        _write_changes(draft, admission, provenance, now)
        self._write_memberships(draft, transition, provenance, now)
        self._check_tie(transition, draft.state, now)
        self._write_commit(draft, transition, provenance, now)
        return log.take_commit(draft, transition, now)

    def _proposal(self, submission: Handshake, now: int) -> Accepted:
        """Proposals for somebody else to commit. Whom they take off the participant list is out at once."""
        log = self._log
        if not log.version.standalone_proposals:
            # Linearized Matrix, MLS Considerations: "all commits MUST only contain proposals which are sent
            # by the same member".
            raise Rejected(Reason.INVALID_PROPOSAL, "This room takes commits only; propose by committing")
        group, offer = log.group.examine(
            submission.bundle,
            log.state,
            introduced=submission.introduced,
            published=self._published,
            authorities=self._authorities,
            now=now,
        )
        self._speakers.check_submitter(submission, offer.user_id)
        check_offer_policy(group, offer, log.state, log.group.policy)
        roles = roles_of(group.app_data())
        acts = [
            replace(act, reference=None)
            for act in acts_of(
                group,
                offer.proposals,
                committer=offer.user_id,
                hub=log.identity.name,
                roles=(roles, roles),
            )
        ]
        provenance = self._provenance(submission)
        rehearsal = log.draft()
        for act in acts:
            _write_act(rehearsal, act, present=act.added, provenance=provenance, now=now)
        draft = log.draft()
        draft.write(
            sender=offer.user_id,
            event_type=PROPOSAL,
            content=content_of(offer.messages),
            now=now,
            provenance=provenance.of(offer.user_id),
        )
        if (leaving := departures(acts)) is not None:
            _write_act(draft, leaving, present=frozenset(), provenance=provenance, now=now)
        log.group.keep(offer.messages, now=now)
        return log.take_event(draft, now, stands=0)

    def _acts(self, transition: Transition) -> list[Act]:
        log = self._log
        return commit_acts(transition, log.state, log.version, hub=log.identity.name)

    def _check_tie(self, transition: Transition, state: StateMap, now: int) -> None:
        hub = self._log.identity.name
        check_tie(transition, state, self._published, self._authorities, hub=hub, now=now)

    def _provenance(self, submission: Handshake) -> Provenance:
        return Provenance(submission.bundle.message, hub=self._log.identity.name)

    def _write_memberships(
        self, draft: Draft, transition: Transition, provenance: Provenance, now: int
    ) -> None:
        """Write the membership entries that a commit's new participant list implies."""
        present = transition.roster.users_after(transition.commit.staged).keys()
        committer = transition.commit.committer.user_id
        acts = self._acts(transition)
        # First, as long as the committer has the power level that the roles may be about to take.
        rule = join_rule_changes(transition.commit.staged.app_data, committer=committer, state=draft.state)
        _write_changes(draft, rule, provenance, now)
        for act in acts:
            _write_act(draft, act, present=present, provenance=provenance, now=now)

    def _write_commit(self, draft: Draft, transition: Transition, provenance: Provenance, now: int) -> None:
        """Write the entry of a commit that came as a bundle, behind its parts if it is larger than an
        event.
        """
        log, user_id = self._log, transition.commit.committer.user_id
        content = log.group.content_of(transition)
        parts, content = divide(content) if log.version.divided_commits else ([], content)
        for event_type, each in (*((COMMIT_PART, part) for part in parts), (COMMIT, content)):
            draft.write(
                sender=user_id,
                event_type=event_type,
                content=each,
                now=now,
                provenance=provenance.of(user_id),
            )


def _write_act(draft: Draft, act: Act, *, present: Set[str], provenance: Provenance, now: int) -> None:
    try:
        _write_changes(draft, state_changes(act, present=present, state=draft.state), provenance, now)
    except Rejected as error:
        raise refused(str(error), act.reference) from error


def _write_changes(draft: Draft, changes: Sequence[StateChange], provenance: Provenance, now: int) -> None:
    for change in changes:
        draft.write(
            sender=change.sender,
            event_type=change.type,
            content=change.content,
            now=now,
            state_key=change.state_key,
            provenance=provenance.of(change.sender),
        )
