"""What a hub vouches for because of a handshake, held to that handshake.

An event of a user whose provider signs no events has the hub's signature alone, and ``provenance`` names the
MLSMessage that it follows from. So the message has to be in the log: the event's own content, the proposals
right before it, or the commit right behind it, and it has to say what the event says. In between stand only
the other entries of the same append: the memberships, power levels and join rules that the handshake brings
about, those of the hub's own users among them, and the parts of a large commit.

Not told by a log, and so the hub's word still: that the inviter of who comes by a joining code made one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from linearized.mls import ProposalInfo, PublicGroup, StagedCommit
from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.state import JOIN_RULES, POWER_LEVELS, StateMap, hub_of
from linearized.room.acts import Act, acts_of, departures, state_changes
from linearized.room.admission import COMMIT, COMMIT_PART, ENCRYPTED, MLS_TYPES, PROPOSAL
from linearized.room.content import binary
from linearized.room.join_codes import admission_changes
from linearized.room.leaves import identify
from linearized.room.participation import StateChange
from linearized.room.policy_entries import join_rule_changes
from linearized.room.roles import roles_of
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import lists_participants

FOLLOWING: Final = frozenset({"m.room.member", POWER_LEVELS[0], JOIN_RULES[0]})
"""Types of the state that a handshake brings about."""

_CARRIED: Final = {COMMIT: "message", PROPOSAL: "message", ENCRYPTED: "ciphertext"}


class FalselyVouched(Rejected):
    """The hub vouches for an event that no handshake bears out.

    Attributes:
        event_id: of that event.
    """

    def __init__(self, event: Event, text: str) -> None:
        super().__init__(Reason.FORBIDDEN, f"The hub vouches for {event.event_id}, {text}")
        self.event_id = event.event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a commit says: its acts in their order, the application data after it, the users with a leaf after
    it, who made it, and whether they came by it.
    """

    acts: Sequence[Act]
    app_data: Mapping[int, bytes]
    present: Set[str]
    committer: str
    external: bool


def said_by_commit(group: PublicGroup, staged: StagedCommit, *, present: Set[str], hub: str) -> Said:
    """What a verified commit says.

    Args:
        group: before it.
        present: the users with a leaf after it.
        hub: the room's.
    """
    committer = identify(staged.committer).user_id
    roles = roles_of(group.app_data()), roles_of(staged.app_data)
    listed = lists_participants(group)
    acts = acts_of(group, staged.proposals, committer=committer, hub=hub, roles=roles) if listed else ()
    return Said(
        acts=tuple(acts),
        app_data=staged.app_data,
        present=present,
        committer=committer,
        external=staged.is_external,
    )


def said_by_proposals(
    group: PublicGroup, proposals: Sequence[ProposalInfo], *, sender: str, state: StateMap
) -> list[StateChange]:
    """The state that verified proposals bring about at once: whom they take out has left.

    Args:
        proposals: those of one entry, new in the group.
        sender: of the entry.
        state: the room's before them.
    """
    if not lists_participants(group):
        return []
    hub, roles = hub_of(state), roles_of(group.app_data())
    acts = list(acts_of(group, proposals, committer=sender, hub=hub, roles=(roles, roles)))
    leaving = departures(acts)
    return [] if leaving is None else state_changes(leaving, present=frozenset(), state=state)


