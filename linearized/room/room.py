"""One room as its hub sees it: ``Room.submit(submission, now=...)`` gives ``Accepted`` or raises
``Rejected``.

Nothing here does I/O, reads a clock or draws a random number. A submission becomes a draft over the unchanged
room; when the draft is complete the room takes it over, and the caller stores what ``Accepted`` holds in one
transaction. If storing fails, the caller throws the room away and restores it from the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from linearized.exceptions import (
    IdentifierError,
    MimiDecodeError,
)
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle
from linearized.mimi.room_policy import role_of_power_level
from linearized.mls import Mls, PublicGroup
from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain, user_id_from_uri
from linearized.protocol.power_levels import user_level
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import HUB, StateMap, hub_of
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import COMMIT, ENCRYPTED, PROPOSAL, encryption_algorithm
from linearized.room.draft import Draft
from linearized.room.grouping import NO_AGENTS, RoomGroup, Transition, binary, initial_group
from linearized.room.observing import public_commit
from linearized.room.participation import StateChange, membership_changes
from linearized.room.submissions import (
    Accepted,
    ApplicationMessage,
    GroupUpdate,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    Reason,
    Rejected,
    Submission,
    WelcomeEffect,
)
from linearized.room.tie import (
    check_agreement,
    check_introductions,
    check_leaf_changes,
    lists_participants,
    participants_of,
    users_after,
)


class Room:
    """The state machine. See ``submit``.

    Args:
        identity: the hub's name and signing key.
        vouched_domains: domains without a Linearized Matrix server of their own whose users this hub may
            vouch for (its bridges'), in addition to MIMI providers, which are authenticated per submission.
        mls: the MLS implementation.
        head: sequence number and event ID of the last entry, ``(0, None)`` for a room about to be created.
        last_commit_id: event ID of the latest ``m.mls.commit``.
        agents: see ``RoomGroup``.
    """

    def __init__(
        self,
        *,
        room_id: str,
        version: RoomVersion,
        identity: ServerIdentity,
        mls: Mls,
        vouched_domains: frozenset[str] = frozenset(),
        state: Mapping[tuple[str, str], Event] | None = None,
        head: tuple[int, str | None] = (0, None),
        group: PublicGroup | None = None,
        last_commit_id: str | None = None,
        agents: Mapping[int, bytes] = NO_AGENTS,
    ) -> None:
        self.room_id = room_id
        self.version = version
        self._identity = identity
        self._vouched = vouched_domains
        self._state: dict[tuple[str, str], Event] = dict(state or {})
        self._head = head
        self._group = RoomGroup(
            room_id=room_id, mls=mls, group=group, last_commit_id=last_commit_id, agents=agents
        )

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
            case _:
                return self._application(submission, now)

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
        return self._take(self._draft_local(submission, now), now)

    def _draft_local(self, submission: LocalEvent, now: int) -> Draft:
        domain, provenance = _domain_of(submission.sender), submission.provenance
        # A room's past may hold users of any homeserver; for new events we speak for our bridges' alone.
        imported = provenance is not None and provenance.get("imported") is True
        vouched = imported or (provenance is not None and domain in self._vouched)
        if domain != self._identity.name and not vouched:
            raise Rejected(Reason.FORBIDDEN, f"This hub does not speak for users of {domain}")
        if submission.type in {COMMIT, PROPOSAL}:
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
        return draft

    def _lpdu(self, submission: LinearizedPdu, now: int) -> Accepted:
        if submission.pdu["type"] == COMMIT:
            self._check_addressed(submission.pdu)
            return self._commit_event(submission.lpdu, now)
        return self._take(self._draft_lpdu(submission), now)

    def _draft_lpdu(self, submission: LinearizedPdu) -> Draft:
        lpdu = submission.pdu
        self._check_addressed(lpdu)
        if lpdu["type"] in {COMMIT, PROPOSAL}:
            raise Rejected(Reason.FORBIDDEN, "Proposals are submitted as a bundle")
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
        return draft

    def _check_addressed(self, lpdu: JsonObject) -> None:
        if lpdu["room_id"] != self.room_id:
            raise Rejected(Reason.UNKNOWN_ROOM, "The event is for another room")
        if lpdu.get("hub_server") != self._identity.name:
            raise Rejected(Reason.WRONG_HUB, "hub_server names another server")

    def _handshake(self, submission: Handshake, now: int) -> Accepted:
        self._require_encryption()
        if not submission.bundle.is_commit:
            raise Rejected(Reason.INVALID_PROPOSAL, "This room takes commits only; propose by committing")
        transition = self._group.stage(submission.bundle, submission.initial_group, self._state, now=now)
        staged, committer = transition.commit.staged, transition.commit.committer
        self._check_provider(committer.user_id, submission.provider)
        if submission.user_id not in {None, committer.user_id}:
            raise Rejected(
                Reason.FORBIDDEN, "The commit was made by another user than the one who submits it"
            )
        check_introductions(staged, committer, submission.introduced)
        draft = self._draft()
        draft.epoch = staged.epoch
        self._write_memberships(draft, transition, now)
        self._check_tie(draft, transition)
        draft.write(
            sender=committer.user_id,
            event_type=COMMIT,
            content=self._group.content_of(transition),
            now=now,
            provenance=self._provenance(committer.user_id, submission.bundle.message),
        )
        return self._take_commit(draft, transition, now)

    def _commit_event(self, lpdu: VerifiedLpdu, now: int) -> Accepted:
        """An ``m.mls.commit`` of a Linearized Matrix participant: membership moves by events of its own."""
        self._require_encryption()
        content = lpdu.lpdu.pdu["content"]
        bundle = _bundle_of(content)
        transition = self._group.stage(bundle, initial_group(content), self._state, now=now)
        self._group.check_parent(content)
        committer = transition.commit.committer
        if committer.user_id != lpdu.lpdu.pdu["sender"]:
            raise Rejected(Reason.FORBIDDEN, "The commit was made by another user than the event's sender")
        check_introductions(transition.commit.staged, committer, frozenset())
        if self._changes(transition):
            raise Rejected(
                Reason.FORBIDDEN, "The participant list says something that no event in the room says"
            )
        draft = self._draft()
        draft.epoch = transition.commit.staged.epoch
        self._check_tie(draft, transition)
        draft.complete(lpdu)
        return self._take_commit(draft, transition, now)

    def _application(self, submission: ApplicationMessage, now: int) -> Accepted:
        try:
            sender = user_id_from_uri(submission.sending_uri)
        except IdentifierError as error:
            raise Rejected(Reason.MALFORMED, str(error)) from error
        self._check_provider(sender, submission.provider)
        content: JsonObject = {
            "algorithm": self._require_encryption(),
            "ciphertext": encode_base64(submission.message),
            "commit_event_id": self._group.last_commit_id,
        }
        self._check_ciphertext(content)
        draft = self._draft()
        draft.write(
            sender=sender,
            event_type=ENCRYPTED,
            content=content,
            now=now,
            provenance=self._provenance(sender, submission.message),
        )
        return self._take(draft, now)

    # --- parts ---

    def _draft(self) -> Draft:
        return Draft(
            room_id=self.room_id,
            version=self.version,
            identity=self._identity,
            state=self._state,
            head=self._head,
            epoch=self.epoch,
        )

    def _changes(self, transition: Transition) -> list[StateChange]:
        """The state events that a commit's new participant list implies."""
        staged, committer = transition.commit.staged, transition.commit.committer.user_id
        if not self.version.vouched_events and not lists_participants(transition.group):
            # Linearized Matrix knows no participant list; only MIMI providers need one.
            return []
        before = participants_of(transition.group.app_data())
        role = role_of_power_level(user_level(self._state, committer)).index
        if transition.initial is not None and before != {committer: role}:
            # Nothing in the log would say where any other role came from.
            raise Rejected(
                Reason.INVALID_COMMIT,
                f"A new group's only participant is its creator, in the role of their power level, {role}",
            )
        return membership_changes(
            before=before,
            after=participants_of(staged.app_data),
            present=users_after(transition.group, staged),
            committer=committer,
            state=self._state,
        )

    def _write_memberships(self, draft: Draft, transition: Transition, now: int) -> None:
        """Write the membership entries that a commit's new participant list implies."""
        for change in self._changes(transition):
            draft.write(
                sender=change.sender,
                event_type=change.type,
                content=change.content,
                now=now,
                state_key=change.state_key,
                provenance=self._provenance(change.sender, transition.bundle.message),
            )

    def _check_tie(self, draft: Draft, transition: Transition) -> None:
        """Room and group must agree after the entries of the draft and the commit."""
        staged = transition.commit.staged
        check_leaf_changes(transition.group, staged, transition.commit.committer, draft.state)
        if not staged.is_external:
            check_agreement(transition.group, staged, draft.state)

    def _check_ciphertext(self, content: JsonObject) -> None:
        self._group.check_ciphertext(content, algorithm=self._require_encryption())

    def _require_encryption(self) -> str:
        """The room's algorithm."""
        algorithm = encryption_algorithm(self._state)
        if algorithm is None:
            raise Rejected(Reason.FORBIDDEN, "The room is not encrypted")
        return algorithm

    def _check_provider(self, user_id: str, provider: str) -> None:
        """The provider that submits must be the one the user belongs to; we speak for our bridges'
        domains.
        """
        domain = _domain_of(user_id)
        ours = provider == self._identity.name and domain in self._vouched
        if domain != provider and not ours:
            raise Rejected(Reason.FORBIDDEN, f"{provider} does not speak for users of {domain}")

    def _provenance(self, user_id: str, message: bytes) -> JsonObject | None:
        domain = user_domain(user_id)
        if domain == self._identity.name:
            return None
        digest = encode_base64url(hashlib.sha256(message).digest())
        return {"protocol": "mimi", "provider": domain, "mls": digest}

    def _take_commit(self, draft: Draft, transition: Transition, now: int) -> Accepted:
        update, welcomes = self._group.merge(transition, draft.entries[-1].event.event_id)
        return self._take(draft, now, group=update, welcomes=welcomes)

    def _take(
        self,
        draft: Draft,
        now: int,
        *,
        group: GroupUpdate | None = None,
        welcomes: tuple[WelcomeEffect, ...] = (),
    ) -> Accepted:
        self._state.update(draft.changes)
        last = draft.entries[-1]
        self._head = (last.seq, last.event.event_id)
        return Accepted(entries=tuple(draft.entries), accepted_at=now, group=group, welcomes=welcomes)


def _bundle_of(content: JsonObject) -> HandshakeBundle:
    """The commit and GroupInfo in the content of an ``m.mls.commit``."""
    try:
        public_commit(content)
    except MimiDecodeError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
    return HandshakeBundle(
        message=binary(content, "message"),
        welcome=None,
        group_info=GroupInfoOption(full=binary(content, "public_group_state"), partial=None),
        ratchet_tree=None,
    )


def _domain_of(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
