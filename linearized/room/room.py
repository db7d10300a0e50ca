"""One room as its hub sees it: ``Room.submit(submission, now=...)`` gives ``Accepted`` or raises
``Rejected``.

Nothing here does I/O, reads a clock or draws a random number. A submission becomes a draft over the unchanged
room; when the draft is complete the room takes it over, and the caller stores what ``Accepted`` holds in one
transaction. If storing fails, the caller throws the room away and restores it from the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Final

from linearized.exceptions import (
    IdentifierError,
)
from linearized.mls import Mls, PublicGroup, SignatureKeyPair
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user, user_domain, user_id_from_uri
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import HUB, StateMap, hub_of
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import RoomVersion
from linearized.room.acts import Act, acts_of, departures, state_changes
from linearized.room.admission import COMMIT, COMMIT_PART, ENCRYPTED, PROPOSAL, encryption_algorithm
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.devices import Published, nothing_published
from linearized.room.draft import Draft
from linearized.room.grouping import (
    GROUP_DELETED,
    NO_AGENTS,
    SAVE_EVERY,
    RoomGroup,
    Transition,
    initial_group,
)
from linearized.room.join_codes import admission_changes, check_join_codes
from linearized.room.parents import NO_PARENTS, Parents, strays
from linearized.room.participation import StateChange
from linearized.room.parts import divide
from linearized.room.policy_commits import check_offer_policy
from linearized.room.policy_entries import join_rule_changes
from linearized.room.policy_events import check_event
from linearized.room.proposals import MAX_PENDING_OF_USER, content_of
from linearized.room.provenance import Provenance
from linearized.room.roles import roles_of
from linearized.room.standing import RoomState
from linearized.room.submissions import (
    Accepted,
    ApplicationMessage,
    GroupUpdate,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    ParentChanged,
    Reason,
    Rejected,
    Submission,
    WelcomeEffect,
)
from linearized.room.tie import check_introductions, refused
from linearized.room.transitions import (
    check_policy_of_commit,
    check_tie,
    commit_acts,
    commit_bundle,
    deleting,
)

MAX_STRAYS: Final = 100
"""Taken out of a room at once because they have left its parent: an event each, which others wait behind."""


class Room:
    """The state machine. See ``submit``.

    Args:
        identity: the hub's name and signing key.
        vouched_domains: domains without a Linearized Matrix server of their own whose users this hub may
            vouch for (its bridges'), in addition to MIMI providers, which are authenticated per submission.
        mls: the MLS implementation.
        signer: the key the hub proposes with to groups that list it among their external senders.
        pending: the proposals of the group's epoch so far, with the time each was accepted at, oldest first.
        head: sequence number and event ID of the last entry, ``(0, None)`` for a room about to be created.
        last_commit_id: event ID of the latest ``m.mls.commit``.
        agents: see ``RoomGroup``.
        group_deleted: whether that commit ended the group.
        group_saved, save_every: see ``RoomGroup``.
        published: the keys of devices that have published one.
        authorities: those trusted for certificates of each domain's users.
        parents: of rooms that others depend on.
    """

    def __init__(
        self,
        *,
        room_id: str,
        version: RoomVersion,
        identity: ServerIdentity,
        mls: Mls,
        vouched_domains: frozenset[str] = frozenset(),
        signer: SignatureKeyPair | None = None,
        pending: Sequence[tuple[bytes, int]] = (),
        state: Mapping[tuple[str, str], Event] | None = None,
        head: tuple[int, str | None] = (0, None),
        group: PublicGroup | None = None,
        last_commit_id: str | None = None,
        agents: Mapping[int, bytes] = NO_AGENTS,
        group_deleted: bool = False,
        group_saved: int | None = None,
        save_every: int = SAVE_EVERY,
        published: Published = nothing_published,
        authorities: Authorities = nobody_trusted,
        parents: Parents = NO_PARENTS,
    ) -> None:
        self.room_id = room_id
        self.version = version
        self._identity = identity
        self._vouched = vouched_domains
        self._published = published
        self._authorities = authorities
        self._parents = parents
        self._state = RoomState(state or {})
        self._head = head
        self._group = RoomGroup(
            room_id=room_id,
            hub=identity.name,
            mls=mls,
            signer=signer if version.standalone_proposals else None,
            group=group,
            last_commit_id=last_commit_id,
            agents=agents,
            deleted=group_deleted,
            saved=group_saved,
            save_every=save_every,
        )
        for message, accepted_at in pending:
            self._group.keep([message], now=accepted_at)

    @property
    def state(self) -> StateMap:
        """Current state, by (type, state_key)."""
        return self._state

    @property
    def head_seq(self) -> int:
        """Sequence number of the last entry; 0 in an empty log."""
        return self._head[0]

    @property
    def epoch(self) -> int | None:
        """The MLS group's epoch; None before the first commit."""
        return self._group.epoch

    @property
    def last_commit_id(self) -> str | None:
        """Event ID of the latest commit."""
        return self._group.last_commit_id

    def submit(self, submission: Submission, *, now: int) -> Accepted:
        """Decide a submission.

        Args:
            now: the hub's acceptance time, milliseconds since the Unix epoch.

        Returns:
            The entries, already part of this room, to be stored before anybody is told.

        Raises:
            Rejected: nothing has changed.
        """
        if self._state and hub_of(self._state) != self._identity.name:
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {hub_of(self._state)}")
        match submission:
            case LocalEvent():
                return self._local(submission, now)
            case LinearizedPdu():
                return self._lpdu(submission, now)
            case Handshake():
                return self._handshake(submission, now)
            case ParentChanged():
                return self._follow_parent(now)
            case _:
                return self._application(submission, now)

    def check_join_codes(self, user_id: str, *, creates: bool) -> None:
        """See ``join_codes.check_join_codes``."""
        check_join_codes(self._group.policy, user_id, self._state, creates=creates)

    def preview(self, submission: LocalEvent | LinearizedPdu, *, now: int) -> Event:
        """The event a submission would become at this point of the log; nothing changes.

        Raises:
            Rejected: it would be refused.
        """
        draft = (
            self._draft_local(submission, now)
            if isinstance(submission, LocalEvent)
            else self._draft_lpdu(submission)
        )
        return draft.entries[-1].event

    # --- the four kinds ---

    def _local(self, submission: LocalEvent, now: int) -> Accepted:
        return self._take_event(self._draft_local(submission, now), now)

    def _draft_local(self, submission: LocalEvent, now: int) -> Draft:
        domain, provenance = _domain_of(submission.sender), submission.provenance
        # A room's past may hold users of any homeserver; for new events we speak for our bridges' alone.
        imported = provenance is not None and provenance.get("imported") is True
        vouched = imported or (provenance is not None and domain in self._vouched)
        if domain != self._identity.name and not vouched:
            raise Rejected(Reason.FORBIDDEN, f"This hub does not speak for users of {domain}")
        if submission.type in {COMMIT, COMMIT_PART, PROPOSAL}:
            raise Rejected(Reason.FORBIDDEN, "Handshake messages are submitted as a bundle")
        if submission.type == ENCRYPTED:
            self._check_ciphertext(submission.content)
        draft = self._draft()
        draft.write(
            sender=submission.sender,
            event_type=submission.type,
            content=submission.content,
            now=submission.origin_server_ts if submission.origin_server_ts is not None else now,
            state_key=submission.state_key,
            provenance=submission.provenance,
        )
        self._check_policy_of_events(draft)
        return draft

    def _lpdu(self, submission: LinearizedPdu, now: int) -> Accepted:
        if submission.pdu["type"] == COMMIT:
            self._check_addressed(submission.pdu)
            return self._commit_event(submission.lpdu, now)
        return self._take_event(self._draft_lpdu(submission), now)

    def _draft_lpdu(self, submission: LinearizedPdu) -> Draft:
        lpdu = submission.pdu
        self._check_addressed(lpdu)
        if lpdu["type"] in {COMMIT_PART, PROPOSAL}:
            raise Rejected(Reason.FORBIDDEN, "Handshake messages are submitted as a bundle")
        # The rules leave it to the hub whether to sign: nobody takes a room from it by sending an event.
        if self.version.hub_transfers and lpdu["type"] == HUB[0] and not submission.transfer:
            raise Rejected(Reason.FORBIDDEN, "A transfer is arranged with the hub's operator")
        if lpdu["type"] == ENCRYPTED:
            self._check_ciphertext(lpdu["content"])
            # The sender "MUST send an event with content matching": algorithm, ciphertext, commit_event_id.
            # Which commit that is only members can tell for sure: a Welcome by MIMI does not name its event.
            if not isinstance(lpdu["content"].get("commit_event_id"), str):
                raise Rejected(Reason.MALFORMED, "content.commit_event_id is missing")
        draft = self._draft()
        draft.complete(submission.lpdu)
        self._check_policy_of_events(draft)
        return draft

    def _check_addressed(self, lpdu: JsonObject) -> None:
        if lpdu["room_id"] != self.room_id:
            raise Rejected(Reason.UNKNOWN_ROOM, "The event is for another room")
        if lpdu.get("hub_server") != self._identity.name:
            raise Rejected(Reason.WRONG_HUB, "hub_server names another server")

    def _handshake(self, submission: Handshake, now: int) -> Accepted:
        self._require_encryption()
        if not submission.bundle.is_commit:
            return self._proposal(submission, now)
        transition = self._group.stage(submission.bundle, submission.initial_group, self._state, now=now)
        staged, committer = transition.commit.staged, transition.commit.committer
        if submission.deletes_group:
            transition = deleting(transition)
        self._check_submitter(submission, committer.user_id)
        check_introductions(staged, committer, submission.introduced)
        inviter = submission.invited_by if staged.is_external else None
        admission = admission_changes(committer.user_id, inviter, self._state)
        check_policy_of_commit(transition, self._state, admitted=bool(admission))
        draft = self._draft()
        draft.epoch = staged.epoch
        provenance = self._provenance(submission.bundle.message)
        self._write_changes(draft, admission, provenance, now)
        self._write_memberships(draft, transition, provenance, now)
        self._check_tie(transition, draft.state, now)
        self._write_commit(draft, transition, provenance, now)
        return self._take_commit(draft, transition, now)

    def _proposal(self, submission: Handshake, now: int) -> Accepted:
        """Proposals for somebody else to commit. Whom they take off the participant list is out at once."""
        if not self.version.standalone_proposals:
            # Linearized Matrix, MLS Considerations: "all commits MUST only contain proposals which are sent
            # by the same member".
            raise Rejected(Reason.INVALID_PROPOSAL, "This room takes commits only; propose by committing")
        group, offer = self._group.examine(
            submission.bundle,
            self._state,
            introduced=submission.introduced,
            published=self._published,
            authorities=self._authorities,
            now=now,
        )
        self._check_submitter(submission, offer.user_id)
        check_offer_policy(group, offer, self._state, self._group.policy)
        roles = roles_of(group.app_data())
        acts = [
            replace(act, reference=None)
            for act in acts_of(
                group,
                offer.proposals,
                committer=offer.user_id,
                hub=self._identity.name,
                roles=(roles, roles),
            )
        ]
        provenance = self._provenance(submission.bundle.message)
        rehearsal = self._draft()
        for act in acts:
            self._write_act(rehearsal, act, present=act.added, provenance=provenance, now=now)
        draft = self._draft()
        draft.write(
            sender=offer.user_id,
            event_type=PROPOSAL,
            content=content_of(offer.messages),
            now=now,
            provenance=provenance.of(offer.user_id),
        )
        if (leaving := departures(acts)) is not None:
            self._write_act(draft, leaving, present=frozenset(), provenance=provenance, now=now)
        self._group.keep(offer.messages, now=now)
        return self._take_event(draft, now, stands=0)

    def _commit_event(self, lpdu: VerifiedLpdu, now: int) -> Accepted:
        """An ``m.mls.commit`` of a Linearized Matrix participant: membership moves by events of its own."""
        self._require_encryption()
        content = lpdu.lpdu.pdu["content"]
        bundle = commit_bundle(content)
        transition = self._group.stage(bundle, initial_group(content), self._state, now=now)
        self._group.check_parent(content)
        if content.get(GROUP_DELETED) is True:
            transition = deleting(transition)
        committer = transition.commit.committer
        if committer.user_id != lpdu.lpdu.pdu["sender"]:
            raise Rejected(Reason.FORBIDDEN, "The commit was made by another user than the event's sender")
        check_introductions(transition.commit.staged, committer, frozenset())
        check_policy_of_commit(transition, self._state)
        present = transition.roster.users_after(transition.commit.staged).keys()
        if any(
            state_changes(act, present=present, state=self._state)
            for act in commit_acts(transition, self._state, self.version, hub=self._identity.name)
        ):
            raise Rejected(
                Reason.FORBIDDEN, "The participant list says something that no event in the room says"
            )
        draft = self._draft()
        draft.epoch = transition.commit.staged.epoch
        self._check_tie(transition, draft.state, now)
        draft.complete(lpdu)
        return self._take_commit(draft, transition, now)

    def _check_tie(self, transition: Transition, state: StateMap, now: int) -> None:
        hub = self._identity.name
        check_tie(transition, state, self._published, self._authorities, hub=hub, now=now)

    def _application(self, submission: ApplicationMessage, now: int) -> Accepted:
        try:
            sender = user_id_from_uri(submission.sending_uri)
        except IdentifierError as error:
            raise Rejected(Reason.MALFORMED, str(error)) from error
        self._check_provider(sender, submission.provider)
        algorithm = self._require_encryption()
        self._group.check_message(submission.message)
        content: JsonObject = {
            "algorithm": algorithm,
            "ciphertext": encode_base64(submission.message),
            "commit_event_id": self._group.last_commit_id,
        }
        draft = self._draft()
        draft.write(
            sender=sender,
            event_type=ENCRYPTED,
            content=content,
            now=now,
            provenance=self._provenance(submission.message).of(sender),
        )
        self._check_policy_of_events(draft)
        return self._take(draft, now)

    def _follow_parent(self, now: int) -> Accepted:
        """Take out who is not in the parent room; their clients go with the next commit. No policy keeps
        them: also a room whose participants are fixed has none that its parent has not.
        """
        draft = self._draft()
        for user_id in strays(self._state, self._parents)[:MAX_STRAYS]:
            draft.write(
                sender=hub_user(self._identity.name),
                event_type="m.room.member",
                content={"membership": "leave"},
                now=now,
                state_key=user_id,
            )
        if not draft.entries:
            raise Rejected(Reason.FORBIDDEN, "Everybody in the room is in its parent room")
        return self._take_event(draft, now)

    # --- parts ---

    def _draft(self) -> Draft:
        return Draft(
            room_id=self.room_id,
            version=self.version,
            identity=self._identity,
            state=self._state,
            head=self._head,
            epoch=self.epoch,
            parents=self._parents,
        )

    def _write_memberships(
        self, draft: Draft, transition: Transition, provenance: Provenance, now: int
    ) -> None:
        """Write the membership entries that a commit's new participant list implies."""
        present = transition.roster.users_after(transition.commit.staged).keys()
        committer = transition.commit.committer.user_id
        acts = commit_acts(transition, self._state, self.version, hub=self._identity.name)
        # First, as long as the committer has the power level that the roles may be about to take.
        rule = join_rule_changes(transition.commit.staged.app_data, committer=committer, state=draft.state)
        self._write_changes(draft, rule, provenance, now)
        for act in acts:
            self._write_act(draft, act, present=present, provenance=provenance, now=now)

    def _write_commit(self, draft: Draft, transition: Transition, provenance: Provenance, now: int) -> None:
        """Write the entry of a commit that came as a bundle, behind its parts if it is larger than an
        event.
        """
        user_id, content = transition.commit.committer.user_id, self._group.content_of(transition)
        parts, content = divide(content) if self.version.divided_commits else ([], content)
        for event_type, each in (*((COMMIT_PART, part) for part in parts), (COMMIT, content)):
            draft.write(
                sender=user_id,
                event_type=event_type,
                content=each,
                now=now,
                provenance=provenance.of(user_id),
            )

    def _write_act(
        self, draft: Draft, act: Act, *, present: Set[str], provenance: Provenance, now: int
    ) -> None:
        try:
            changes = state_changes(act, present=present, state=draft.state)
            self._write_changes(draft, changes, provenance, now)
        except Rejected as error:
            raise refused(str(error), act.reference) from error

    def _write_changes(
        self, draft: Draft, changes: Sequence[StateChange], provenance: Provenance, now: int
    ) -> None:
        for change in changes:
            draft.write(
                sender=change.sender,
                event_type=change.type,
                content=change.content,
                now=now,
                state_key=change.state_key,
                provenance=provenance.of(change.sender),
            )

    def _check_policy_of_events(self, draft: Draft) -> None:
        """What the authorization rules allow, a room's policy may still not."""
        policy = self._group.policy
        if policy is not None:
            for entry in draft.entries:
                check_event(policy, entry.event, self._state)

    def _check_ciphertext(self, content: JsonObject) -> None:
        self._group.check_ciphertext(content, algorithm=self._require_encryption())

    def _require_encryption(self) -> str:
        """The room's algorithm, for what is about to be encrypted or committed."""
        algorithm = encryption_algorithm(self._state)
        if algorithm is None:
            raise Rejected(Reason.FORBIDDEN, "The room is not encrypted")
        self._group.require_alive()
        return algorithm

    def _check_provider(self, user_id: str, provider: str) -> None:
        """The provider that submits must be the one the user belongs to; we speak for our bridges'
        domains.
        """
        domain = _domain_of(user_id)
        ours = provider == self._identity.name and domain in self._vouched
        if domain != provider and not ours:
            raise Rejected(Reason.FORBIDDEN, f"{provider} does not speak for users of {domain}")

    def _check_submitter(self, submission: Handshake, user_id: str) -> None:
        """A handshake is submitted by the provider, and in the session, of the user who signed it."""
        self._check_provider(user_id, submission.provider)
        if submission.user_id not in {None, user_id}:
            raise Rejected(
                Reason.FORBIDDEN, "The handshake was made by another user than the one who submits it"
            )

    def _provenance(self, message: bytes) -> Provenance:
        return Provenance(message, hub=self._identity.name)

    def _take_commit(self, draft: Draft, transition: Transition, now: int) -> Accepted:
        stands = len(draft.entries) - 1
        update, welcomes = self._group.merge(transition, draft.entries[-1].event.event_id)
        if transition.commit.staged.is_external:
            # "An external commit will invalidate certain pending proposals … The hub would then be expected
            # to regenerate any relevant, comparable proposals in the new epoch" (MIMI protocol, Fanout
            # Messages).
            self._propose_removals(draft, now)
        return self._take(draft, now, stands=stands, group=update, welcomes=welcomes)

    def _take_event(self, draft: Draft, now: int, *, stands: int = -1) -> Accepted:
        """Take a draft over in which somebody may have left."""
        entry = draft.entries[stands]
        if any(_is_departure(each.event) for each in draft.entries):
            self._propose_removals(draft, now)
        return self._take(draft, now, stands=draft.entries.index(entry))

    def _propose_removals(self, draft: Draft, now: int) -> None:
        """Add the hub's own proposals to remove who is not in the room; nobody can object to them."""
        missing = self._group.missing_removals(draft.state)
        for start in range(0, len(missing), MAX_PENDING_OF_USER):
            messages = missing[start : start + MAX_PENDING_OF_USER]
            draft.write(
                sender=hub_user(self._identity.name),
                event_type=PROPOSAL,
                content=content_of(messages),
                now=now,
            )
            self._group.keep(messages, now=now)

    def _take(
        self,
        draft: Draft,
        now: int,
        *,
        stands: int = -1,
        group: GroupUpdate | None = None,
        welcomes: tuple[WelcomeEffect, ...] = (),
    ) -> Accepted:
        self._state.take(draft.changes)
        last = draft.entries[-1]
        self._head = (last.seq, last.event.event_id)
        return Accepted(
            entries=tuple(draft.entries),
            entry=draft.entries[stands],
            accepted_at=now,
            group=group,
            welcomes=welcomes,
        )


def _is_departure(event: Event) -> bool:
    return event.type == "m.room.member" and event.content.get("membership") in ("leave", "ban")


def _domain_of(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
