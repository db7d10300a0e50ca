"""Policy on delivery and read notifications (draft-ietf-mimi-room-policy, "Status Notifications")."""

from __future__ import annotations

from dataclasses import dataclass

from linearized.mimi.policy.common import OptionalityField
from linearized.mimi.tls import Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusNotificationPolicy(Struct):
    """Data and update of the component. Clients keep it: a notification is a message like any other."""

    delivery_notifications: OptionalityField
    read_receipts: OptionalityField
