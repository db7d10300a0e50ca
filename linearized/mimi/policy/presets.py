"""Ready-made sets of roles: the draft's examples (draft-ietf-mimi-room-policy, "Role examples"), and one for
direct messages.

Roles 0 and 1 are in every set those who have none and the banned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability as Can
from linearized.mimi.policy.components import BASE_ROOM_POLICY, ROLES_LIST
from linearized.mimi.policy.roles import (
    BANNED,
    BANNED_NAME,
    NO_ROLE,
    Role,
    RoleData,
    SingleSourceRoleChangeTargets,
)

Changes = Sequence[tuple[int, Sequence[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A room's policy from the start; ``creator_role`` is the role of who makes the room."""

    roles: RoleData
    base: BaseRoomPolicy
    creator_role: int

    def components(self) -> dict[int, bytes]:
        """The components of the group's application data, by ID."""
        return {ROLES_LIST: self.roles.encode(), BASE_ROOM_POLICY: self.base.encode()}


def _role(
    index: int,
    name: str,
    capabilities: Iterable[Can] = (),
    changes: Changes = (),
    *,
    participants: tuple[int, int | None] = (0, None),
    active: tuple[int, int | None] = (0, None),
) -> Role:
    return Role(
        role_index=index,
        role_name=name,
        role_capabilities=tuple(sorted(capabilities)),
        minimum_participants_constraint=participants[0],
        maximum_participants_constraint=participants[1],
        minimum_active_participants_constraint=active[0],
        maximum_active_participants_constraint=active[1],
        authorized_role_changes=tuple(
            SingleSourceRoleChangeTargets(from_role_index=source, target_role_indexes=tuple(targets))
            for source, targets in changes
        ),
    )


def _everywhere(last: int) -> Changes:
    """From every role up to ``last`` to every other one of them."""
    indices = range(last + 1)
    changes: list[tuple[int, list[int]]] = [
        (source, [target for target in indices if target != source]) for source in indices
    ]
    return changes


SEVERAL: Final = 2
_INACTIVE: Final = (0, 0)
_BANNED: Final = _role(BANNED, BANNED_NAME, active=_INACTIVE)
_NO_ROLE: Final = _role(NO_ROLE, "no_role", active=_INACTIVE)

_OWN_CLIENTS = {Can.ADD_OWN_CLIENT, Can.REMOVE_OWN_CLIENT}
_READ = {Can.RECEIVE_MESSAGE, Can.COPY_MESSAGE, Can.FOLLOW_LINK, Can.COPY_LINK}
_DOWNLOAD = {Can.DOWNLOAD_IMAGE, Can.DOWNLOAD_VIDEO, Can.DOWNLOAD_AUDIO, Can.DOWNLOAD_ATTACHMENT}
_UPLOAD = {Can.UPLOAD_IMAGE, Can.UPLOAD_VIDEO, Can.UPLOAD_AUDIO, Can.UPLOAD_ATTACHMENT}
_REACT = {Can.REACT_TO_MESSAGE, Can.DELETE_OWN_REACTION}
_LINK = {Can.SEND_LINK, Can.SEND_LINK_PREVIEW}
_SELF = {Can.CHANGE_OWN_NAME, Can.CHANGE_OWN_PRESENCE, Can.CHANGE_OWN_AVATAR}
_DECORATE = {
    Can.CHANGE_ROOM_NAME,
    Can.CHANGE_ROOM_AVATAR,
    Can.CHANGE_ROOM_SUBJECT,
    Can.CHANGE_ROOM_MOOD,
}
_JOIN_CODES = {Can.CREATE_JOIN_CODE, Can.DELETE_JOIN_CODE}
_GOVERN = {
    Can.CHANGE_ROOM_MEMBERSHIP_STYLE,
    Can.CHANGE_ROLE_DEFINITIONS,
    Can.CHANGE_PREAUTHORIZED_USER_LIST,
    Can.DESTROY_ROOM,
    Can.SEND_MLS_REINIT_PROPOSAL,
}

