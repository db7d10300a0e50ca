"""Joining codes: who may make them, and what joining by one means in the log.

A code is an invitation that its creator gave in advance; the hub keeps the codes, the room their rules.
"""

from __future__ import annotations

from linearized.mimi.policy.capabilities import Capability
from linearized.protocol.power_levels import level_to, user_level
from linearized.protocol.state import StateMap, membership
from linearized.room.participation import StateChange, addition
from linearized.room.policy import RoomPolicy, forbid, require


def check_join_codes(policy: RoomPolicy | None, user_id: str, state: StateMap, *, creates: bool) -> None:
    """Check that a user may make joining codes, or revoke them (anybody's).

    Args:
        policy: None in a room without one.
        state: the room's.
        creates: whether to make one.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    if membership(state, user_id) != "join":
        forbid(f"{user_id} is not joined to the room")
    # What is done with the code, its creator does: they invite.
    if user_level(state, user_id) < level_to(state, "invite"):
        forbid(f"{user_id} may not invite anybody")
    if policy is not None:
        require(policy, user_id, Capability.CREATE_JOIN_CODE if creates else Capability.DELETE_JOIN_CODE)


def admission_changes(user_id: str, inviter: str | None, state: StateMap) -> list[StateChange]:
    """The entries by which a user joins by a code: its creator invites them, and they join.

    Args:
        inviter: None for who came without a code.
        state: the room's before them. Who is joined already gets none.
    """
    return [] if inviter is None else addition(user_id, inviter, state, joins=True)
