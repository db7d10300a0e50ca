"""What of a room's roles a participant can hold its hub to, without the room's MLS tree.

Each commit brings a GroupInfo, whose group context has the policy and the participant list of the epoch that
follows. A participant cannot verify that it is the group's; what the hub itself hands out it can still hold
the hub to. Memberships, power levels and join rules may follow from a commit that stands behind them, so they
are left to the authorization rules here, and to whoever has the whole log (``linearized room verify``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import MimiDecodeError
from linearized.mimi.group_info import app_data_of
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.state import JOIN_RULES, POWER_LEVELS, StateMap
from linearized.room.content import binary
from linearized.room.policy import RoomPolicy, policy_of
from linearized.room.policy_events import check_event
from linearized.room.roles import EVENT_CAPABILITIES, has_policy
from linearized.room.submissions import Rejected

SEEN_TYPES: Final = EVENT_CAPABILITIES.keys() - {POWER_LEVELS[0], JOIN_RULES[0]}
"""Types of events that no commit brings about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGroup:
    """What the last commit showed of a group: its application data, None before one was seen, and its policy
    without anybody's clients, None if it has none or it cannot be read: what does not hold was the hub's to
    refuse, and clients refuse it.
    """

    app_data: Mapping[int, bytes] | None = None
    policy: RoomPolicy | None = None


NOTHING_SEEN: Final = SeenGroup()


def seen_group(content: JsonObject) -> SeenGroup:
    """What a commit shows of the group after it.

    Args:
        content: of an ``m.mls.commit``, with what its parts hold.
    """
    try:
        app_data = app_data_of(binary(content, "public_group_state"))
    except (MimiDecodeError, Rejected):
        return NOTHING_SEEN
    try:
        policy = policy_of(app_data, {}) if has_policy(app_data) else None
    except (MimiDecodeError, Rejected):
        policy = None
    return SeenGroup(app_data=app_data, policy=policy)


def check_seen(policy: RoomPolicy | None, event: Event, state: StateMap) -> None:
    """Hold an event to the role of its sender, as far as a participant can.

    Args:
        policy: after the last commit; None if the room has none, or none was seen.
        state: the room's state before the event.

    Raises:
        Rejected: ``FORBIDDEN``: the hub should have refused it.
    """
    if policy is not None and event.type in SEEN_TYPES and not event.imported:
        check_event(policy, event, state)