# What users of nearly every room may do with their own: read, write, take it back, and leave.
_WRITE = {Can.SEND_MESSAGE, Can.EDIT_OWN_MESSAGE, Can.DELETE_OWN_MESSAGE, Can.START_TOPIC}
_ORDINARY = {
    *_OWN_CLIENTS,
    *_READ,
    *_DOWNLOAD,
    *_UPLOAD,
    *_REACT,
    *_LINK,
    *_SELF,
    *_WRITE,
    Can.CHANGE_OWN_MOOD,
    Can.REMOVE_SELF,
    Can.REPORT_ABUSE,
    Can.REPLY_IN_TOPIC,
}
_MODERATE = {
    Can.ADD_PARTICIPANT,
    Can.REMOVE_PARTICIPANT,
    Can.BAN,
    Can.UN_BAN,
    Can.KICK,
    Can.CHANGE_USER_ROLE,
    *_JOIN_CODES,
    Can.DELETE_OTHER_REACTION,
    Can.DELETE_OTHER_MESSAGE,
    Can.EDIT_OWN_TOPIC,
    Can.EDIT_OTHER_TOPIC,
    *_DECORATE,
}
_ENFORCE = {
    Can.REMOVE_PARTICIPANT,
    Can.CHANGE_USER_ROLE,
    Can.BAN,
    Can.UN_BAN,
    Can.CHANGE_ROLE_DEFINITIONS,
    Can.CHANGE_PREAUTHORIZED_USER_LIST,
    Can.CHANGE_MLS_OPERATIONAL_POLICIES,
    Can.DESTROY_ROOM,
    Can.SEND_MLS_REINIT_PROPOSAL,
}


def _enforcer(index: int, over: Iterable[int]) -> Role:
    """Who can ban and clean up, and do nothing else: "not restore them"."""
    changes: Changes = [
        (NO_ROLE, [BANNED]),
        (BANNED, [NO_ROLE]),
        *((role, [NO_ROLE, BANNED]) for role in over),
    ]
    return _role(index, "policy_enforcer", _ENFORCE, changes, participants=(1, 2), active=_INACTIVE)


def _cooperative() -> RoleData:
    ordinary = {
        *_ORDINARY,
        *_DECORATE,
        Can.ADD_PARTICIPANT,
        Can.REMOVE_PARTICIPANT,
        Can.REPLY_TO_MESSAGE,
        Can.EDIT_OWN_TOPIC,
    }
    admin = {
        *ordinary,
        Can.BAN,
        Can.UN_BAN,
        Can.KICK,
        Can.CHANGE_USER_ROLE,
        Can.DELETE_OTHER_MESSAGE,
        Can.EDIT_OTHER_TOPIC,
        Can.CHANGE_ROOM_DESCRIPTION,
    }
    governor = {
        *admin,
        Can.CHANGE_ROOM_MEMBERSHIP_STYLE,
        Can.CHANGE_PREAUTHORIZED_USER_LIST,
        Can.DESTROY_ROOM,
    }
    return RoleData(
        roles=(
            _NO_ROLE,
            _BANNED,
            _role(2, "ordinary_user", ordinary, [(0, [2]), (2, [0])]),
            _role(3, "group_admin", admin, _everywhere(3), participants=(1, None)),
            _role(4, "super_admin", governor, _everywhere(4)),
            _enforcer(5, (2, 3, 4)),
        )
    )


def _administered() -> RoleData:
    ordinary = {*_ORDINARY, Can.JOIN_IF_PREAUTHORIZED, Can.CHANGE_OWN_ROLE}
    admin = {*ordinary, *_MODERATE, Can.CHANGE_ROOM_DESCRIPTION}
    return RoleData(
        roles=(
            _role(0, "no_role", {Can.USE_JOIN_CODE}, [(0, [2])], active=_INACTIVE),
            _BANNED,
            _role(2, "ordinary_user", ordinary, [(0, [2]), (2, [0])]),
            _role(3, "group_admin", admin, _everywhere(3), participants=(1, None)),
            _role(4, "super_admin", admin | _GOVERN, _everywhere(4)),
            _enforcer(5, (2, 3, 4)),
        )
    )


def _moderated() -> RoleData:
    guest = {*_READ, *_DOWNLOAD, *_REACT, Can.REMOVE_SELF} - {Can.DOWNLOAD_ATTACHMENT}
    attendee = {
        *guest,
        *_OWN_CLIENTS,
        *_SELF,
        Can.JOIN_IF_PREAUTHORIZED,
        Can.CHANGE_OWN_ROLE,
        Can.REPORT_ABUSE,
        Can.REPLY_IN_TOPIC,
        Can.DOWNLOAD_ATTACHMENT,
    }
    speaker = {*attendee, *_WRITE, *_UPLOAD, *_LINK}
    moderator = {*speaker, *_MODERATE}
    governor = {*moderator, *_GOVERN, Can.CHANGE_ROOM_DESCRIPTION}
    return RoleData(
        roles=(
            _role(0, "no_role", {Can.USE_JOIN_CODE}, [(0, [2, 3])]),
            _BANNED,
            _role(2, "guest", guest, [(0, [2]), (2, [0])]),
            _role(3, "attendee", attendee, [(0, [3]), (3, [0])]),
            _role(4, "speaker", speaker, [(0, [4]), (4, [0])]),
            _role(5, "moderator", moderator, _everywhere(5), participants=(1, None)),
            _role(6, "super_admin", governor, _everywhere(6)),
            _enforcer(7, (2, 3, 4, 5, 6)),
        )
    )


