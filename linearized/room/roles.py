"""Roles and power levels: the one table that says which level a role is.

A room whose creator chose a MIMI room policy has a list of roles. Its permissions stand in the log as power
levels all the same, for those who see the log and not the group. Every such room's ``m.room.power_levels``
follows from its roles; what levels cannot say, the roles decide beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.preauth import PreAuthData
from linearized.mimi.policy.roles import BANNED, NO_ROLE, Role, RoleData
from linearized.mimi.room_policy import power_level_of_role
from linearized.protocol.canonical import JsonObject

GOVERNOR: Final = 100
MODERATOR: Final = 50
USER: Final = 0

KEPT_ROLES: Final = 256
"""Lists of roles whose reading is kept: each commit looks at them a few times, and they hardly ever change.
Some tens of kilobytes each."""

# A role has the level of the first row that it shares a capability with: Matrix' usual three. Levels order
# people as well (nobody can be removed by who is not above them), so there is not one for each capability.
ROLE_LEVELS: Final[tuple[tuple[int, frozenset[Capability]], ...]] = (
    (
        GOVERNOR,
        frozenset(
            {
                Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
                Capability.CHANGE_ROLE_DEFINITIONS,
                Capability.CHANGE_PREAUTHORIZED_USER_LIST,
                Capability.DESTROY_ROOM,
            }
        ),
    ),
    (
        MODERATOR,
        frozenset(
            {
                Capability.BAN,
                Capability.UN_BAN,
                Capability.KICK,
                Capability.CHANGE_USER_ROLE,
                Capability.DELETE_OTHER_MESSAGE,
            }
        ),
    ),
    (USER, frozenset(Capability)),
)

# An action or event type needs the lowest level of a role that has the capability.
ACTION_CAPABILITIES: Final[Mapping[str, Capability]] = MappingProxyType(
    {
        "ban": Capability.BAN,
        "invite": Capability.ADD_PARTICIPANT,
        "kick": Capability.REMOVE_PARTICIPANT,
        "redact": Capability.DELETE_OTHER_MESSAGE,
    }
)
EVENT_CAPABILITIES: Final[Mapping[str, Capability]] = MappingProxyType(
    {
        "m.room.avatar": Capability.CHANGE_ROOM_AVATAR,
        "m.room.encrypted": Capability.SEND_MESSAGE,
        "m.room.guest_access": Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
        "m.room.history_visibility": Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
        "m.room.join_rules": Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
        "m.room.name": Capability.CHANGE_ROOM_NAME,
        "m.room.power_levels": Capability.CHANGE_USER_ROLE,
        "m.room.server_acl": Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
        "m.room.third_party_invite": Capability.ADD_PARTICIPANT,
        "m.room.tombstone": Capability.DESTROY_ROOM,
        "m.room.topic": Capability.CHANGE_ROOM_SUBJECT,
    }
)


def has_policy(app_data: Mapping[int, bytes]) -> bool:
    """Whether a group's creator chose a policy; it has had one since it was created, or never will."""
    return ROLES_LIST in app_data


def roles_of(app_data: Mapping[int, bytes]) -> RoleData | None:
    """The roles of a group; None if its creator chose no policy, so that power levels decide alone.

    Raises:
        MimiDecodeError: the component is malformed.
    """
    data = app_data.get(ROLES_LIST)
    return _read(data) if data is not None else None


@lru_cache(KEPT_ROLES)
def _read(data: bytes) -> RoleData:
    return RoleData.decode(data)


def check_roles(roles: RoleData | None, indices: Iterable[int]) -> None:
    """Check that participants can have these roles.

    Args:
        roles: None for a room without a policy, whose roles are those of ``linearized.mimi.room_policy``.

    Raises:
        MimiDecodeError: they cannot.
    """
    for index in indices:
        if roles is None:
            power_level_of_role(index)
        # "The role_index zero is reserved to refer to a participant that does not (yet) or no longer appears
        # … in the participant list."
        elif index == NO_ROLE or all(role.role_index != index for role in roles.roles):
            raise MimiDecodeError(f"role {index} is not a role of this room")


def is_banned(roles: RoleData | None, index: int) -> bool:
    """Whether a role is the one of the banned."""
    return roles is not None and index == BANNED and roles.bans


def banned_of(participants: Mapping[str, int], roles: RoleData) -> set[str]:
    """The participants in the role of the banned, if a room has it."""
    if not roles.bans:
        return set()
    return {user for user, index in participants.items() if index == BANNED}


def level_of(role: Role) -> int:
    """The power level of a role's holders."""
    held = set(role.role_capabilities)
    return next((level for level, capabilities in ROLE_LEVELS if held & capabilities), USER)


def power_levels_content(
    roles: RoleData, participants: Mapping[str, int], current: JsonObject | None
) -> JsonObject:
    """The content of ``m.room.power_levels`` that roles demand.

    Args:
        participants: user ID to role index.
        current: the present content, whose other entries are kept; None if there is none.
    """
    content: JsonObject = dict(current or {})
    events = content.get("events")
    levels = {index: level_of(roles.role(index)) for index in set(participants.values())}
    raised = {user: levels[index] for user, index in participants.items() if levels[index] != USER}
    return {
        **content,
        **{action: _needed(roles, capability) for action, capability in ACTION_CAPABILITIES.items()},
        "events": {
            **(events if isinstance(events, dict) else {}),
            **{kind: _needed(roles, capability) for kind, capability in EVENT_CAPABILITIES.items()},
        },
        # A message is m.room.encrypted; proposals and commits are judged by what they do.
        "events_default": USER,
        "state_default": MODERATOR,
        "users": dict(sorted(raised.items())),
        "users_default": USER,
    }


def rule_for(roles: RoleData, preauth: PreAuthData, current: str) -> str:
    """The join rule of ``m.room.join_rules`` that a policy demands.

    Args:
        current: the present one, which stays if it says nothing else: there are several ways of asking to be
            let in, and the draft has one capability for them.
    """
    by_themselves = roles.role(NO_ROLE).has(Capability.OPEN_JOIN) or (
        bool(preauth.preauthorized_entries)
        and any(role.has(Capability.JOIN_IF_PREAUTHORIZED) for role in roles.roles)
    )
    if by_themselves:
        return "public"
    return "invite" if current == "public" else current


def _needed(roles: RoleData, capability: Capability) -> int:
    return min((level_of(role) for role in roles.roles if role.has(capability)), default=GOVERNOR)
