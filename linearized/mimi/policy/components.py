"""The policy components of a group: their IDs, their types, and what must hold between them
(draft-ietf-mimi-room-policy, "New MLS application components").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from linearized.mimi.policy.assets import AssetPolicy
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.bots import BotPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.join_links import (
    JoinLinkPolicy,
    JoinLinksData,
    JoinLinksUpdate,
    apply_link_update,
)
from linearized.mimi.policy.link_preview import LinkPreviewPolicy
from linearized.mimi.policy.operational import OperationalParameters
from linearized.mimi.policy.preauth import PreAuthData
from linearized.mimi.policy.retention import HistoryPolicy, LoggingPolicy, MessageExpiration
from linearized.mimi.policy.roles import NO_ROLE, RoleData
from linearized.mimi.policy.status import STATUS_NOTIFICATION_POLICY, StatusNotificationPolicy
from linearized.mimi.tls import Struct

MLS_OPERATIONAL_POLICY: Final = 0x0024
ROLES_LIST: Final = 0x0025
PREAUTH_LIST: Final = 0x0026
BASE_ROOM_POLICY: Final = 0x0027
JOIN_LINK_POLICY: Final = 0x0029
JOIN_LINKS: Final = 0x002A
LINK_PREVIEW_POLICY: Final = 0x002B
ASSET_POLICY: Final = 0x002C
LOGGING_POLICY: Final = 0x002D
CHAT_HISTORY_POLICY: Final = 0x002E
BOT_POLICY: Final = 0x002F
MESSAGE_EXPIRATION_POLICY: Final = 0x0030

POLICY_COMPONENTS: Mapping[int, type[Struct]] = MappingProxyType(
    {
        MLS_OPERATIONAL_POLICY: OperationalParameters,
        ROLES_LIST: RoleData,
        PREAUTH_LIST: PreAuthData,
        BASE_ROOM_POLICY: BaseRoomPolicy,
        STATUS_NOTIFICATION_POLICY: StatusNotificationPolicy,
        JOIN_LINK_POLICY: JoinLinkPolicy,
        JOIN_LINKS: JoinLinksData,
        LINK_PREVIEW_POLICY: LinkPreviewPolicy,
        ASSET_POLICY: AssetPolicy,
        LOGGING_POLICY: LoggingPolicy,
        CHAT_HISTORY_POLICY: HistoryPolicy,
        BOT_POLICY: BotPolicy,
        MESSAGE_EXPIRATION_POLICY: MessageExpiration,
    }
)
"""What the ``data`` of each component is. An update has the same form, except that of ``JOIN_LINKS``."""


def decode_policy(app_data: Mapping[int, bytes]) -> dict[int, Struct]:
    """Every policy component in a group's application data, by component ID; other components are left out.

    Raises:
        MimiDecodeError: one is malformed.
        ValueError: two contradict each other.
    """
    found = {
        component: kind.decode(app_data[component])
        for component, kind in POLICY_COMPONENTS.items()
        if component in app_data
    }
    roles, base = found.get(ROLES_LIST), found.get(BASE_ROOM_POLICY)
    if isinstance(roles, RoleData):
        if isinstance(base, BaseRoomPolicy):
            _check_fixed(base, roles)
        _check_referenced(found, roles)
    return found


def apply_policy_update(app_data: Mapping[int, bytes], component: int, update: bytes) -> bytes:
    """The data of a policy component after the ``update`` of an AppDataUpdate.

    "the value of the update field completely replaces the value of the data field", except for joining links.

    Raises:
        MimiDecodeError: the update is malformed or does not apply.
    """
    if component != JOIN_LINKS:
        POLICY_COMPONENTS[component].decode(update)
        return update
    links, policy = app_data.get(JOIN_LINKS), app_data.get(JOIN_LINK_POLICY)
    return apply_link_update(
        JoinLinksData() if links is None else JoinLinksData.decode(links),
        JoinLinksUpdate.decode(update),
        None if policy is None else JoinLinkPolicy.decode(policy),
    ).encode()


def _check_fixed(base: BaseRoomPolicy, roles: RoleData) -> None:
    # "other users cannot be added, so none of its non-zero, non-banned roles can contain the
    # canAddParticipant capability."
    if base.fixed_membership and any(role.has(Capability.ADD_PARTICIPANT) for role in roles.non_banned()):
        raise ValueError("in a room of fixed membership a role adds participants")


def _check_referenced(found: Mapping[int, Struct], roles: RoleData) -> None:
    known = {role.role_index: role for role in roles.roles}
    preauth, history, bots = (found.get(key) for key in (PREAUTH_LIST, CHAT_HISTORY_POLICY, BOT_POLICY))
    named: set[int] = set()
    if isinstance(preauth, PreAuthData):
        named |= {entry.target_role.role_index for entry in preauth.preauthorized_entries}
    if isinstance(bots, BotPolicy):
        named |= {bot.bot_role_index for bot in bots.allowed_bots} - {NO_ROLE}
    if isinstance(history, HistoryPolicy):
        named |= set(history.roles_that_can_share)
        # "nor can any role where max_active_participants is zero."
        for index in history.roles_that_can_share:
            if index in known and known[index].maximum_active_participants_constraint == 0:
                raise ValueError(f"role {index} has no clients to share history with")
    if named - known.keys():
        raise ValueError(f"a policy refers to role {min(named - known.keys())}, which is none")
