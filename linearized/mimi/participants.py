"""The participant list (draft-ietf-mimi-protocol-06, "Participant List") and the IDs of MIMI's components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import MAX_URI_BYTES, Reader, Struct, Uint, Uint32, Uri, Vector, encode_vector

# MLS component IDs, from the draft's IANA Considerations.
FRANK_AAD = 0x0020
FRANKING_AGENT = 0x0021
PARTICIPANT_LIST = 0x0022
ROOM_METADATA = 0x0023

_MAX_UINT32: Final = (1 << 32) - 1


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

    @classmethod
    def read_from(cls, reader: Reader) -> ParticipantListData:
        """As every structure; written out, since a list of thousands is read and written whole for each user
        who comes or goes.
        """
        try:
            return cls(participants=tuple(_pairs(reader.vector())))
        except ValueError as error:
            raise MimiDecodeError(str(error)) from error

    def write_to(self, out: bytearray) -> None:
        """As every structure; see ``read_from``."""
        content = bytearray()
        for pair in self.participants:
            user, role = pair.user.encode("ascii"), pair.role_index
            if len(user) > MAX_URI_BYTES or not 0 <= role <= _MAX_UINT32:
                raise ValueError(f"{pair} has no encoding")
            content += encode_vector(user)
            content += role.to_bytes(4, "big")
        out += encode_vector(bytes(content))

    def role_of(self, user: str) -> int | None:
        """Role index of a user URI, ``None`` if it is not a participant."""
        return next((pair.role_index for pair in self.participants if pair.user == user), None)

    def index_of(self, user: str) -> int | None:
        """Position of a user URI, as updates refer to it; ``None`` if it is not a participant."""
        return next((index for index, pair in enumerate(self.participants) if pair.user == user), None)


def _pairs(data: bytes) -> Iterator[UserRolePair]:
    reader = Reader(data)
    while reader.remaining:
        user = reader.vector()
        if len(user) > MAX_URI_BYTES:
            raise MimiDecodeError(f"a text of {len(user)} bytes is over the limit of {MAX_URI_BYTES}")
        try:
            text = user.decode("ascii")
        except UnicodeDecodeError as error:
            raise MimiDecodeError("a text is not ascii") from error
        yield UserRolePair(user=text, role_index=reader.uint(4))


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
        UserRolePair(user=pair.user, role_index=roles[pair.user]) if pair.user in roles else pair
        for pair in data.participants
        if pair.user not in gone
    )
    added = tuple(pair for found in all_changes for pair in found.added)
    return ParticipantListData(participants=kept + added)


def touched_users(found: ParticipantChanges) -> list[str]:
    """The user URIs that changes operate on."""
    return [*(pair.user for pair in found.changed), *found.removed, *(pair.user for pair in found.added)]
