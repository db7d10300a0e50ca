"""A draft: the entries a submission would append, over a room that has not changed yet.

The room hands out a draft, rules add events to it one after another (each authorised against the state the
earlier ones produced), and only a draft that went through whole is taken over. A refused submission leaves
nothing to undo.
"""

from __future__ import annotations

from linearized.exceptions import AuthorizationError, EventFormatError, InvalidInput
from linearized.protocol.authorization import authorize, select_auth_events
from linearized.protocol.build import build_event, complete_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import MAX_EVENT_BYTES, Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import RoomVersion
from linearized.room.admission import admit
from linearized.room.parents import Parents, check_dependence
from linearized.room.refusals import outcome_of
from linearized.room.replays import Fingerprint
from linearized.room.standing import DraftState, RoomState
from linearized.room.submissions import NewEntry, Reason, Rejected


class Draft:
    """Entries in the making.

    Args:
        version, identity: the room's version and the hub that signs.
        state: the room's state before the first entry; not written to.
        head: sequence number and event ID of the last entry (``(0, None)`` for an empty log).
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
        epoch: int | None,
        parents: Parents,
    ) -> None:
        self._room_id = room_id
        self._version = version
        self._identity = identity
        self.changes: dict[tuple[str, str], Event] = {}
        self._before = state
        self.state: StateMap = state  # until the draft changes it: most drafts are one message
        self._seq, self._head = head
        self.entries: list[NewEntry] = []
        self.epoch = epoch
        self.message: Fingerprint | None = None  # of the application message in it
        self._parents = parents

    def write(
        self,
        *,
        sender: str,
        event_type: str,
        content: JsonObject,
        now: int,
        state_key: str | None = None,
        provenance: JsonObject | None = None,
    ) -> Event:
        """Build, authorise and add an event that this hub signs alone.

        Raises:
            Rejected: the event is malformed, too large or not allowed.
        """
        if user_domain(sender) == self._identity.name and provenance is not None:
            raise Rejected(Reason.FORBIDDEN, "A user of the hub itself needs no provenance")
        try:
            event = build_event(
                identity=self._identity,
                version=self._version,
                room_id=self._room_id,
                type=event_type,
                sender=sender,
                content=content,
                origin_server_ts=now,
                auth_events=self._select(event_type, state_key, sender, content),
                prev_events=self._previous(),
                state_key=state_key,
                provenance=provenance,
            )
        except EventFormatError as error:
            raise Rejected(_format_reason(error), str(error), outcome=outcome_of(error)) from error
        self._add(event)
        return event

    def complete(self, verified: VerifiedLpdu) -> Event:
        """Complete an LPDU into an event, authorise and add it.

        Raises:
            Rejected: as for ``write``.
        """
        lpdu = verified.lpdu.pdu
        try:
            event = complete_lpdu(
                verified,
                identity=self._identity,
                version=self._version,
                auth_events=self._select(
                    lpdu["type"], lpdu.get("state_key"), lpdu["sender"], lpdu["content"]
                ),
                prev_events=self._previous(),
            )
        except EventFormatError as error:
            raise Rejected(_format_reason(error), str(error), outcome=outcome_of(error)) from error
        self._add(event)
        return event

    def _select(self, event_type: str, state_key: str | None, sender: str, content: JsonObject) -> list[str]:
        return select_auth_events(
            type=event_type,
            state_key=state_key,
            sender=sender,
            content=content,
            state=self.state,
            version=self._version,
        )

    def _previous(self) -> list[str]:
        return [] if self._head is None else [self._head]

    def _add(self, event: Event) -> None:
        try:
            authorize(event, self.state, version=self._version, first_commit_seen=self.epoch is not None)
        except AuthorizationError as error:
            raise Rejected(Reason.FORBIDDEN, str(error)) from error
        admit(event, self.state)
        check_dependence(event, self.state, self._parents)
        self._seq += 1
        self._head = event.event_id
        if event.state_key is not None:
            self.changes[event.type, event.state_key] = event
            self.state = DraftState(self.changes, self._before)
        self.entries.append(NewEntry(seq=self._seq, event=event, epoch=self.epoch))


def _format_reason(error: InvalidInput) -> Reason:
    return Reason.TOO_LARGE if str(MAX_EVENT_BYTES) in str(error) else Reason.MALFORMED
