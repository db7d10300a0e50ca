"""Policy on what outlives its moment: logging, shared history, and messages that expire
(draft-ietf-mimi-room-policy, "Logging policy", "Chat history policy" and "Message expiration policy").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS, NOT_FORBIDDEN, Optionality, OptionalityField
from linearized.mimi.policy.roles import BANNED, NO_ROLE
from linearized.mimi.tls import MAX_URI_BYTES, Boolean, Maybe, Struct, Text, Uint, Vector, When

_URI = Text("ascii", MAX_URI_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingPolicy(Struct):
    """Data and update of the component: which clients log, and where the owning provider says how."""

    logging: OptionalityField
    logging_clients: Annotated[
        tuple[str, ...], When("logging", NOT_FORBIDDEN, Vector(_URI, max_items=MAX_ITEMS), absent=())
    ] = ()
    machine_readable_policy: Annotated[str, When("logging", NOT_FORBIDDEN, _URI, absent="")] = ""
    human_readable_policy: Annotated[str, When("logging", NOT_FORBIDDEN, _URI, absent="")] = ""

    def __post_init__(self) -> None:
        # "If logging is required, the list of logging_clients needs to contain at least one logging URI."
        if self.logging is Optionality.REQUIRED and not self.logging_clients:
            raise ValueError("logging is required and there is nobody to log")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPolicy(Struct):
    """Data and update of the component: who may show new joiners how much of the past.

    ``max_time_period`` is in seconds.
    """

    history_sharing: OptionalityField
    roles_that_can_share: Annotated[
        tuple[int, ...],
        When("history_sharing", NOT_FORBIDDEN, Vector(Uint(4), max_items=MAX_ITEMS), absent=()),
    ] = ()
    automatically_share: Annotated[bool, When("history_sharing", NOT_FORBIDDEN, Boolean(), absent=False)] = (
        False
    )
    max_time_period: Annotated[int, When("history_sharing", NOT_FORBIDDEN, Uint(4), absent=0)] = 0

    def __post_init__(self) -> None:
        # "The role index zero (non-participant) and one (banned) cannot be used in the who_can_share list,
        # nor can any role where max_active_participants is zero": the latter is for ``decode_policy``.
        if not {NO_ROLE, BANNED}.isdisjoint(self.roles_that_can_share):
            raise ValueError("history is shared by participants who are not banned")

    def shared_by(self, role: int | None) -> int:
        """How many seconds of history who has a role may share; 0 if they may not at all.

        "The history that is shared is limited to max_time_period seconds worth of history."
        """
        may = self.history_sharing is not Optionality.FORBIDDEN and role in self.roles_that_can_share
        return self.max_time_period if may else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageExpiration(Struct):
    """Data and update of the component; durations in seconds. Clients keep it: expiry is in the content."""

    expiring_messages: OptionalityField
    min_expiration_duration: Annotated[int, When("expiring_messages", NOT_FORBIDDEN, Uint(4), absent=0)] = 0
    max_expiration_duration: Annotated[int, When("expiring_messages", NOT_FORBIDDEN, Uint(4), absent=0)] = 0
    default_expiration_duration: Annotated[
        int | None, When("expiring_messages", NOT_FORBIDDEN, Maybe(Uint(4)))
    ] = None

    def __post_init__(self) -> None:
        # "the min_expiration_duration indicates the shortest acceptable expiration duration", the other "the
        # longest"; the default "indicates a preferred duration", so an acceptable one.
        shortest, longest = self.min_expiration_duration, self.max_expiration_duration
        default = self.default_expiration_duration
        if not shortest <= (longest if default is None else default) <= longest:
            raise ValueError("no duration is both long and short enough")

    def lifetime(self, wanted: int | None) -> int | None:
        """How many seconds a message has to live by this policy, whose sender wants ``wanted``; None is for
        ever.
        """
        if self.expiring_messages is Optionality.FORBIDDEN:
            return None
        if wanted is not None:
            return min(max(wanted, self.min_expiration_duration), self.max_expiration_duration)
        # "The default_expiration_duration optionally indicates a preferred duration in seconds."
        if self.default_expiration_duration is not None:
            return self.default_expiration_duration
        required = self.expiring_messages is Optionality.REQUIRED
        return self.max_expiration_duration if required else None
