"""MLS parameters of a room (draft-ietf-mimi-room-policy, "Operational policy component")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias

from linearized.mimi.policy.common import MAX_ITEMS, MediaType
from linearized.mimi.tls import Bool, Enumeration, Struct, Uint, Uint8, Uint16, Uint32, Uint64, Vector, When

Codes: TypeAlias = Annotated[tuple[int, ...], Vector(Uint(2), max_items=MAX_ITEMS)]
"""Numbers of one of MLS' 16-bit registries, whose growth must not make a policy unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedCapabilities(Struct):
    """Everything of MLS that a client can support or lack, by its registered numbers."""

    versions: Codes = ()
    cipher_suites: Codes = ()
    extensions: Codes = ()
    proposals: Codes = ()
    credentials: Codes = ()
    wire_formats: Codes = ()
    component_ids: Codes = ()
    safe_aad_types: Codes = ()
    media_types: Annotated[tuple[MediaType, ...], Vector(MediaType, max_items=MAX_ITEMS)] = ()
    content_types: Annotated[tuple[int, ...], Vector(Uint(1), max_items=MAX_ITEMS)] = ()


class PendingProposalStrategy(IntEnum):
    """When members commit pending proposals; ``extension`` of the draft's ``select`` has no number yet."""

    UNSPECIFIED = 0
    IMMEDIATE_COMMIT = 1
    RANDOM_DELAY = 2


_RANDOM = (PendingProposalStrategy.RANDOM_DELAY,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingProposalPolicy(Struct):
    """A strategy and, for a random delay, its bounds in milliseconds."""

    pending_proposal_strategy: Annotated[PendingProposalStrategy, Enumeration(PendingProposalStrategy)]
    minimum_delay_ms: Annotated[int | None, When("pending_proposal_strategy", _RANDOM, Uint(8))] = None
    maximum_delay_ms: Annotated[int | None, When("pending_proposal_strategy", _RANDOM, Uint(8))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MinDefaultMaxTime(Struct):
    """Three durations; the draft does not say in which unit."""

    minimum_time: Uint64
    default_time: Uint64
    maximum_time: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class AppMessagePolicy(Struct):
    """How far messages may be late or ahead, and to which multiple of octets they are padded."""

    epoch_tolerance: Uint8
    pad_to_size: Uint16
    max_generations_skipahead: Uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalParameters(Struct):
    """Data and update of the ``mls_operational_policy`` component.

    A hub keeps ``external_proposal_allowed`` and ``external_commit_allowed``; the rest is the clients' own.
    """

    mandatory_capabilities: ExtendedCapabilities
    default_capabilities: ExtendedCapabilities
    forbidden_capabilities: ExtendedCapabilities
    handshake_formats: Codes
    external_proposal_allowed: Bool
    external_commit_allowed: Bool
    pending_proposal_policy: PendingProposalPolicy
    leaf_node_update_time: MinDefaultMaxTime
    app_message_policy: AppMessagePolicy
    max_kp_lifetime: Uint64
    max_credential_lifetime: Uint64
    resumption_psk_lifetime: Uint64
    sender_nonce_keypair_lifetime: MinDefaultMaxTime
    max_keypairs: Uint32
    buffer_incoming_message_time: MinDefaultMaxTime
    max_buffered_messages: Uint32
