"""The state of a room at a point of its log: what the latest state events say (draft, State Events)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.versions import ROOM_VERSIONS

StateMap: TypeAlias = Mapping[tuple[str, str], Event]
"""The latest state event for each ``(type, state_key)``."""

CREATE = ("m.room.create", "")
POWER_LEVELS = ("m.room.power_levels", "")
JOIN_RULES = ("m.room.join_rules", "")
HUB = ("m.room.hub", "")

AUTHORISED = "join_authorised_via_users_server"
"""In the content of a join: the user by whose server somebody who was not invited may come in."""

PARENT_ROOM = "dev.linearized.parent_room"
"""In the content of a create event: the ID of the room whose participants alone may be in this one."""

MEMBERSHIPS = frozenset({"join", "invite", "leave", "ban", "knock"})


def create_event(state: StateMap) -> Event:
    """Give the room's create event.

    Raises:
        AuthorizationError: there is none.
    """
    create = state.get(CREATE)
    if create is None:
        raise AuthorizationError("4.3", "the room has no create event")
    return create


def creator(state: StateMap) -> str:
    """Give the user ID of the room's creator.

    Raises:
        AuthorizationError: the room has no create event.
    """
    return create_event(state).sender


def hub_of(state: StateMap) -> str:
    """Give the server name of the room's hub.

    Draft, Hub Selection: "The hub server for a room is the server denoted by the sender of the m.room.create
    event". Hub Transfers: "either the sender of m.room.hub or m.room.create if no hub state event is
    present", in rooms whose version has them.

    Raises:
        AuthorizationError: the room has no create event.
    """
    moved = transfer_of(state)
    return user_domain(moved.sender if moved is not None else creator(state))


def transfer_of(state: StateMap) -> Event | None:
    """Give the event that made the room's hub what it is; None if it is the creator's server. In rooms whose
    version has no transfers, an ``m.room.hub`` is an event as any other.

    Raises:
        AuthorizationError: the room has no create event.
    """
    return state.get(HUB) if has_hub_transfers(state) else None


def parent_room(state: StateMap) -> str | None:
    """Give the ID of the room that this one depends on, None for nearly all rooms.

    Raises:
        AuthorizationError: the room has no create event.
    """
    parent = create_event(state).content.get(PARENT_ROOM)
    return parent if isinstance(parent, str) else None


def has_hub_transfers(state: StateMap) -> bool:
    """Whether the room's version, which its create event names, has hub transfers.

    Raises:
        AuthorizationError: the room has no create event.
    """
    name = create_event(state).content.get("room_version")
    version = ROOM_VERSIONS.get(name) if isinstance(name, str) else None
    return version is not None and version.hub_transfers


def membership(state: StateMap, user_id: str) -> str:
    """Give a user's membership: one of ``MEMBERSHIPS``.

    Draft, m.room.member: "If the user does not have a membership event then they are presumed to be in the
    leave state."
    """
    event = state.get(("m.room.member", user_id))
    value = event.content.get("membership") if event is not None else None
    return value if isinstance(value, str) and value in MEMBERSHIPS else "leave"


def join_rule(state: StateMap) -> str:
    """Give the room's join rule; ``invite`` when there is none (the draft leaves it open, Matrix says so)."""
    event = state.get(JOIN_RULES)
    value = event.content.get("join_rule") if event is not None else None
    return value if isinstance(value, str) else "invite"


def encryption_algorithm(state: StateMap) -> str | None:
    """Give ``content.encryption.algorithm`` of the create event; None for a room that is not encrypted.

    Draft, MLS Considerations: "Encryption can only be enabled at the time the room is created."

    Raises:
        AuthorizationError: the room has no create event.
    """
    return algorithm_of(create_event(state))


def algorithm_of(create: Event) -> str | None:
    """Give the encryption algorithm a create event names; None if it names none, or not as a string."""
    encryption = create.content.get("encryption")
    algorithm = encryption.get("algorithm") if isinstance(encryption, dict) else None
    return algorithm if isinstance(algorithm, str) else None
