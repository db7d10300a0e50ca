"""The state of a room at a point of its log: what the latest state events say (draft, State Events)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain

StateMap: TypeAlias = Mapping[tuple[str, str], Event]
"""The latest state event for each ``(type, state_key)``."""

CREATE = ("m.room.create", "")
POWER_LEVELS = ("m.room.power_levels", "")
JOIN_RULES = ("m.room.join_rules", "")

AUTHORISED = "join_authorised_via_users_server"
"""In the content of a join: the user by whose server somebody who was not invited may come in."""

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
    event".

    Raises:
        AuthorizationError: the room has no create event.
    """
    return user_domain(creator(state))


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