class VouchWalk:
    """Goes along a log and holds what is vouched for in it to the handshakes.

    Each entry is given to one of the methods, in order. After a refusal the walk is over.

    Args:
        hides: whether entries may be shown without their content in a state, as to a server that has no users
            in the room.
    """

    def __init__(self, *, hides: Callable[[StateMap], bool] = lambda _: False) -> None:
        self._hides = hides
        # Entries that name a handshake which has not come yet, with what stands between them.
        self._open: list[Event] = []
        self._named: str | None = None
        self._before: StateMap = {}
        # What follows from the proposals before, as far as it has not come, and what those are named.
        # None if that is not known.
        self._behind: deque[StateChange] | None = None
        self._proposed: Event | None = None

    @property
    def waiting(self) -> int:
        """How many entries wait for the handshake that they name."""
        return len(self._open)

    def event(self, event: Event, state: StateMap) -> None:
        """Take an entry that is no handshake, or a part of one.

        Args:
            state: the room's before it.

        Raises:
            FalselyVouched: it, or one before it, follows from no handshake.
        """
        named = named_handshake(event)
        if named is not None and event.type not in FOLLOWING | MLS_TYPES:
            raise FalselyVouched(event, f"an {event.type}, which follows from no handshake")
        if event.type == ENCRYPTED:
            check_carried(event, event.content)
        elif named is not None and self._proposed is not None and named == named_handshake(self._proposed):
            self._follow(event, self._proposed)
            return
        elif self._open and goes_with(event, self._named):
            self._open.append(event)
            return
        self._end()
        if named is not None and event.type != ENCRYPTED:
            self._open, self._named, self._before = [event], named, dict(state)

    def proposals(self, event: Event, changes: Callable[[], Iterable[StateChange] | None]) -> None:
        """Take an entry with proposals.

        Args:
            changes: what follows from them, None if that is not known; asked for only if the hub vouches for
                them.

        Raises:
            FalselyVouched: as ``event``.
        """
        self._end()
        check_carried(event, event.content)
        if named_handshake(event) is not None:
            self._proposed = event
            found = None if event.redacted else changes()
            self._behind = None if found is None else deque(found)

    def commit(self, event: Event, content: JsonObject, said: Callable[[], Said | None]) -> None:
        """Take a commit.

        Args:
            content: with what its parts hold.
            said: what it says, None if that is not known; asked for only if there are entries that name it.

        Raises:
            FalselyVouched: it is not the one that entries before it name, or does not say what they say.
        """
        check_carried(event, content)
        waiting, before = self._open, self._before
        if waiting and _name_of(event, content) != self._named:
            raise self._unfounded()
        self._open = []
        self._end()
        if not any(named_handshake(each) is not None and each.type != COMMIT_PART for each in waiting):
            return
        if event.redacted or any(each.redacted for each in waiting):
            if not self._hides(before):
                raise FalselyVouched(waiting[0], "and shows it, or the commit it names, without what it says")
            return
        try:
            found = said()
        except Rejected as error:
            raise FalselyVouched(waiting[0], f"and the commit it names does not hold: {error}") from error
        if found is not None:
            check_said(waiting, found, before)

    def _follow(self, event: Event, proposed: Event) -> None:
        if self._behind is None:
            # No more is known than that whoever proposes takes somebody out.
            out = event.content.get("membership") in ("leave", "ban")
            said = event.type == "m.room.member" and out and event.sender == proposed.sender
        else:
            said = bool(self._behind) and is_change(event, self._behind.popleft())
        if not said:
            raise FalselyVouched(event, "which the proposals it names do not say")

    def _end(self) -> None:
        if self._open:
            raise self._unfounded()
        self._behind = self._proposed = None

    def _unfounded(self) -> FalselyVouched:
        return FalselyVouched(self._open[0], "and the handshake it names is not behind it")


def named_handshake(event: Event) -> str | None:
    """The MLSMessage that an event is said to follow from: its SHA-256, unpadded URL-safe base64; None if it
    stands for itself, or is vouched for another reason.
    """
    provenance = event.provenance
    if provenance is None or provenance["protocol"] != "mimi":
        return None
    named: str = provenance["mls"]
    return named


def goes_with(event: Event, named: str | None) -> bool:
    """Whether an entry can be of one append with an entry before it that names a commit.

    Args:
        named: the name.
    """
    # Whom a hub does not vouch for it has as its own user, or somebody else's server has signed.
    said = named_handshake(event)
    same = said == named or (said is None and event.hub_server is None)
    return same and event.type in FOLLOWING | {COMMIT_PART}


def check_carried(event: Event, content: JsonObject) -> None:
    """Hold an event that has an MLSMessage in it to the name that it gives to that.

    Args:
        content: the event's; a commit's with what its parts hold.

    Raises:
        FalselyVouched: it names another.
        Rejected: ``MALFORMED`` if there is none in it though it is shown with its content.
    """
    named = named_handshake(event)
    if named is not None and not event.redacted and _digest(binary(content, _CARRIED[event.type])) != named:
        raise FalselyVouched(event, "which names another message than is in it")


def check_said(events: Sequence[Event], said: Said, before: StateMap) -> None:
    """Hold the entries before a commit to what it says. Each that is vouched for is one that the commit
    brings about in the state as it is then; those of the hub's own users stand for themselves.

    Args:
        events: from the first that names the commit on; its parts are passed over.
        before: the room's state before them.

    Raises:
        FalselyVouched: the commit does not say what one of them says.
    """
    state = dict(before)
    waiting = deque(event for event in events if event.state_key is not None)

    def take() -> None:
        event = waiting.popleft()
        state[event.type, str(event.state_key)] = event

    def match(changes: Iterable[StateChange]) -> None:
        for change in changes:
            if waiting and is_change(waiting[0], change):
                take()
            while waiting and named_handshake(waiting[0]) is None:
                take()

    if said.external and waiting[0].sender != said.committer:
        # Who comes by a joining code is invited by whoever made it. Whether there was one only the hub knows.
        match(admission_changes(said.committer, waiting[0].sender, state))
    match(join_rule_changes(said.app_data, committer=said.committer, state=state))
    for act in said.acts:
        match(state_changes(act, present=said.present, state=state))
    if waiting:
        raise FalselyVouched(waiting[0], "which the commit it names does not say")


def is_change(event: Event, change: StateChange) -> bool:
    """Whether an event is one that follows from a handshake."""
    return (event.sender, event.type, event.state_key, event.content) == (
        change.sender,
        change.type,
        change.state_key,
        change.content,
    )


def _name_of(commit: Event, content: JsonObject) -> str | None:
    """The name of the commit in an event; what is redacted still says what it was vouched for by."""
    return named_handshake(commit) if commit.redacted else _digest(binary(content, "message"))


def _digest(message: bytes) -> str:
    return encode_base64url(hashlib.sha256(message).digest())
