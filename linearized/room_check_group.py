"""The MLS half of checking a log: the public group, derived again from the log's own commits."""

from __future__ import annotations

from linearized.exceptions import InvalidInput
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle
from linearized.mls import Mls, MlsError, PublicGroup
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import group_id
from linearized.protocol.state import StateMap, hub_of
from linearized.room.admission import COMMIT, COMMIT_PART, ENCRYPTED, PROPOSAL
from linearized.room.commits import verify_commit
from linearized.room.departures import check_departures
from linearized.room.franks import check_agent_of_log
from linearized.room.grouping import GROUP_DELETED
from linearized.room.hub_senders import check_new_senders
from linearized.room.parts import INITIAL_GROUP, PartWalk
from linearized.room.proposals import messages_of
from linearized.room.pseudonymity import check_leaves
from linearized.room.roster import Roster
from linearized.room.tie import check_agreement, check_leaf_changes
from linearized.room.vouching import VouchWalk, said_by_commit, said_by_proposals
from linearized.room_check_policy import PolicyWalk
from linearized.store.base import GroupRow


class GroupWalk:
    """Follows a log's commits from the initial group state in the first of them."""

    def __init__(self, room_id: str, mls: Mls) -> None:
        self._room_id = room_id
        self._group_ids = {group_id(room_id), room_id.encode()}
        self._mls = mls
        self._group: PublicGroup | None = None
        self._roster: Roster | None = None
        self._last_commit: str | None = None
        self._group_info = b""
        self._parts = PartWalk()
        self._policy = PolicyWalk()
        self._vouched = VouchWalk()
        # A commit's membership entries and its parts stand before it and carry the epoch it leads to.
        self._awaiting_commit = False

    @property
    def epoch(self) -> int | None:
        """Epoch after the entries so far; None before the first commit."""
        return self._group.epoch if self._group is not None else None

    @property
    def is_open(self) -> bool:
        """Whether entries wait for the handshake that they name."""
        return self._vouched.waiting > 0

    @property
    def leaves(self) -> int:
        """Clients in the group."""
        return len(self._roster.clients) if self._roster is not None else 0

    @property
    def ratchet_tree(self) -> bytes | None:
        """The tree of the current epoch, TLS-encoded."""
        return self._group.export_ratchet_tree() if self._group is not None else None

    def row(self) -> GroupRow | None:
        """The group as a hub keeps it; None before the first commit."""
        if self._group is None or self._last_commit is None:
            return None
        return GroupRow(
            room_id=self._room_id,
            epoch=self._group.epoch,
            snapshot=self._group.save(),
            group_info=self._group_info,
            ratchet_tree=self._group.export_ratchet_tree(),
            commit_event_id=self._last_commit,
        )

    def step(self, event: Event, stored_epoch: int | None, state: StateMap) -> None:
        """Take the next entry.

        Args:
            stored_epoch: the epoch the store says holds after it.
            state: the room's state before it.

        Raises:
            InvalidInput: a commit does not follow from the group, or an epoch is not what the log says.
        """
        try:
            content = self._parts.take(event.type, event.content)
            if event.type == COMMIT:
                self._commit(event, content, state)
            elif event.type == PROPOSAL:
                self._propose(event, state)
            else:
                self._vouched.event(event, state)
            if event.type == ENCRYPTED:
                self._ciphertext(event)
        except MlsError as error:
            raise InvalidInput(f"MLS: {error}") from error
        self._compare(event, stored_epoch)
        if self._awaiting_commit:
            self._policy.leading(event, state)
        elif self._group is not None and self._roster is not None:
            self._policy.event(event, state, group=self._group, roster=self._roster)

    def _commit(self, event: Event, content: JsonObject, state: StateMap) -> None:
        # "SHOULD be specified when a parent commit exists": a participant may leave it out.
        if content.get("prev_commit_event_id") not in (None, self._last_commit):
            raise InvalidInput("prev_commit_event_id is not the commit before")
        group = self._group or self._initial(content)
        bundle = HandshakeBundle(
            message=_binary(content.get("message")),
            welcome=None,
            group_info=GroupInfoOption(full=_binary(content.get("public_group_state")), partial=None),
            ratchet_tree=None,
        )
        commit = verify_commit(group, bundle, now=event.origin_server_ts)
        if commit.committer.user_id != event.sender:
            raise InvalidInput(f"the commit was signed by {commit.committer.user_id}")
        hub = hub_of(state)
        check_leaves(commit.staged, state)
        roster = self._roster or Roster(group.members())
        check_leaf_changes(group, commit.staged, commit.committer, state, roster=roster, hub=hub)
        check_departures(group, commit.staged, state, hub=hub)
        check_agent_of_log(commit.staged, hub=hub)
        check_new_senders(group, commit.staged, state)
        present = roster.users_after(commit.staged).keys()
        self._vouched.commit(
            event, content, lambda: said_by_commit(group, commit.staged, present=present, hub=hub)
        )
        if not commit.staged.is_external:
            check_agreement(roster, commit.staged, state)
        self._policy.commit(
            state,
            group=group,
            staged=commit.staged,
            roster=roster,
            founding=self._group is None,
            deletes=content.get(GROUP_DELETED) is True,
        )
        group.merge(commit.staged)
        roster.merge(commit.staged)
        self._group, self._roster = group, roster
        self._last_commit = event.event_id
        self._group_info = commit.group_info

    def _propose(self, event: Event, state: StateMap) -> None:
        if self._group is None:
            raise InvalidInput("a proposal before there is a group")
        known = {proposal.reference for proposal in self._group.proposals()}
        for message in messages_of(event.content):
            self._group.add_proposal(message, now=event.origin_server_ts // 1000)
        new = [proposal for proposal in self._group.proposals() if proposal.reference not in known]
        group = self._group
        self._vouched.proposals(
            event, lambda: said_by_proposals(group, new, sender=event.sender, state=state)
        )
        self._policy.proposed(event, state, new, group=group)

    def _initial(self, content: JsonObject) -> PublicGroup:
        initial = content.get(INITIAL_GROUP)
        if not isinstance(initial, dict):
            raise InvalidInput("the first commit does not carry the group it starts from")
        group = self._mls.observe(
            group_info=_binary(initial.get("group_info")), ratchet_tree=_binary(initial.get("ratchet_tree"))
        )
        if group.group_id not in self._group_ids or group.epoch != 0:
            raise InvalidInput("the initial group is not this room's epoch 0")
        return group

    def _ciphertext(self, event: Event) -> None:
        info = self._mls.inspect_message(_binary(event.content.get("ciphertext")))
        if (
            self._group is None
            or info.wire_format != "private_message"
            or info.group_id != self._group.group_id
        ):
            raise InvalidInput("the ciphertext is not a message of this room's group")
        if info.epoch != self._group.epoch:
            raise InvalidInput(f"a message of epoch {info.epoch} stands in epoch {self._group.epoch}")

    def _compare(self, event: Event, stored: int | None) -> None:
        expected = self.epoch
        if event.type == COMMIT:
            self._awaiting_commit = False
        elif stored != expected and self._leads_to(event, stored):
            self._awaiting_commit = True
            return
        if stored != expected or self._awaiting_commit:
            raise InvalidInput(f"stored with epoch {stored}, the log says {expected}")

    def _leads_to(self, event: Event, stored: int | None) -> bool:
        return (event.is_state or event.type == COMMIT_PART) and stored == (self.epoch or 0) + 1


def _binary(value: object) -> bytes:
    if not isinstance(value, str):
        raise InvalidInput("base64 is missing in the content")
    return decode_base64(value)
