"""A room as a Linearized Matrix participant sees it: it takes the hub's events, and checks the hub while
doing so.

"Participant servers SHOULD also perform the following checks to validate that the hub server is acting in a
compliant manner" (Receiving Events/PDUs): we do. An event the rules forbid is rejected; one that they allow
but that an encrypted room does not take is soft-failed: it stands in the log, and local clients are not shown
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from linearized.exceptions import AuthorizationError
from linearized.protocol.authorization import authorize
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hub_rules import is_takeover
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import HUB, StateMap, hub_of
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import COMMIT, PROPOSAL
from linearized.room.observing import check_group_event
from linearized.room.parts import PartWalk
from linearized.room.proposals import messages_of
from linearized.room.seen_handshakes import said_by_seen_commit, said_by_seen_proposals
from linearized.room.seen_roles import NOTHING_SEEN, SeenGroup, check_seen, seen_group
from linearized.room.submissions import NewEntry, Reason, Rejected
from linearized.room.vouching import VouchWalk


class Gap(Exception):  # noqa: N818 - a hole in what we were sent, to be filled from the hub
    """An event does not follow the last one we have.

    Attributes:
        missing: the event ID to backfill from.
    """

    def __init__(self, missing: str) -> None:
        super().__init__(f"events up to {missing} are missing")
        self.missing = missing


class Replica:
    """State and head of a room ordered elsewhere.

    Args:
        head: sequence number (ours) and event ID of the last entry.
        grouped: whether the room's first commit has been seen.
        parts: the contents of the commit's parts that the log ends with, if it does.
        agreed: the server that our operator agreed takes the room over from its present hub, if any.
        seen: what the last commit showed of the room's group.
        pending: gives the proposals in the log since that commit, MLSMessages, each with the sender of its
            entry.
        vouched: the walk along what the log ends with; by default nothing there is waited for.

    Attributes:
        breaches: event IDs of what the hub took though its sender's role does not allow it.
    """

    def __init__(
        self,
        *,
        version: RoomVersion,
        hub: str,
        state: Mapping[tuple[str, str], Event],
        head: tuple[int, str | None],
        grouped: bool,
        parts: Iterable[JsonObject] = (),
        agreed: str | None = None,
        seen: SeenGroup = NOTHING_SEEN,
        pending: Callable[[], Sequence[tuple[str, bytes]]] = tuple,
        vouched: VouchWalk | None = None,
    ) -> None:
        self._version = version
        self._hub = hub
        self._state = dict(state)
        self._head = head
        self._grouped = grouped
        self._parts = PartWalk(parts)
        self._agreed = agreed
        self._seen = seen
        self._pending = pending
        self._proposed: list[tuple[str, bytes]] = []
        self._vouched = vouched or VouchWalk()
        self.breaches: list[str] = []

    @property
    def hub(self) -> str:
        """Who orders the room after the events taken so far."""
        return self._hub

    @property
    def state(self) -> StateMap:
        """Current state."""
        return self._state

    @property
    def seen(self) -> SeenGroup:
        """What was seen of the room's group after the events taken so far."""
        return self._seen

    @property
    def waiting(self) -> int:
        """How many of the last events belong to a handshake that has not come yet: they are nothing without
        it.
        """
        return self._vouched.waiting

    def receive(self, event: Event) -> NewEntry:
        """Take an event whose signatures and hashes have been verified.

        Returns:
            The entry to store.

        Raises:
            Gap: events before it are missing; nothing changed.
            FalselyVouched: the hub vouches for it, or for events before it, and no handshake bears that out.
                Nothing more can be taken then.
            Rejected: the hub should not have accepted it; nothing changed.
        """
        seq, head_id = self._head
        # "Events which specify a hub_server are expected to have exactly 1 entry in this array"
        # (prev_events).
        if len(event.prev_events) != 1:
            raise Rejected(Reason.FORBIDDEN, "An event of a linear room has one predecessor")
        if head_id is not None and event.prev_events[0] != head_id:
            raise Gap(event.prev_events[0])
        # The rules let anybody in charge write a takeover. Without our operator's word it is another history.
        taken = self._version.hub_transfers and is_takeover(event)
        if taken and user_domain(event.sender) != self._agreed:
            taker = user_domain(event.sender)
            raise Rejected(
                Reason.FORBIDDEN,
                f"{taker} takes the room over, and this server's operator has not agreed to that",
            )
        # Only of the next event is it known who has to have ordered it.
        ordered_by = event.hub_server or self._hub
        if ordered_by != self._hub:
            raise Rejected(Reason.WRONG_HUB, f"The event was ordered by {ordered_by}")
        try:
            authorize(event, self._state, version=self._version, first_commit_seen=self._grouped)
        except AuthorizationError as error:
            raise Rejected(Reason.FORBIDDEN, str(error)) from error
        content, soft_failed = self._hold_to_group(event)
        self._hold_to_handshakes(event, content)
        if event.type == COMMIT and soft_failed is None:
            self._seen = seen_group(content)
        self._grouped = self._grouped or event.type == COMMIT
        if event.state_key is not None:
            self._state[event.type, event.state_key] = event
            if (event.type, event.state_key) == HUB:
                self._hub = hub_of(self._state)
                self._agreed = None  # that was about the hub before
        self._head = (seq + 1, event.event_id)
        return NewEntry(seq=seq + 1, event=event, epoch=None, content=content, soft_failed=soft_failed)

    def _hold_to_group(self, event: Event) -> tuple[JsonObject, str | None]:
        """An event's content, with that of its parts, and why it is soft-failed, None if it is not."""
        content = event.content
        try:
            content = self._parts.take(event.type, content)
            check_group_event(event, content, self._state)
        except Rejected as error:
            return content, str(error)
        try:
            check_seen(self._seen.policy, event, self._state)
        except Rejected as error:
            self.breaches.append(event.event_id)
            return content, str(error)
        return content, None

    def _hold_to_handshakes(self, event: Event, content: JsonObject) -> None:
        """Hold what is vouched for to the handshakes, and go along with those."""
        before, state = self._seen.app_data, self._state
        if event.type == COMMIT:

            def pending() -> Sequence[tuple[str, bytes]]:
                return [*self._pending(), *self._proposed]

            self._vouched.commit(
                event,
                content,
                lambda: said_by_seen_commit(content, sender=event.sender, before=before, pending=pending),
            )
            self._pending, self._proposed = tuple, []
        elif event.type == PROPOSAL:
            self._vouched.proposals(
                event,
                lambda: said_by_seen_proposals(
                    event.content, sender=event.sender, before=before, state=state
                ),
            )
            with suppress(Rejected):  # clients cannot read it either, and no commit can name it
                self._proposed += [(event.sender, message) for message in messages_of(event.content)]
        else:
            self._vouched.event(event, state)
