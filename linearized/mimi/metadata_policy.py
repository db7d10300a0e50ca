"""What a hub says it keeps of the metadata of its rooms, and what somebody who joins may insist on.

"Perhaps an owning server gets to dynamically advertise metadata requirements, akin to advertising supported
ciphersuites?" and "make it clear where individual providers have opted to require or share extra metadata"
(MIMI interim meeting, February 2023). No draft has a form for it; this one is ours.

The document is a JSON object that a hub signs with the key that the groups of its rooms hold for it. Times
are in seconds: 0 says that nothing is kept, null that there is no bound.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from linearized.exceptions import InvalidInput, MimiDecodeError
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.retention import LoggingPolicy
from linearized.mimi.tls import Bytes, String, Struct

SIGNATURE_LABEL: Final = "LinearizedMetadataPolicyTBS"
"""Label of ``SignWithLabel``; what is signed is a ``MetadataPolicyTBS``."""
MAX_DOCUMENT_BYTES: Final = 4 * 1024  # seven fields and a signature
MAX_SECONDS: Final = 2**53 - 1  # the largest whole number every reader of JSON agrees on
_TIMES: Final = (
    "addresses_seconds",
    "log_seconds",
    "history_seconds",
    "replies_seconds",
    "reports_seconds",
)


class MetadataPolicyError(InvalidInput):
    """A hub does not keep to what is required of it, or does not say that it does.

    Attributes:
        reasons: what is missing, a sentence for each.
    """

    def __init__(self, hub: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"{hub} does not meet what is required of a hub: {'; '.join(reasons)}")
        self.reasons = reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPolicy:
    """What a hub keeps, for how long, and what it sees.

    Attributes:
        addresses_seconds: the network addresses of clients and of other providers.
        log_seconds: the server's own log, which names rooms, servers and users.
        history_seconds: the rooms' logs, with who sent what when and who came and went.
        replies_seconds: which requests were answered, for those who repeat theirs.
        reports_seconds: reports of abuse, once they are closed.
        sees_participants: whether the hub knows who is in its rooms.
        sees_senders: whether it knows who sends each message.
    """

    addresses_seconds: int | None
    log_seconds: int | None
    history_seconds: int | None
    replies_seconds: int | None
    reports_seconds: int | None
    sees_participants: bool
    sees_senders: bool

    def encode(self) -> bytes:
        """JSON without spaces, its names sorted."""
        return orjson.dumps({item.name: getattr(self, item.name) for item in fields(self)}, option=_SORTED)

    @classmethod
    def decode(cls, data: bytes) -> MetadataPolicy:
        """Read a policy; fields that we do not know are passed over, as a later form may have more.

        Raises:
            MimiDecodeError: it is none.
        """
        if len(data) > MAX_DOCUMENT_BYTES:
            raise MimiDecodeError(f"a metadata policy of more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MimiDecodeError("a metadata policy must be JSON") from error
        if not isinstance(value, dict):
            raise MimiDecodeError("a metadata policy must be a JSON object")
        return cls(
            addresses_seconds=_time(value, "addresses_seconds"),
            log_seconds=_time(value, "log_seconds"),
            history_seconds=_time(value, "history_seconds"),
            replies_seconds=_time(value, "replies_seconds"),
            reports_seconds=_time(value, "reports_seconds"),
            sees_participants=_fact(value, "sees_participants"),
            sees_senders=_fact(value, "sees_senders"),
        )


_SORTED: Final = orjson.OPT_SORT_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPolicyTBS(Struct):
    """What is signed: the hub's domain and its MetadataPolicy."""

    provider: String
    policy: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMetadataPolicy(MetadataPolicyTBS):
    """A policy as it travels."""

    signature: Bytes  # SignWithLabel(hub_sender.signature_key, SIGNATURE_LABEL, MetadataPolicyTBS)

    def signed(self) -> bytes:
        """The MetadataPolicyTBS that was signed."""
        return MetadataPolicyTBS(provider=self.provider, policy=self.policy).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredPolicy:
    """What somebody insists on before joining. None and False ask for nothing.

    Attributes:
        addresses_seconds, log_seconds, history_seconds, replies_seconds, reports_seconds: the longest time.
        hidden_participants: whether the hub must not know who is in the room.
        hidden_senders: whether it must not know who sends each message.
        no_logging_clients: whether nobody in the room may log its messages (``logging_policy`` of the room).
    """

    addresses_seconds: int | None = None
    log_seconds: int | None = None
    history_seconds: int | None = None
    replies_seconds: int | None = None
    reports_seconds: int | None = None
    hidden_participants: bool = False
    hidden_senders: bool = False
    no_logging_clients: bool = False

    @property
    def of_hub(self) -> bool:
        """Whether anything is asked of the hub, rather than of the room alone."""
        times = any(getattr(self, name) is not None for name in _TIMES)
        return times or self.hidden_participants or self.hidden_senders


def shortfalls(policy: MetadataPolicy, required: RequiredPolicy) -> tuple[str, ...]:
    """What a hub's policy lacks of what is required; nothing if it meets it."""
    reasons: list[str] = []
    for name in _TIMES:
        most, kept = getattr(required, name), getattr(policy, name)
        if most is not None and (kept is None or kept > most):
            said = "without a bound" if kept is None else f"for {kept} seconds"
            reasons.append(f"it keeps {name.removesuffix('_seconds')} {said}, at most {most} are accepted")
    if required.hidden_participants and policy.sees_participants:
        reasons.append("it sees the participants")
    if required.hidden_senders and policy.sees_senders:
        reasons.append("it sees the senders")
    return tuple(reasons)


def require_policy(hub: str, policy: MetadataPolicy, required: RequiredPolicy) -> None:
    """Hold a hub to what is required of it.

    Raises:
        MetadataPolicyError: it falls short.
    """
    reasons = shortfalls(policy, required)
    if reasons:
        raise MetadataPolicyError(hub, reasons)


def require_no_logging(hub: str, logging: LoggingPolicy | None, required: RequiredPolicy) -> None:
    """Hold a room's ``logging_policy`` (None if it has none) to what is required.

    Raises:
        MetadataPolicyError: somebody logs the room's messages.
    """
    # "If logging is optional and there is at least one logging_client then logging is active for the room."
    active = logging is not None and logging.logging is not Optionality.FORBIDDEN and logging.logging_clients
    if required.no_logging_clients and active:
        raise MetadataPolicyError(hub, ("clients in the room log its messages",))


def _time(value: dict[str, Any], name: str) -> int | None:
    found = value.get(name, _MISSING)
    if found is not None and (type(found) is not int or not 0 <= found <= MAX_SECONDS):
        raise MimiDecodeError(f"{name} must be a number of seconds or null")
    return found


def _fact(value: dict[str, Any], name: str) -> bool:
    found = value.get(name)
    if not isinstance(found, bool):
        raise MimiDecodeError(f"{name} must be true or false")
    return found


_MISSING: Final = object()
