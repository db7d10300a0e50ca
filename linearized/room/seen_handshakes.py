"""What handshakes say to whoever has not the room's MLS tree: a participant, which comes in the middle.

A commit and the GroupInfo that goes with it are read, and held to each other and to what the commit before
showed. What is not verified: who signed a handshake, for which the hub's word is the sender of its entry, and
whether a participant who is invited has a leaf. Members of the group verify both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.commit_parts import (
    AppDataChange,
    leaf_credential,
    proposed_app_data,
    proposed_key_package,
)
from linearized.mimi.group_info import app_data_of, cipher_suite_of
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
)
from linearized.mls import MlsError, proposal_reference
from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import StateMap
from linearized.room.acts import ACTING, Step, acts_from, departures, state_changes
from linearized.room.content import binary
from linearized.room.credentials import client_of
from linearized.room.observing import public_commit
from linearized.room.participation import StateChange
from linearized.room.parts import INITIAL_GROUP
from linearized.room.proposals import messages_of
from linearized.room.roles import roles_of
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import participants_of, read_list, resulting_app_data
from linearized.room.vouching import Said

AppData = Mapping[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Update:
    """As ``resulting_app_data`` takes it."""

    component_id: int
    payload: bytes | None

    @property
    def operation(self) -> str:
        return "remove" if self.payload is None else "update"


def said_by_seen_commit(
    content: JsonObject,
    *,
    sender: str,
    before: AppData | None,
    pending: Callable[[], Iterable[tuple[str, bytes]]],
) -> Said | None:
    """What a commit says; None if that depends on what was not seen.

    Args:
        content: of the ``m.mls.commit``, with what its parts hold.
        sender: of its entry.
        before: the group's application data before it; None if no commit before it was seen.
        pending: gives the proposals in the log since the commit before, each with the sender of its entry.

    Raises:
        Rejected: it cannot be read, or the GroupInfo is not of what it leads to.
    """
    try:
        return _said(content, sender, _initial(content) or before, pending)
    except (MimiDecodeError, IdentifierError, MlsError) as error:
        raise Rejected(Reason.MALFORMED, f"The commit cannot be read: {error}") from error


def said_by_seen_proposals(
    content: JsonObject, *, sender: str, before: AppData | None, state: StateMap
) -> list[StateChange] | None:
    """The state that proposals bring about at once; None if that depends on what was not seen.

    Args:
        content: of the ``m.mls.proposal``.
        sender, before: as for ``said_by_seen_commit``.
        state: the room's before them.

    Raises:
        Rejected: they cannot be read.
    """
    if before is None:
        return None
    if PARTICIPANT_LIST not in before:
        return []
    try:
        steps = _steps((sender, proposed_app_data(message)) for message in messages_of(content))
        roles = roles_of(before)
        leaving = departures(list(acts_from(before, steps, committer=sender, roles=(roles, roles))))
    except MimiDecodeError as error:
        raise Rejected(Reason.MALFORMED, f"The proposals cannot be read: {error}") from error
    return [] if leaving is None else state_changes(leaving, present=frozenset(), state=state)


def _said(
    content: JsonObject,
    sender: str,
    before: AppData | None,
    pending: Callable[[], Iterable[tuple[str, bytes]]],
) -> Said | None:
    parts, group_info = public_commit(content), binary(content, "public_group_state")
    after, suite = app_data_of(group_info), cipher_suite_of(group_info)
    known = {proposal_reference(message, ciphersuite=suite): (user, message) for user, message in pending()}
    packages = list(parts.key_packages)
    changes: list[tuple[str, AppDataChange]] = []
    for step in parts.steps:
        if isinstance(step, AppDataChange):
            changes.append((sender, step))
        elif step in known:
            user, message = known[step]
            if (change := proposed_app_data(message)) is not None:
                changes.append((user, change))
            elif (package := proposed_key_package(message)) is not None:
                packages.append(package)
        elif before is not None:
            raise Rejected(Reason.INVALID_COMMIT, "The commit names a proposal that is not in the log")
        else:
            return None
    if before is None:
        before = _without_added(after, [change for _, change in changes])
        if before is None:
            return None
    updates = [_Update(component_id=change.component, payload=change.payload) for _, change in changes]
    if {**before, **resulting_app_data(before, updates)} != after:
        raise Rejected(Reason.INVALID_COMMIT, "The GroupInfo is not of what the commit leads to")
    credentials = [leaf_credential(package) for package in packages]
    if parts.joiner is not None:
        credentials.append(parts.joiner)
    steps = _steps(changes)
    roles = roles_of(before), roles_of(after)
    listed = PARTICIPANT_LIST in before
    return Said(
        acts=tuple(acts_from(before, steps, committer=sender, roles=roles)) if listed else (),
        app_data=after,
        # Who is a participant already and let in again may have kept their leaf.
        present={client_of(credential).user_id for credential in credentials}
        | (participants_of(before).keys() if listed else set()),
        committer=sender,
        external=parts.joiner is not None,
    )


def _initial(content: JsonObject) -> AppData | None:
    """The application data that a room's first commit starts from."""
    initial = content.get(INITIAL_GROUP)
    return app_data_of(binary(initial, "group_info")) if isinstance(initial, dict) else None


def _without_added(after: AppData, changes: Sequence[AppDataChange]) -> AppData | None:
    """The application data before changes that do nothing but add participants; None of others."""
    if PARTICIPANT_LIST not in after:
        return after if not changes else None
    added: set[str] = set()
    for change in changes:
        if change.component != PARTICIPANT_LIST or change.payload is None:
            return None
        update = ParticipantListUpdate.decode(change.payload)
        if update.changed or update.removed:
            return None
        added |= {pair.user for pair in update.added}
    kept = tuple(pair for pair in read_list(after[PARTICIPANT_LIST]).participants if pair.user not in added)
    return {**after, PARTICIPANT_LIST: ParticipantListData(participants=kept).encode()}


def _steps(changes: Iterable[tuple[str, AppDataChange | None]]) -> list[Step]:
    return [
        Step(user_id=user, component=change.component, payload=change.payload or b"")
        for user, change in changes
        if change is not None and change.component in ACTING
    ]
