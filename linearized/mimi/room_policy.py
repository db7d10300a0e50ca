"""Which MIMI role a power level is, and back: the one table (see draft-ietf-mimi-room-policy, "Roles").

Rooms keep their permissions as power levels. The participant list shows every user's role index, so that MIMI
clients, which see the list and not the log, know who may do what.
"""

from __future__ import annotations

from dataclasses import dataclass

from linearized.exceptions import MimiDecodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A row of the table: a role applies from its power level up to that of the next one."""

    index: int
    name: str
    power_level: int


NO_ROLE = 0
"""Role index of whoever is not in the participant list; never in it."""

REGULAR = Role(index=1, name="regular", power_level=0)
ADMIN = Role(index=2, name="admin", power_level=100)
ROLES = (REGULAR, ADMIN)
"""Every role of our rooms, by rising power level."""


def role_of_power_level(power_level: int) -> Role:
    """The highest role whose power level is reached; below zero it is still ``REGULAR``."""
    return max((role for role in ROLES if power_level >= role.power_level), default=REGULAR, key=_by_power)


def power_level_of_role(index: int) -> int:
    """The power level a user needs to be given for a role.

    Raises:
        MimiDecodeError: no participant of our rooms can have this role.
    """
    for role in ROLES:
        if role.index == index:
            return role.power_level
    raise MimiDecodeError(f"role {index} is not a role of this room")


def _by_power(role: Role) -> int:
    return role.power_level
