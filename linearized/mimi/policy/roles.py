"""Roles, what they may do, and who may move whom between them (draft-ietf-mimi-room-policy, "Roles")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.common import MAX_ITEMS, Description, Name
from linearized.mimi.tls import Enumeration, Maybe, Struct, Uint, Uint32, Vector

NO_ROLE: Final = 0
"""Index of whoever is not in the participant list."""
BANNED: Final = 1
BANNED_NAME: Final = "banned"


def _require_room(minimum: int, maximum: int | None) -> None:
    if maximum is not None and maximum < minimum:
        raise ValueError(f"at least {minimum} and at most {maximum} cannot both be")


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleSourceRoleChangeTargets(Struct):
    """The roles that participants of one role may be moved to; index 0 means in or out of the list."""

    from_role_index: Uint32
    target_role_indexes: Annotated[tuple[int, ...], Vector(Uint(4), max_items=MAX_ITEMS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Struct):
    """A role: what its holders may do, and how many of them there may be."""

    role_index: Uint32
    role_name: Name
    role_description: Description = ""
    role_capabilities: Annotated[
        tuple[int, ...], Vector(Enumeration(Capability, extensible=True, width=2), max_items=MAX_ITEMS)
    ] = ()
    minimum_participants_constraint: Uint32 = 0
    maximum_participants_constraint: Annotated[int | None, Maybe(Uint(4))] = None
    minimum_active_participants_constraint: Uint32 = 0
    maximum_active_participants_constraint: Annotated[int | None, Maybe(Uint(4))] = None
    authorized_role_changes: Annotated[
        tuple[SingleSourceRoleChangeTargets, ...], Vector(SingleSourceRoleChangeTargets, max_items=MAX_ITEMS)
    ] = ()

    def __post_init__(self) -> None:
        # "It also contains a role_name (a human-readable text string name for the role), and a
        # role_description (another string, which can have zero length)": the name cannot.
        if not self.role_name:
            raise ValueError(f"role {self.role_index} has no name")
        # "The "banned" role always has role_index = 1 and role_name = "banned" (without quotes)."
        if self.role_name == BANNED_NAME and self.role_index != BANNED:
            raise ValueError(f"role {self.role_index} cannot be called {BANNED_NAME}")
        _require_room(self.minimum_participants_constraint, self.maximum_participants_constraint)
        _require_room(
            self.minimum_active_participants_constraint, self.maximum_active_participants_constraint
        )
        sources = [change.from_role_index for change in self.authorized_role_changes]
        # "consults its role's authorized_role_changes entries for an entry where from_role_index matches":
        # there is one.
        if len(set(sources)) != len(sources):
            raise ValueError(f"role {self.role_index} lists the changes from one role twice")
        if Capability.OPEN_JOIN in self.role_capabilities:
            # "canOpenJoin MUST NOT appear in any non-zero role."
            if self.role_index != NO_ROLE:
                raise ValueError("canOpenJoin is for those who have no role")
            # "The authorized_role_changes list MUST have an entry with from_role_index equal to zero."
            if NO_ROLE not in sources:
                raise ValueError("canOpenJoin names no role to join in")

    def has(self, capability: Capability) -> bool:
        """Whether the role's holders have a capability."""
        return capability in self.role_capabilities

    def targets(self, role_index: int) -> tuple[int, ...]:
        """The roles that the role's holders may move participants of ``role_index`` to."""
        found = (
            change.target_role_indexes
            for change in self.authorized_role_changes
            if change.from_role_index == role_index
        )
        return next(found, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleData(Struct):
    """Data and update of the ``roles_list`` component; an update replaces the data as a whole."""

    roles: Annotated[tuple[Role, ...], Vector(Role, max_items=MAX_ITEMS)] = ()

    def __post_init__(self) -> None:
        known = [role.role_index for role in self.roles]
        # "It contains a role_index, which is used to refer to the role elsewhere."
        if len(set(known)) != len(known):
            raise ValueError("two roles have the same index")
        named = {*known, NO_ROLE}
        for role in self.roles:
            for change in role.authorized_role_changes:
                strangers = {change.from_role_index, *change.target_role_indexes} - named
                if strangers:
                    raise ValueError(f"role {role.role_index} refers to role {min(strangers)}, which is none")

    def role(self, index: int) -> Role:
        """The role of an index. Who is not in the list of participants, and no role says more, may nothing.

        Raises:
            LookupError: the room has no such role.
        """
        for role in self.roles:
            if role.role_index == index:
                return role
        if index == NO_ROLE:
            return NOBODY
        raise LookupError(f"role {index} is not a role of this room")

    def entry_role(self, adder: int) -> int:
        """The role of whom a holder of ``adder`` adds without naming one: the lowest that they may give.

        In a room whose participants are given when it is created, nobody may; it is the lowest there is.
        """
        possible = [role.role_index for role in self.non_banned()]
        given = set(self.role(adder).targets(NO_ROLE))
        return min((index for index in possible if index in given), default=min(possible, default=NO_ROLE))

    @property
    def bans(self) -> bool:
        """Whether there is the role that ``canBan`` and ``canUnBan`` need.

        "to use the canBan and canUnban capabilities, the role needs to exist exactly as described above".
        """
        return any(role.role_index == BANNED and role.role_name == BANNED_NAME for role in self.roles)

    def non_banned(self) -> Iterable[Role]:
        """The roles that a participant can be active in: neither index 0 nor the banned role."""
        return (role for role in self.roles if role.role_index != NO_ROLE and role.role_name != BANNED_NAME)


NOBODY: Final = Role(role_index=NO_ROLE, role_name="no_role")
"""What index 0 is where a room's roles do not list it."""
