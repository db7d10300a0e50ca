"""Parent rooms: a room whose participants are among those of another (draft-ietf-mimi-room-policy, "Base Room
policy").

The create event names the parent, for good, and the group's base policy has to say the same. The two rooms
are decided one after the other: who is in the parent is read from where its hub stored it, and who has left
it is taken out of the dependent room by a submission of the hub's own (``ParentChanged``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from linearized.exceptions import IdentifierError
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.choice import POLICY_CHOICE
from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user, parse_room_id, room_uri
from linearized.protocol.state import CREATE, HUB, PARENT_ROOM, StateMap, hub_of, membership, parent_room
from linearized.protocol.versions import get_version
from linearized.room.submissions import Reason, Rejected

# Who is in a room as far as its parent is asked: a knock is none of the parent's participants', either.
_PRESENT: Final = frozenset({"join", "invite", "knock"})
_MEMBER: Final = "m.room.member"


class Parents(Protocol):
    """What a hub knows of the rooms that others depend on. Who is invited is no participant yet."""

    def hosts(self, room_id: str) -> bool:
        """Whether this hub orders the room."""
        ...

    def joined(self, room_id: str, user_id: str) -> bool:
        """Whether a user has joined it."""
        ...

    def size(self, room_id: str) -> int:
        """How many users have joined it."""
        ...


class NoParents:
    """``Parents`` of who knows no other room."""

    def hosts(self, room_id: str) -> bool:
        """No."""
        del room_id
        return False

    def joined(self, room_id: str, user_id: str) -> bool:
        """No."""
        del room_id, user_id
        return False

    def size(self, room_id: str) -> int:
        """Nobody."""
        del room_id
        return 0


NO_PARENTS: Final = NoParents()


def check_dependence(event: Event, state: StateMap, parents: Parents) -> None:
    """Hold an event to the room's parent, if it has one.

    Args:
        event: built and authorised.
        state: the room's before it.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``).
    """
    if event.type == CREATE[0]:
        _check_create(event, parents)
        return
    parent = parent_room(state)
    # What the hub itself writes follows from what others did.
    if parent is None or event.sender == hub_user(hub_of(state)):
        return
    # "A parent-dependent room is always hosted on the same Hub as the parent room."
    if (event.type, event.state_key) == HUB:
        _forbid("A room that depends on a parent room stays at the parent's hub")
    entering = event.type == _MEMBER and event.content.get("membership") in _PRESENT
    if event.type == _MEMBER and event.sender == event.state_key and not entering:
        return  # whoever goes may go
    # "the list of participants of the room MUST be a strict subset of the participants of the parent room."
    for user_id in (event.sender, str(event.state_key) if entering else event.sender):
        if not parents.joined(parent, user_id):
            _forbid(f"{user_id} is not in the parent room")
    if entering and event.content.get("membership") != "knock":
        inside = {user for user, found in _members(state) if found != "knock"} | {str(event.state_key)}
        if len(inside) >= parents.size(parent):
            _forbid("Not everybody in the parent room may be in a room that depends on it")


def _check_create(event: Event, parents: Parents) -> None:
    if PARENT_ROOM not in event.content:
        return
    parent, version = event.content[PARENT_ROOM], get_version(event.content.get("room_version"))
    if not version.parent_rooms:
        _forbid(f"A room of version {version.name} depends on no parent room")
    try:
        parse_room_id(parent if isinstance(parent, str) else "")
    except IdentifierError as error:
        raise Rejected(Reason.FORBIDDEN, f"{PARENT_ROOM} is a room ID") from error
    # Dependence is half of the promise, the base policy in the group the other.
    if POLICY_CHOICE not in event.content:
        _forbid("A room that depends on a parent room has a policy")
    if not parents.hosts(str(parent)):
        _forbid("A room that depends on a parent room is hosted by the parent's hub, and this is not it")


def check_base(base: BaseRoomPolicy, state: StateMap) -> None:
    """Check that a group's base policy names the parent room that the room was created with.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    if base.parent_room != parent_uris(state):
        _forbid("A room's parent room is the one that it was created with")


def parent_uris(state: StateMap) -> tuple[str, ...]:
    """``parent_room`` of the base policy."""
    parent = parent_room(state)
    return () if parent is None else (room_uri(parent),)


def strays(state: StateMap, parents: Parents) -> list[str]:
    """Who is in a room and not in its parent. "If a user leaves or is removed from the parent room, that user
    is automatically removed from any parent-dependent rooms of that parent."
    """
    parent = parent_room(state)
    if parent is None:
        return []
    return sorted(user_id for user_id, _ in _members(state) if not parents.joined(parent, user_id))


def _members(state: StateMap) -> Iterator[tuple[str, str]]:
    for kind, user_id in state:
        if kind == _MEMBER and (found := membership(state, user_id)) in _PRESENT:
            yield user_id, found


def _forbid(text: str) -> None:
    raise Rejected(Reason.FORBIDDEN, text)
