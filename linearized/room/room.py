"""One room as its hub sees it: ``Room.submit(submission, now=...)`` gives ``Accepted`` or raises
``Rejected``.

Nothing here does I/O, reads a clock or draws a random number. A submission becomes a draft over the unchanged
room; when the draft is complete the room takes it over, and the caller stores what ``Accepted`` holds in one
transaction. If storing fails, the caller throws the room away and restores it from the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from linearized.exceptions import (
    EventFormatError,
    HashMismatch,
    IdentifierError,
    InvalidInput,
    SignatureError,
)
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle, welcome_message
from linearized.mls import Mls, MlsError, PublicGroup
from linearized.protocol.base64 import decode_base64, encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, check_lpdu
from linearized.protocol.identifiers import (
    group_id,
    user_domain,
    user_id_from_uri,
)
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap, hub_of, membership
from linearized.protocol.verify import verify_lpdu
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import ALGORITHM, COMMIT, ENCRYPTED, PROPOSAL, encryption_algorithm
from linearized.room.commits import VerifiedCommit, mls_rejection, verify_commit
from linearized.room.draft import Draft
from linearized.room.participation import membership_changes
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
    check_leaf_changes,
    identify,
    participants_of,
)

# Where the first commit keeps the group it starts from, so that anybody can follow the group from the log
# alone.
INITIAL_GROUP: Final = "dev.linearized.initial_group_state"


class Room:
    """The state machine. See ``submit``.

    Args:
        identity: the hub's name and signing key.
        vouched_domains: domains without a Linearized Matrix server of their own whose users this hub may
            vouch for (its bridges'), in addition to MIMI providers, which are authenticated per submission.
        mls: the MLS implementation.
        head: sequence number and event ID of the last entry, ``(0, None)`` for a room about to be created.
        last_commit_id: event ID of the latest ``m.mls.commit``.
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
    ) -> None:
        self.room_id = room_id
        self.version = version
        self._identity = identity
        self._mls = mls
        self._vouched = vouched_domains
        self._state: dict[tuple[str, str], Event] = dict(state or {})
        self._head = head
        self._group = group
        self._last_commit_id = last_commit_id

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
        return self._group.epoch if self._group is not None else None

    @property
    def last_commit_id(self) -> str | None:
        """Event ID of the latest commit."""
        return self._last_commit_id

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
        domain = _domain_of(submission.sender)
        if domain != self._identity.name and (domain not in self._vouched or submission.provenance is None):
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
        if submission.lpdu.get("type") == COMMIT:
            self._check_lpdu(submission)
            return self._commit_event(submission.lpdu, now)
        return self._take(self._draft_lpdu(submission), now)

    def _draft_lpdu(self, submission: LinearizedPdu) -> Draft:
        self._check_lpdu(submission)
        lpdu = submission.lpdu
        if lpdu["type"] in {COMMIT, PROPOSAL}:
            raise Rejected(Reason.FORBIDDEN, "Proposals are submitted as a bundle")
        if lpdu["type"] == ENCRYPTED:
            self._check_ciphertext(lpdu["content"])
        draft = self._draft()
        draft.complete(lpdu)
        return draft

    def _check_lpdu(self, submission: LinearizedPdu) -> None:
        lpdu = submission.lpdu
        try:
            check_lpdu(lpdu, self.version)
            verify_lpdu(lpdu, version=self.version, origin=submission.origin, keys=submission.keys)
        except SignatureError as error:
            raise Rejected(Reason.BAD_SIGNATURE, str(error)) from error
        except HashMismatch as error:
            raise Rejected(Reason.BAD_SIGNATURE, str(error)) from error
        except EventFormatError as error:
            raise Rejected(Reason.MALFORMED, str(error)) from error
        if lpdu["room_id"] != self.room_id:
            raise Rejected(Reason.UNKNOWN_ROOM, "The event is for another room")
        if lpdu.get("hub_server") != self._identity.name:
            raise Rejected(Reason.WRONG_HUB, "hub_server names another server")

    def _handshake(self, submission: Handshake, now: int) -> Accepted:
        self._require_encryption()
        if not submission.bundle.is_commit:
            return self._proposals(submission, now)
        group, initial = self._group, None
        if group is None:
            group = self._observe(submission.initial_group)
            initial = submission.initial_group
        commit = verify_commit(group, submission.bundle)
        self._check_provider(commit.committer.user_id, submission.provider)
        draft = self._draft()
        draft.epoch = commit.staged.epoch
        self._write_memberships(draft, group, commit, submission, now, initial=initial is not None)
        draft.write(
            sender=commit.committer.user_id,
            event_type=COMMIT,
            content=self._commit_content(submission.bundle, commit, initial),
            now=now,
            provenance=self._provenance(commit.committer.user_id, submission.bundle.message),
        )
        return self._take_commit(draft, group, commit, submission.bundle, now)

    def _commit_event(self, lpdu: JsonObject, now: int) -> Accepted:
        """An ``m.mls.commit`` of a Linearized Matrix participant: membership moves by its own events, not
        by this.
        """
        self._require_encryption()
        content = lpdu["content"]
        group = self._group
        if group is None:
            group = self._observe(_initial_group(content))
        bundle = HandshakeBundle(
            message=_binary(content, "message"),
            welcome=None,
            group_info=GroupInfoOption(full=_binary(content, "public_group_state"), partial=None),
            ratchet_tree=None,
        )
        commit = verify_commit(group, bundle)
        if commit.committer.user_id != lpdu["sender"]:
            raise Rejected(Reason.FORBIDDEN, "The commit was made by another user than the event's sender")
        draft = self._draft()
        draft.epoch = commit.staged.epoch
        check_leaf_changes(group, commit.staged, commit.committer, draft.state)
        if not commit.staged.is_external:
            check_agreement(group, commit.staged, draft.state)
        draft.complete(lpdu)
        return self._take_commit(draft, group, commit, bundle, now)

    def _proposals(self, submission: Handshake, now: int) -> Accepted:
        if self._group is None:
            raise Rejected(Reason.INVALID_PROPOSAL, "The room has no MLS group yet")
        raise Rejected(Reason.INVALID_PROPOSAL, "This room takes commits only; propose by committing")

    def _application(self, submission: ApplicationMessage, now: int) -> Accepted:
        try:
            sender = user_id_from_uri(submission.sending_uri)
        except IdentifierError as error:
            raise Rejected(Reason.MALFORMED, str(error)) from error
        self._check_provider(sender, submission.provider)
        content: JsonObject = {
            "algorithm": ALGORITHM,
            "ciphertext": encode_base64(submission.message),
            "commit_event_id": self._last_commit_id,
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

    def _write_memberships(
        self,
        draft: Draft,
        group: PublicGroup,
        commit: VerifiedCommit,
        submission: Handshake,
        now: int,
        *,
        initial: bool,
    ) -> None:
        """Write the membership entries the commit implies and check that room and group agree afterwards."""
        committer = commit.committer.user_id
        before = participants_of(group.app_data())
        if initial and set(before) != {committer}:
            raise Rejected(Reason.INVALID_COMMIT, "A new group's only participant is its creator")
        changes = membership_changes(
            before=before,
            after=participants_of(commit.staged.app_data),
            committer=committer,
            state=draft.state,
        )
        for change in changes:
            draft.write(
                sender=change.sender,
                event_type=change.type,
                content=change.content,
                now=now,
                state_key=change.state_key,
                provenance=self._provenance(change.sender, submission.bundle.message),
            )
        check_leaf_changes(group, commit.staged, commit.committer, draft.state)
        if not commit.staged.is_external:
            check_agreement(group, commit.staged, draft.state)

    def _observe(self, initial_group: tuple[bytes, bytes] | None) -> PublicGroup:
        if initial_group is None:
            raise Rejected(Reason.INVALID_COMMIT, "The first commit must bring the group it starts from")
        group_info, ratchet_tree = initial_group
        try:
            group = self._mls.observe(group_info=group_info, ratchet_tree=ratchet_tree)
        except MlsError as error:
            raise mls_rejection(error) from error
        # Both names are in use for a room's group: MIMI's group URI and Linearized Matrix' "both identified
        # by the room ID".
        if group.group_id not in {group_id(self.room_id), self.room_id.encode()}:
            raise Rejected(Reason.INVALID_COMMIT, "The group's ID is not this room's")
        members = group.members()
        if group.epoch != 0 or len(members) != 1:
            raise Rejected(Reason.INVALID_COMMIT, "A new group starts in epoch 0 with its creator alone")
        creator = identify(members[0]).user_id
        if membership(self._state, creator) != "join":
            raise Rejected(Reason.FORBIDDEN, f"{creator} is not joined to the room")
        return group

    def _check_ciphertext(self, content: JsonObject) -> None:
        """Hold a message to the current epoch: "compare-and-append", an entry for a past epoch is refused."""
        self._require_encryption()
        if self._group is None:
            raise Rejected(Reason.FORBIDDEN, "The room has no MLS group yet")
        if content.get("algorithm") != ALGORITHM:
            raise Rejected(Reason.MALFORMED, f"The room's algorithm is {ALGORITHM}")
        try:
            info = self._mls.inspect_message(_binary(content, "ciphertext"))
        except MlsError as error:
            raise mls_rejection(error) from error
        if info.wire_format != "private_message" or info.content_type != "application":
            raise Rejected(Reason.MALFORMED, "The ciphertext is not an application PrivateMessage")
        if info.group_id != self._group.group_id:
            raise Rejected(Reason.MALFORMED, "The ciphertext is for another group")
        if info.epoch != self._group.epoch:
            raise Rejected(
                Reason.WRONG_EPOCH,
                f"The message is for epoch {info.epoch}, the group is in {self._group.epoch}",
                current_epoch=self._group.epoch,
            )

    def _require_encryption(self) -> None:
        if encryption_algorithm(self._state) is None:
            raise Rejected(Reason.FORBIDDEN, "The room is not encrypted")

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

    def _commit_content(
        self, bundle: HandshakeBundle, commit: VerifiedCommit, initial: tuple[bytes, bytes] | None
    ) -> JsonObject:
        content: JsonObject = {
            "message": encode_base64(bundle.message),
            "public_group_state": encode_base64(commit.group_info),
        }
        if self._last_commit_id is not None:
            content["prev_commit_event_id"] = self._last_commit_id
        if initial is not None:
            content[INITIAL_GROUP] = {
                "group_info": encode_base64(initial[0]),
                "ratchet_tree": encode_base64(initial[1]),
            }
        return content

    def _take_commit(
        self, draft: Draft, group: PublicGroup, commit: VerifiedCommit, bundle: HandshakeBundle, now: int
    ) -> Accepted:
        try:
            references = tuple(self._mls.welcome_references(bundle.welcome)) if bundle.welcome else ()
            group.merge(commit.staged)
        except MlsError as error:
            raise mls_rejection(error) from error
        self._group = group
        commit_id = draft.entries[-1].event.event_id
        self._last_commit_id = commit_id
        tree = group.export_ratchet_tree()
        update = GroupUpdate(
            epoch=group.epoch, snapshot=group.save(), group_info=commit.group_info, ratchet_tree=tree
        )
        welcome: tuple[WelcomeEffect, ...] = ()
        if bundle.welcome is not None:
            welcome = (
                WelcomeEffect(
                    welcome=welcome_message(bundle.welcome),
                    ratchet_tree=tree,
                    references=references,
                    commit_event_id=commit_id,
                ),
            )
        return self._take(draft, now, group=update, welcomes=welcome)

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


def _domain_of(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error


def _binary(content: JsonObject, key: str) -> bytes:
    value = content.get(key)
    if not isinstance(value, str):
        raise Rejected(Reason.MALFORMED, f"content.{key} is missing")
    try:
        return decode_base64(value)
    except (InvalidInput, ValueError) as error:
        raise Rejected(Reason.MALFORMED, f"content.{key} is not base64") from error


def _initial_group(content: JsonObject) -> tuple[bytes, bytes] | None:
    initial = content.get(INITIAL_GROUP)
    if not isinstance(initial, dict):
        return None
    return _binary(initial, "group_info"), _binary(initial, "ratchet_tree")
