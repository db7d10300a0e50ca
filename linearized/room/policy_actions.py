"""What one user does to a group, judged by their role (draft-ietf-mimi-room-policy, "Role Capabilities")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.participants import FRANKING_AGENT, ROOM_METADATA
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import (
    BASE_ROOM_POLICY,
    JOIN_LINKS,
    MLS_OPERATIONAL_POLICY,
    PREAUTH_LIST,
    ROLES_LIST,
)
from linearized.mimi.policy.join_links import JoinLinksUpdate
from linearized.mimi.policy.roles import BANNED, NO_ROLE
from linearized.mimi.room_metadata import RoomMetaData
from linearized.protocol.state import StateMap, membership
from linearized.room.policy import RoomPolicy, forbid, require
from linearized.room.roles import is_banned
from linearized.room.submissions import Reason, Rejected

COMPONENT_CAPABILITIES: Final[Mapping[int, Capability]] = {
    BASE_ROOM_POLICY: Capability.CHANGE_ROOM_MEMBERSHIP_STYLE,
    ROLES_LIST: Capability.CHANGE_ROLE_DEFINITIONS,
    PREAUTH_LIST: Capability.CHANGE_PREAUTHORIZED_USER_LIST,
    MLS_OPERATIONAL_POLICY: Capability.CHANGE_MLS_OPERATIONAL_POLICIES,
}
METADATA_CAPABILITIES: Final[Mapping[str, Capability]] = {
    "room_name": Capability.CHANGE_ROOM_NAME,
    "room_descriptions": Capability.CHANGE_ROOM_DESCRIPTION,
    "room_avatar": Capability.CHANGE_ROOM_AVATAR,
    "room_subject": Capability.CHANGE_ROOM_SUBJECT,
    "room_mood": Capability.CHANGE_ROOM_MOOD,
}
GONE: Final = frozenset({"leave", "ban"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What one user proposes, all of it together.

    Attributes:
        user_id, credential: who, and the TLS-encoded Credential of the client that they do it with.
        listed: users added to the participant list, with their role.
        delisted: users removed from it.
        moved: users who get another role, with that role.
        added, removed: a user ID for each leaf added to and removed from the group.
        components: the other components it updates, with the update.
        external: whether the user is not in the group yet, or joins it again.
        replaces: whether they join with a client that is in the group.
        admitted: whether they join by a joining code.
        references: of their proposals, in a commit by somebody else.
    """

    user_id: str
    credential: bytes | None = None
    listed: Mapping[str, int] = field(default_factory=dict)
    delisted: frozenset[str] = frozenset()
    moved: Mapping[str, int] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    components: Mapping[int, bytes] = field(default_factory=dict)
    external: bool = False
    replaces: bool = False
    admitted: bool = False
    references: tuple[bytes, ...] = ()


def check_action(
    policy: RoomPolicy, action: Action, *, app_data: Mapping[int, bytes], state: StateMap
) -> None:
    """Check that a user's role has the capability for everything they do.

    What only follows from the log (who left it or was banned leaves the group as well) anybody may do.

    Args:
        policy: before the action.
        app_data: of the group before the action.
        state: the room's state before the action.

    Raises:
        Rejected: ``FORBIDDEN`` (MIMI's ``notAllowed``), naming what is missing.
    """
    for user_id, index in action.listed.items():
        _check_listed(policy, action, user_id, index, state)
    for user_id in action.delisted:
        _check_delisted(policy, action, user_id, state)
    for user_id, index in action.moved.items():
        _check_moved(policy, action, user_id, index, state)
    for user_id in action.added:
        _check_client_added(policy, action, user_id, state)
    for user_id in action.removed:
        _check_client_removed(policy, action, user_id, state)
    for component, update in action.components.items():
        _check_component(policy, action.user_id, component, update, app_data)


def _check_listed(policy: RoomPolicy, action: Action, user_id: str, index: int, state: StateMap) -> None:
    # "While clients of existing participants can be added, other users cannot be added".
    if policy.base.fixed_membership:
        forbid("The room's participants are fixed")
    own = user_id == action.user_id
    credential = action.credential if own else None
    # Who came in by themself has to be listed by somebody, in the role they may have.
    joined = membership(state, user_id) == "join"
    let_in = joined or action.admitted
    if (own or joined) and policy.may_enter(user_id, index, credential, by_code=let_in):
        return
    if own:
        # Of canAddParticipant: "This capability does not apply to the holder adding itself."
        forbid(f"{user_id} may not enter the room in role {index}")
    if is_banned(policy.roles, index):
        if membership(state, user_id) == "ban":
            return
        _require_move(policy, action.user_id, Capability.BAN, NO_ROLE, index)
        return
    # "The authorized_role_changes list MUST have an entry where the authorized_role_changes.from_role_index
    # equals zero, and that entry's target_role_indexes list includes the target role."
    _require_move(policy, action.user_id, Capability.ADD_PARTICIPANT, NO_ROLE, index)


