"""How many participants and clients a room may have (draft-ietf-mimi-room-policy, "Roles" and "Base Room
policy").
"""

from __future__ import annotations

from collections import Counter

from linearized.room.policy import RoomPolicy, forbid
from linearized.room.roles import banned_of


def check_limits(before: RoomPolicy, after: RoomPolicy) -> None:
    """Hold a change to the limits of the policy after it.

    A limit is broken by what goes over a maximum or under a minimum. A room that is outside of one already,
    as a new room is of most minimums, may still move towards it.

    Raises:
        Rejected: ``FORBIDDEN``, naming the limit.
    """
    if after.participants is before.participants and after.clients is before.clients:
        return  # nobody comes, goes or changes their role; and there may be many
    old, new = _by_role(before), _by_role(after)
    old_active, new_active = _by_role(before, active=True), _by_role(after, active=True)
    for role in after.roles.roles:
        index, name = role.role_index, role.role_name
        _hold(
            old[index],
            new[index],
            (role.minimum_participants_constraint, role.maximum_participants_constraint),
            f"participants of the role {name}",
        )
        _hold(
            old_active[index],
            new_active[index],
            (role.minimum_active_participants_constraint, role.maximum_active_participants_constraint),
            f"active participants of the role {name}",
        )
    # "the room MUST NOT have more non-banned entries in the participant list than that value."
    _hold(_users(before), _users(after), (0, after.base.max_users), "participants")
    # "the room's associated MLS group MUST NOT have more clients than the provided value."
    total = sum(after.clients.values())
    _hold(sum(before.clients.values()), total, (0, after.base.max_clients), "clients")
    # "If false only a single client can be an MLS member at one time."
    if not after.base.multi_device:
        for user_id, count in after.clients.items():
            _hold(before.clients.get(user_id, 0), count, (0, 1), f"clients of {user_id}")


def _hold(old: int, new: int, limits: tuple[int, int | None], what: str) -> None:
    least, most = limits
    if most is not None and old < new > most:
        forbid(f"The room policy allows {most} {what}")
    if new < least and new < old:
        forbid(f"The room policy demands {least} {what}")


def _by_role(policy: RoomPolicy, *, active: bool = False) -> Counter[int]:
    """Participants of each role; ``active`` for those with clients in the group only."""
    return Counter(
        index for user, index in policy.participants.items() if not active or policy.clients.get(user)
    )


def _users(policy: RoomPolicy) -> int:
    return len(policy.participants) - len(banned_of(policy.participants, policy.roles))