def multi_organization(organizations: Sequence[str]) -> Preset:
    """A room of several organizations, each with users and admins of its own.

    Args:
        organizations: names, such as ``org_a``; the first is the host, which has the super admins.

    Raises:
        ValueError: there are fewer than two, or more than the roles have room for.
    """
    count = len(organizations)
    if count < SEVERAL:
        raise ValueError("a room of several organizations has two at least")
    host, user = 2, range(2, 2 + count)
    admin = range(2 + count, 2 + 2 * count)
    top = 2 + 2 * count
    preauthorized = {Can.CHANGE_OWN_ROLE, Can.JOIN_IF_PREAUTHORIZED}
    users = {*_ORDINARY} - _UPLOAD - {Can.DELETE_OWN_MESSAGE, Can.START_TOPIC, Can.CHANGE_OWN_MOOD}
    admins = {
        *users,
        *_UPLOAD,
        Can.DELETE_OWN_MESSAGE,
        Can.START_TOPIC,
        Can.ADD_PARTICIPANT,
        Can.REMOVE_PARTICIPANT,
        Can.BAN,
        Can.KICK,
        Can.CHANGE_USER_ROLE,
    }
    governor = {
        *admins,
        *preauthorized,
        *_DECORATE,
        *_GOVERN,
        Can.UN_BAN,
        Can.DELETE_OTHER_REACTION,
        Can.DELETE_OTHER_MESSAGE,
        Can.EDIT_OWN_TOPIC,
        Can.EDIT_OTHER_TOPIC,
        Can.CHANGE_ROOM_DESCRIPTION,
    }
    roles = [_NO_ROLE, _BANNED]
    for index, name in zip(user, organizations, strict=True):
        extra = preauthorized if index == host else set()
        roles.append(_role(index, f"{name}_user", users | extra, [(0, [index]), (index, [0])]))
    for index, member, name in zip(admin, user, organizations, strict=True):
        is_host = member == host
        roles.append(
            _role(
                index,
                f"{name}_admin",
                admins | (preauthorized if is_host else set()),
                [(0, [member, index]), (member, [0, 1, index]), (index, [0, 1, member])],
                participants=(0, None) if is_host else (1, 3),
                active=(0, None) if is_host else (1, None),
            )
        )
    pairs = [(member, own) for member, own in zip(user, admin, strict=True)]
    changes: list[tuple[int, list[int]]] = [
        (NO_ROLE, list(range(1, top + 1))),
        (BANNED, [0, *range(2, top + 1)]),
        *((member, [0, 1, own, *([top] if member == host else [])]) for member, own in pairs),
        *((own, [0, 1, member, *([top] if member == host else [])]) for member, own in pairs),
        (top, [0, 1, host, admin[0]]),
    ]
    roles.append(_role(top, "super_admin", governor, changes, participants=(1, None), active=(1, None)))
    roles.append(_enforcer(top + 1, range(host + 1, top + 1)))
    return Preset(roles=RoleData(roles=tuple(roles)), base=_base(), creator_role=top)


def _direct() -> RoleData:
    # "Ordinary users cannot leave or be removed, however a user can remove all its clients".
    user = {*_ORDINARY, Can.REPLY_TO_MESSAGE, Can.EDIT_OWN_TOPIC} - {Can.REMOVE_SELF}
    return RoleData(roles=(_NO_ROLE, _role(2, "correspondent", user)))


def _base(*, fixed: bool = False) -> BaseRoomPolicy:
    return BaseRoomPolicy(fixed_membership=fixed, policy_component_ids=(ROLES_LIST,))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "open": Preset(roles=_cooperative(), base=_base(), creator_role=4),
        "moderated": Preset(roles=_moderated(), base=_base(), creator_role=6),
        "announcement": Preset(roles=_administered(), base=_base(), creator_role=4),
        "direct": Preset(roles=_direct(), base=_base(fixed=True), creator_role=2),
    }
)
"""By the name a creator asks for; ``open`` is the draft's cooperatively, ``announcement`` its strictly
administered room.
"""
