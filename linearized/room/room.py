"""One room as its hub sees it: ``Room.submit(submission, now=...)`` gives ``Accepted`` or raises
``Rejected``.

Nothing here does I/O, reads a clock or draws a random number. A submission becomes a draft over the unchanged
room; when the draft is complete the room takes it over, and the caller stores what ``Accepted`` holds in one
transaction. If storing fails, the caller throws the room away and restores it from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from linearized.mls import Mls, PublicGroup, SignatureKeyPair
from linearized.protocol.events import Event
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap, hub_of
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import COMMIT
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.devices import Published, nothing_published
from linearized.room.grouping import NO_AGENTS, SAVE_EVERY, RoomGroup
from linearized.room.handshakes import Handshakes
from linearized.room.join_codes import check_join_codes
from linearized.room.log import RoomLog
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.plain_events import (
    application_message,
    local_event,
    parent_removals,
    participant_event,
)
from linearized.room.replays import Fingerprint
from linearized.room.speakers import Speakers
from linearized.room.standing import RoomState
from linearized.room.submissions import (
    Accepted,
    Handshake,
    LinearizedPdu,
    LocalEvent,
    ParentChanged,
    Reason,
    Rejected,
    Submission,
)


class Room:
    """The state machine. See ``submit``.

    Attributes:
        log: its log at the head.

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
        group_saved, save_every, sent: see ``RoomGroup``.
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
        sent: Iterable[Fingerprint] = (),
        published: Published = nothing_published,
        authorities: Authorities = nobody_trusted,
        parents: Parents = NO_PARENTS,
    ) -> None:
        self.room_id = room_id
        self.version = version
        group_of_room = RoomGroup(
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
            sent=sent,
        )
        for message, accepted_at in pending:
            group_of_room.keep([message], now=accepted_at)
        self.log = RoomLog(
            room_id=room_id,
            version=version,
            identity=identity,
            state=RoomState(state or {}),
            head=head,
            group=group_of_room,
            parents=parents,
        )
        self._speakers = Speakers(hub=identity.name, vouched=vouched_domains)
        self._handshakes = Handshakes(self.log, self._speakers, published=published, authorities=authorities)

    @property
    def state(self) -> StateMap:
        """Current state, by (type, state_key)."""
        return self.log.state

    @property
    def head_seq(self) -> int:
        """Sequence number of the last entry; 0 in an empty log."""
        return self.log.head[0]

    @property
    def epoch(self) -> int | None:
        """The MLS group's epoch; None before the first commit."""
        return self.log.group.epoch

    @property
    def last_commit_id(self) -> str | None:
        """Event ID of the latest commit."""
        return self.log.group.last_commit_id

    def submit(self, submission: Submission, *, now: int) -> Accepted:
        """Decide a submission.

        Args:
            now: the hub's acceptance time, milliseconds since the Unix epoch.

        Returns:
            The entries, already part of this room, to be stored before anybody is told.

        Raises:
            Rejected: nothing has changed.
        """
        log, speakers = self.log, self._speakers
        if log.state and hub_of(log.state) != log.identity.name:
            raise Rejected(Reason.WRONG_HUB, f"The hub of this room is {hub_of(log.state)}")
        match submission:
            case LocalEvent():
                return log.take_event(local_event(log, speakers, submission, now=now), now)
            case LinearizedPdu() if submission.pdu["type"] == COMMIT:
                return self._handshakes.take_event(submission.lpdu, now=now)
            case LinearizedPdu():
                return log.take_event(participant_event(log, submission), now)
            case Handshake():
                return self._handshakes.take(submission, now=now)
            case ParentChanged():
                return log.take_event(parent_removals(log, now=now), now)
            case _:
                return log.take(application_message(log, speakers, submission, now=now), now)

    def check_join_codes(self, user_id: str, *, creates: bool) -> None:
        """See ``join_codes.check_join_codes``."""
        check_join_codes(self.log.group.policy, user_id, self.log.state, creates=creates)

    def preview(self, submission: LocalEvent | LinearizedPdu, *, now: int) -> Event:
        """The event a submission would become at this point of the log; nothing changes.

        Raises:
            Rejected: it would be refused.
        """
        draft = (
            local_event(self.log, self._speakers, submission, now=now)
            if isinstance(submission, LocalEvent)
            else participant_event(self.log, submission)
        )
        return draft.entries[-1].event
