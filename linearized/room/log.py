"""The log of a room at its head: what the next entries are built on, and how a draft of them is taken."""

from __future__ import annotations

from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import PROPOSAL, encryption_algorithm
from linearized.room.draft import Draft
from linearized.room.grouping import RoomGroup, Transition
from linearized.room.parents import Parents
from linearized.room.policy_events import check_event
from linearized.room.proposals import MAX_PENDING_OF_USER, content_of
from linearized.room.standing import RoomState, joined_users
from linearized.room.submissions import Accepted, GroupUpdate, Reason, Rejected, WelcomeEffect


class RoomLog:
    """See the module.

    Args:
        identity: the hub's name and signing key.
        state: the room's, which ``take`` moves on.
        head: sequence number and event ID of the last entry, ``(0, None)`` for a room about to be created.
        group: the room's MLS group, which moves with it.
        parents: of rooms that others depend on.
    """

    def __init__(
        self,
        *,
        room_id: str,
        version: RoomVersion,
        identity: ServerIdentity,
        state: RoomState,
        head: tuple[int, str | None],
        group: RoomGroup,
        parents: Parents,
    ) -> None:
        self.room_id = room_id
        self.version = version
        self.identity = identity
        self.state = state
        self.head = head
        self.group = group
        self.parents = parents

    def draft(self) -> Draft:
        """A draft of what comes next; nothing changes until it is taken over."""
        return Draft(
            room_id=self.room_id,
            version=self.version,
            identity=self.identity,
            state=self.state,
            head=self.head,
            epoch=self.group.epoch,
            parents=self.parents,
        )

    def require_encryption(self) -> str:
        """The room's algorithm, for what is about to be encrypted or committed.

        Raises:
            Rejected: ``FORBIDDEN``, the room is not encrypted, or its group was deleted.
        """
        algorithm = encryption_algorithm(self.state)
        if algorithm is None:
            raise Rejected(Reason.FORBIDDEN, "The room is not encrypted")
        self.group.require_alive()
        self._require_lasting()
        return algorithm

    def _require_lasting(self) -> None:
        """Take nothing once a temporary room is over.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        # "A temporary room is no longer joinable once the last participant exits"; "If `persistent_room` is
        # false, the room will be automatically [inaccessible] when the corresponding MLS group is destroyed
        # (when there are no clients in the group)" (Room policy). Whoever is out of the room is out of its
        # group, too: with the next commit, which nobody is left to make.
        policy = self.group.policy
        if policy is None or policy.base.persistent_room:
            return
        if self.group.is_deleted or not joined_users(self.state):
            raise Rejected(Reason.FORBIDDEN, "The room was temporary, and its last participant has left")

    def check_policy(self, draft: Draft) -> None:
        """What the authorization rules allow, a room's policy may still not.

        Raises:
            Rejected: as ``check_event``.
        """
        policy = self.group.policy
        if policy is not None:
            for entry in draft.entries:
                if not _is_departure(entry.event):
                    self._require_lasting()
                check_event(policy, entry.event, self.state)

    def take(
        self,
        draft: Draft,
        now: int,
        *,
        stands: int = -1,
        group: GroupUpdate | None = None,
        welcomes: tuple[WelcomeEffect, ...] = (),
    ) -> Accepted:
        """Take a draft over.

        Args:
            now: the hub's acceptance time, milliseconds since the Unix epoch.
            stands: which of its entries stands for the submission.
            group, welcomes: what a commit among them did.
        """
        self.state.take(draft.changes)
        last = draft.entries[-1]
        self.head = (last.seq, last.event.event_id)
        if draft.message is not None:
            self.group.replays.note(draft.message)
        return Accepted(
            entries=tuple(draft.entries),
            entry=draft.entries[stands],
            accepted_at=now,
            group=group,
            welcomes=welcomes,
        )

    def take_event(self, draft: Draft, now: int, *, stands: int = -1) -> Accepted:
        """Take a draft over in which somebody may have left."""
        entry = draft.entries[stands]
        if any(_is_departure(each.event) for each in draft.entries):
            self._propose_removals(draft, now)
        return self.take(draft, now, stands=draft.entries.index(entry))

    def take_commit(self, draft: Draft, transition: Transition, now: int) -> Accepted:
        """Take a draft over that ends with a commit; the group moves with it."""
        stands = len(draft.entries) - 1
        update, welcomes = self.group.merge(transition, draft.entries[-1].event.event_id)
        if transition.commit.staged.is_external:
            # "An external commit will invalidate certain pending proposals … The hub would then be expected
            # to regenerate any relevant, comparable proposals in the new epoch" (MIMI protocol, Fanout
            # Messages).
            self._propose_removals(draft, now)
        return self.take(draft, now, stands=stands, group=update, welcomes=welcomes)

    def _propose_removals(self, draft: Draft, now: int) -> None:
        """Add the hub's own proposals to remove who is not in the room; nobody can object to them."""
        missing = self.group.missing_removals(draft.state)
        for start in range(0, len(missing), MAX_PENDING_OF_USER):
            messages = missing[start : start + MAX_PENDING_OF_USER]
            draft.write(
                sender=hub_user(self.identity.name),
                event_type=PROPOSAL,
                content=content_of(messages),
                now=now,
            )
            self.group.keep(messages, now=now)


def _is_departure(event: Event) -> bool:
    return event.type == "m.room.member" and event.content.get("membership") in ("leave", "ban")
