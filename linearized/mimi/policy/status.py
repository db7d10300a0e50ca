"""Policy on delivery and read notifications (draft-ietf-mimi-room-policy, "Status Notifications")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linearized.mimi.policy.common import Optionality, OptionalityField
from linearized.mimi.tls import Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusNotificationPolicy(Struct):
    """Data and update of the component. Clients keep it: a notification is a message like any other."""

    delivery_notifications: OptionalityField
    read_receipts: OptionalityField


STATUS_NOTIFICATION_POLICY: Final = 0x0028


def read_receipts(app_data: Mapping[int, bytes]) -> Optionality:
    """What a group asks of its members about saying what they have read; a group that says nothing leaves it
    to them.

    Raises:
        MimiDecodeError: the component is malformed.
    """
    data = app_data.get(STATUS_NOTIFICATION_POLICY)
    return Optionality.OPTIONAL if data is None else StatusNotificationPolicy.decode(data).read_receipts
