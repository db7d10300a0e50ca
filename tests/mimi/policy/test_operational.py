"""The operational policy on the wire."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import MediaType
from linearized.mimi.policy.operational import (
    AppMessagePolicy,
    ExtendedCapabilities,
    MinDefaultMaxTime,
    OperationalParameters,
    PendingProposalPolicy,
    PendingProposalStrategy,
)
from tests.mimi.support import u16, vec

NOTHING = ExtendedCapabilities()
TIMES = MinDefaultMaxTime(minimum_time=1, default_time=2, maximum_time=3)
ENCODED_TIMES = bytes(7) + b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x03"
UNSPECIFIED, IMMEDIATE, RANDOM = PendingProposalStrategy


def test_operational_parameters_are_written_as_the_draft_lays_them_out() -> None:
    value = OperationalParameters(
        mandatory_capabilities=ExtendedCapabilities(
            versions=(1,),
            proposals=(8, 0xF000),
            media_types=(MediaType(media_type="text/plain"),),
            content_types=(1, 2),
        ),
        default_capabilities=NOTHING,
        forbidden_capabilities=NOTHING,
        handshake_formats=(1,),
        external_proposal_allowed=False,
        external_commit_allowed=True,
        pending_proposal_policy=PendingProposalPolicy(pending_proposal_strategy=IMMEDIATE),
        leaf_node_update_time=TIMES,
        app_message_policy=AppMessagePolicy(
            epoch_tolerance=1, pad_to_size=256, max_generations_skipahead=1000
        ),
        max_kp_lifetime=4,
        max_credential_lifetime=5,
        resumption_psk_lifetime=6,
        sender_nonce_keypair_lifetime=TIMES,
        max_keypairs=7,
        buffer_incoming_message_time=TIMES,
        max_buffered_messages=8,
    )
    encoded = (
        (vec(u16(1)) + vec() + vec() + vec(u16(8), u16(0xF000)) + vec() * 4)
        + (vec(vec(b"text/plain") + vec()) + vec(b"\x01\x02"))
        + vec() * 20
        + vec(u16(1))
        + b"\x00\x01"
        + b"\x01"
        + ENCODED_TIMES
        + (b"\x01" + u16(256) + b"\x00\x00\x03\xe8")
        + b"".join(bytes(7) + bytes([number]) for number in (4, 5, 6))
        + ENCODED_TIMES
        + b"\x00\x00\x00\x07"
        + ENCODED_TIMES
        + b"\x00\x00\x00\x08"
    )
    assert value.encode() == encoded
    assert OperationalParameters.decode(encoded) == value


def test_a_random_delay_has_bounds_and_other_strategies_have_none() -> None:
    value = PendingProposalPolicy(pending_proposal_strategy=RANDOM, minimum_delay_ms=1, maximum_delay_ms=2)
    assert value.encode() == b"\x02" + bytes(7) + b"\x01" + bytes(7) + b"\x02"
    assert PendingProposalPolicy.decode(b"\x00") == PendingProposalPolicy(
        pending_proposal_strategy=UNSPECIFIED
    )
    with pytest.raises(ValueError, match="no place"):
        PendingProposalPolicy(pending_proposal_strategy=IMMEDIATE, minimum_delay_ms=1).encode()


def test_a_strategy_without_a_number_cannot_be_read() -> None:
    with pytest.raises(MimiDecodeError, match="3 is not a PendingProposalStrategy"):
        PendingProposalPolicy.decode(b"\x03")