def _check_delisted(policy: RoomPolicy, action: Action, user_id: str, state: StateMap) -> None:
    if membership(state, user_id) in GONE and not policy.is_banned(user_id):
        return
    if membership(state, user_id) == "leave":
        return  # a ban that was lifted in the log
    # "Ordinary users cannot leave or be removed".
    if policy.base.fixed_membership:
        forbid("The room's participants are fixed")
    capability = Capability.REMOVE_SELF if user_id == action.user_id else Capability.REMOVE_PARTICIPANT
    # "if the target_role_indexes for that entry contains zero".
    _require_move(policy, action.user_id, capability, policy.index_of(user_id), NO_ROLE)


def _check_moved(policy: RoomPolicy, action: Action, user_id: str, index: int, state: StateMap) -> None:
    source = policy.index_of(user_id)
    if user_id == action.user_id:
        # "the holder of this capability is authorized to change its own role to the first non-zero role it
        # matches in the Preauthorized users component".
        require(policy, user_id, Capability.CHANGE_OWN_ROLE)
        if not policy.is_preauthorized(user_id, index, action.credential):
            forbid(f"{user_id} is not preauthorized for role {index}")
        return
    if is_banned(policy.roles, index):
        if membership(state, user_id) != "ban":
            _check_ban(policy, action.user_id, user_id, source)
        return
    # "The authorization of this capability is identical to the canChangeUserRole capability, except that the
    # from_role_index for the unbanned user MUST be 1".
    if policy.is_banned(user_id) and policy.may(action.user_id, Capability.UN_BAN):
        _require_move(policy, action.user_id, Capability.UN_BAN, source, index)
    else:
        _require_move(policy, action.user_id, Capability.CHANGE_USER_ROLE, source, index)


def _check_ban(policy: RoomPolicy, sender: str, user_id: str, source: int) -> None:
    # "While holding canChangeUserRole and canKick capabilities would allow the same action".
    kicks = policy.may(sender, Capability.KICK) or not policy.clients.get(user_id)
    if kicks and policy.may_move(sender, Capability.CHANGE_USER_ROLE, source, BANNED):
        return
    _require_move(policy, sender, Capability.BAN, source, BANNED)


def _check_client_added(policy: RoomPolicy, action: Action, user_id: str, state: StateMap) -> None:
    if user_id == action.user_id:
        let_in = action.admitted or membership(state, user_id) == "join"
        # A client that comes back in its own place adds nothing.
        if action.replaces:
            return
        if user_id in policy.participants:
            # "a holder of this capability that is in the participant list, can add its own client".
            require(policy, user_id, Capability.ADD_OWN_CLIENT)
        elif user_id not in action.listed and not any(
            policy.may_enter(user_id, role.role_index, action.credential, by_code=let_in)
            for role in policy.roles.roles
        ):
            forbid(f"{user_id} is not a participant")
        return
    # "When the participant list addition for the target role is authorized, the holder is also authorized to
    # add any MLS clients matching the added user to the room's MLS group."
    if user_id not in action.listed:
        forbid(f"{action.user_id} may add clients of {user_id} only while adding them to the room")


def _check_client_removed(policy: RoomPolicy, action: Action, user_id: str, state: StateMap) -> None:
    moved = action.moved.get(user_id, NO_ROLE)
    leaves = user_id in action.delisted or is_banned(policy.roles, moved)
    if leaves or action.replaces or membership(state, user_id) in GONE:
        return
    own = user_id == action.user_id
    require(policy, action.user_id, Capability.REMOVE_OWN_CLIENT if own else Capability.KICK)


def _check_component(
    policy: RoomPolicy, user_id: str, component: int, update: bytes, app_data: Mapping[int, bytes]
) -> None:
    try:
        if component == ROOM_METADATA:
            _check_metadata(policy, user_id, update, app_data.get(ROOM_METADATA))
        elif component == JOIN_LINKS:
            changes = JoinLinksUpdate.decode(update)
            if changes.added_links:
                require(policy, user_id, Capability.CREATE_JOIN_CODE)
            if changes.removed_indices:
                require(policy, user_id, Capability.DELETE_JOIN_CODE)
        elif component != FRANKING_AGENT:  # nobody's choice: it is the hub's (``franks``)
            needed = COMPONENT_CAPABILITIES.get(component, Capability.CHANGE_OTHER_POLICY_ATTRIBUTE)
            require(policy, user_id, needed)
    except MimiDecodeError as error:
        raise Rejected(Reason.INVALID_PROPOSAL, f"Component {component:#06x}: {error}") from error


def _check_metadata(policy: RoomPolicy, user_id: str, update: bytes, current: bytes | None) -> None:
    new = RoomMetaData.decode(update)
    old = RoomMetaData(room_uri=new.room_uri) if current is None else RoomMetaData.decode(current)
    # "The holder of each of the following capabilities is authorized to update the Room metadata …, changing
    # the relevant field". Nobody's capability is to give a room another name than it has.
    if new.room_uri != old.room_uri:
        forbid("A room's URI does not change")
    for name, capability in METADATA_CAPABILITIES.items():
        if getattr(new, name) != getattr(old, name):
            require(policy, user_id, capability)


def _require_move(policy: RoomPolicy, user_id: str, capability: Capability, source: int, target: int) -> None:
    require(policy, user_id, capability)
    if not policy.may_move(user_id, capability, source, target):
        forbid(f"The role of {user_id} may not move anybody from role {source} to role {target}")
