"""What a commit makes of a group's application data (draft-ietf-mls-extensions, AppDataUpdate)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    apply_updates,
)
from linearized.mimi.policy.components import POLICY_COMPONENTS, apply_policy_update


class Update(Protocol):
    """One AppDataUpdate proposal."""

    @property
    def component_id(self) -> int:
        """Which component."""
        ...

    @property
    def operation(self) -> str:
        """``update`` or ``remove``."""
        ...

    @property
    def payload(self) -> bytes:
        """The component's own update format."""
        ...


def new_app_data(current: Mapping[int, bytes], updates: Iterable[Update]) -> dict[int, bytes]:
    """The values of the components that ``updates`` change, by component ID.

    The updates of the participant list and of joining links are deltas; every other component MIMI defines is
    updated by its whole new value.

    Raises:
        MimiDecodeError: such an update, or one of a policy component, is malformed or does not apply.
    """
    payloads: dict[int, list[bytes]] = {}
    for update in updates:
        if update.operation == "update":
            payloads.setdefault(update.component_id, []).append(update.payload)
    return {component: _value(component, current, values) for component, values in payloads.items()}


def _value(component: int, current: Mapping[int, bytes], payloads: list[bytes]) -> bytes:
    if component in POLICY_COMPONENTS:
        return apply_policy_update(current, component, payloads[-1])
    if component != PARTICIPANT_LIST:
        return payloads[-1]
    before = ParticipantListData.decode(current.get(component, ParticipantListData().encode()))
    return apply_updates(before, [ParticipantListUpdate.decode(payload) for payload in payloads]).encode()
