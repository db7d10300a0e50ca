"""The participant list (draft-ietf-mimi-protocol-06, "Participant List") and the IDs of MIMI's components."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import Struct, Uint, Uint32, Uri, Vector

# MLS component IDs, from the draft's IANA Considerations.
FRANK_AAD = 0x0020
FRANKING_AGENT = 0x0021
PARTICIPANT_LIST = 0x0022
ROOM_METADATA = 0x0023


class ParticipantListError(MimiDecodeError):
    """An update is well formed but cannot be applied to the list it is meant for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRolePair(Struct):
    """A user URI and the index of the role it has."""

    user: Uri
    role_index: Uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIndexRolePair(Struct):
    """A position in the participant list and a new role for whoever is there."""

    user_index: Uint32
    role_index: Uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantListData(Struct):
    """The ``data`` of the component: every user of the room, once, "assigned exactly one role"."""

    participants: Annotated[tuple[UserRolePair, ...], Vector(UserRolePair)] = ()

    def __post_init__(self) -> None:
        users = [pair.user for pair in self.participants]
        if len(set(users)) != len(users):
            raise ValueError("a user is in the participant list twice")

    def role_of(self, user: str) -> int | None:
        """Role index of a user URI, ``None`` if it is not a participant."""
        return next((pair.role_index for pair in self.participants if pair.user == user), None)

    def index_of(self, user: str) -> int | None:
        """Position of a user URI, as updates refer to it; ``None`` if it is not a participant."""
        return next((index for index, pair in enumerate(self.participants) if pair.user == user), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantListUpdate(Struct):
    """The ``update`` of an AppDataUpdate; indices are those of the list before the update."""

    changed: Annotated[tuple[UserIndexRolePair, ...], Vector(UserIndexRolePair)] = ()
    removed: Annotated[tuple[int, ...], Vector(Uint(4))] = ()
    added: Annotated[tuple[UserRolePair, ...], Vector(UserRolePair)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantChanges:
    """What an update does, in terms of users: pairs with their new role, and user URIs that go."""

    changed: tuple[UserRolePair, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[UserRolePair, ...] = ()


def changes(data: ParticipantListData, update: ParticipantListUpdate) -> ParticipantChanges:
    """Resolve an update's indices.

    Raises:
        ParticipantListError: an index is outside the list, or the update operates on a user twice, which
            includes adding one who is there already.
    """
    everyone = data.participants
    for index in (*(change.user_index for change in update.changed), *update.removed):
        if index >= len(everyone):
            raise ParticipantListError(f"there is no participant {index}")
    found = ParticipantChanges(
        changed=tuple(
            UserRolePair(user=everyone[change.user_index].user, role_index=change.role_index)
            for change in update.changed
        ),
        removed=tuple(everyone[index].user for index in update.removed),
        added=update.added,
    )
    # "A single commit is not valid if it contain any combination of Participant list updates that operate on
    # (add, remove, or change the role of) the same user in the participant list more than once."
    touched = touched_users(found)
    if len(set(touched)) != len(touched):
        raise ParticipantListError("the update operates on the same user more than once")
    present = {pair.user for pair in everyone}
    if any(pair.user in present for pair in found.added):
        raise ParticipantListError("the update adds a user who is a participant already")
    return found


def apply_update(data: ParticipantListData, update: ParticipantListUpdate) -> ParticipantListData:
    """The list after an update: roles changed, users removed, new ones "appended to the end".

    Raises:
        ParticipantListError: as ``changes``.
    """
    return apply_updates(data, [update])


def apply_updates(data: ParticipantListData, updates: Iterable[ParticipantListUpdate]) -> ParticipantListData:
    """The list after all updates of one commit, whose indices are those of the list before the commit.

    Nobody who proposes an update knows which others a commit will hold with it, and "the index of the
    `participants` vector in the current `ParticipantListData` struct is referenced as the `user_index`".

    Raises:
        ParticipantListError: as ``changes``, or two updates operate on the same user.
    """
    all_changes = [changes(data, update) for update in updates]
    touched = [user for found in all_changes for user in touched_users(found)]
    if len(set(touched)) != len(touched):
        raise ParticipantListError("the commit operates on the same user more than once")
    roles = {pair.user: pair.role_index for found in all_changes for pair in found.changed}
    gone = {user for found in all_changes for user in found.removed}
    kept = tuple(
        UserRolePair(user=pair.user, role_index=roles.get(pair.user, pair.role_index))
        for pair in data.participants
        if pair.user not in gone
    )
    added = tuple(pair for found in all_changes for pair in found.added)
    return ParticipantListData(participants=kept + added)


def touched_users(found: ParticipantChanges) -> list[str]:
    """The user URIs that changes operate on."""
    return [*(pair.user for pair in found.changed), *found.removed, *(pair.user for pair in found.added)]
