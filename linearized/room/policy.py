"""The policy of a room whose creator chose one: its roles, who has which, and what that allows
(draft-ietf-mimi-room-policy).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn, TypeVar

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import (
    BASE_ROOM_POLICY,
    MLS_OPERATIONAL_POLICY,
    POLICY_COMPONENTS,
    PREAUTH_LIST,
    ROLES_LIST,
    decode_policy,
)
from linearized.mimi.policy.operational import OperationalParameters
from linearized.mimi.policy.preauth import PreAuthData
from linearized.mimi.policy.roles import NO_ROLE, Role, RoleData
from linearized.mimi.tls import Struct
from linearized.room.claims import claims_of, preauthorized_role
from linearized.room.roles import is_banned
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import participants_of

S = TypeVar("S", bound=Struct)

KEPT: Final = 512
"""Policy components whose reading is kept: each commit looks at all of them before and after it, and they
hardly ever change. A few kilobytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPolicy:
    """A room's policy in one epoch of its group.

    ``participants`` are user IDs with their role index, ``clients`` user IDs with how many leaves they have.
    """

    roles: RoleData
    base: BaseRoomPolicy = field(default_factory=BaseRoomPolicy)
    preauth: PreAuthData = field(default_factory=PreAuthData)
    operational: OperationalParameters | None = None
    participants: Mapping[str, int]
    clients: Mapping[str, int]

    def index_of(self, user_id: str) -> int:
        """The index of a user's role; 0 for who is no participant."""
        return self.participants.get(user_id, NO_ROLE)

    def role_of(self, user_id: str) -> Role:
        """A user's role."""
        return self.roles.role(self.index_of(user_id))

    def may(self, user_id: str, capability: Capability) -> bool:
        """Whether a user has a capability."""
        return self.role_of(user_id).has(capability)

    def may_move(self, user_id: str, capability: Capability, source: int, target: int) -> bool:
        """Whether a user has a capability and may move others from a role to another with it."""
        role = self.role_of(user_id)
        return role.has(capability) and target in role.targets(source)

    def is_banned(self, user_id: str) -> bool:
        """Whether a user is listed as banned."""
        return is_banned(self.roles, self.index_of(user_id))

    def is_preauthorized(self, user_id: str, index: int, credential: bytes | None = None) -> bool:
        """Whether a user's credential gives them a role."""
        return preauthorized_role(self.preauth, claims_of(user_id, credential)) == index

    def may_enter(
        self, user_id: str, index: int, credential: bytes | None = None, *, by_code: bool = False
    ) -> bool:
        """Whether a user who is no participant may take a role by themself.

        Args:
            by_code: whether the hub has let them in, as by a joining code.
        """
        lobby = self.roles.role(NO_ROLE)
        # "The holder can add itself with any non-zero target_role_indexes from that entry".
        if lobby.has(Capability.OPEN_JOIN) and index != NO_ROLE and index in lobby.targets(NO_ROLE):
            return True
        # "the holder of this capability can externally join a room using a join code for that room, provided
        # the join code is valid, the join code refers to a valid target role".
        if by_code and lobby.has(Capability.USE_JOIN_CODE) and NO_ROLE != index in lobby.targets(NO_ROLE):
            return True
        # "a client that is not already in the participant list can externally join as that target role if
        # authorized for that role as the first matching role in the Preauthorized users mechanism".
        return self.roles.role(index).has(Capability.JOIN_IF_PREAUTHORIZED) and self.is_preauthorized(
            user_id, index, credential
        )

    def entrances(self, user_id: str) -> list[int]:
        """The roles a user who is no participant may take by themself."""
        if self.base.fixed_membership:
            return []
        return [role.role_index for role in self.roles.roles if self.may_enter(user_id, role.role_index)]


def policy_of(app_data: Mapping[int, bytes], clients: Mapping[str, int]) -> RoomPolicy:
    """The policy of a group that has one.

    Args:
        app_data: of the group context.
        clients: how many leaves each user has in the group.

    Raises:
        Rejected: ``INVALID_COMMIT`` if a component is malformed, or two contradict each other.
    """
    try:
        _check(tuple((key, app_data[key]) for key in POLICY_COMPONENTS if key in app_data))
        roles = _part(app_data, ROLES_LIST, RoleData) or RoleData()
    except (MimiDecodeError, ValueError) as error:
        raise Rejected(Reason.INVALID_COMMIT, f"The room policy does not hold: {error}") from error
    base = _part(app_data, BASE_ROOM_POLICY, BaseRoomPolicy) or BaseRoomPolicy()
    return RoomPolicy(
        roles=roles,
        base=base,
        preauth=preauth_of(app_data),
        operational=_part(app_data, MLS_OPERATIONAL_POLICY, OperationalParameters),
        participants=participants_of(app_data),
        clients=clients,
    )


def preauth_of(app_data: Mapping[int, bytes]) -> PreAuthData:
    """Who is preauthorized in a group whose policy was found to hold."""
    return _part(app_data, PREAUTH_LIST, PreAuthData) or PreAuthData()


def _part(app_data: Mapping[int, bytes], component: int, kind: type[S]) -> S | None:
    if component not in app_data:
        return None
    found = _decode(component, app_data[component])
    assert isinstance(found, kind)  # noqa: S101 - the table says so
    return found


@lru_cache(KEPT)
def _decode(component: int, data: bytes) -> Struct:
    return POLICY_COMPONENTS[component].decode(data)


@lru_cache(KEPT)
def _check(components: tuple[tuple[int, bytes], ...]) -> None:
    decode_policy(dict(components))


def forbid(text: str) -> NoReturn:
    """Refuse what the policy does not allow; MIMI's code is ``notAllowed``."""
    raise Rejected(Reason.FORBIDDEN, text)


def require(policy: RoomPolicy, user_id: str, capability: Capability) -> None:
    """Refuse who has not a capability.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    if not policy.may(user_id, capability):
        forbid(f"The role of {user_id} does not have {capability.label}")
