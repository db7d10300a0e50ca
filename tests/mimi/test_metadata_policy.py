"""What hubs say they keep, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.metadata_policy import (
    MAX_DOCUMENT_BYTES,
    MAX_SECONDS,
    MetadataPolicy,
    MetadataPolicyError,
    RequiredPolicy,
    SignedMetadataPolicy,
    require_no_logging,
    require_policy,
    shortfalls,
)
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.retention import LoggingPolicy

POLICY = MetadataPolicy(
    addresses_seconds=0,
    log_seconds=86400,
    history_seconds=None,
    replies_seconds=100,
    reports_seconds=200,
    sees_participants=True,
    sees_senders=True,
)
HUB = "a.example"


def test_a_policy_is_a_json_object_with_its_names_sorted() -> None:
    assert POLICY.encode() == (
        b'{"addresses_seconds":0,"history_seconds":null,"log_seconds":86400,"replies_seconds":100,'
        b'"reports_seconds":200,"sees_participants":true,"sees_senders":true}'
    )
    assert MetadataPolicy.decode(POLICY.encode()) == POLICY


def test_what_a_later_form_adds_is_passed_over() -> None:
    value = {**orjson.loads(POLICY.encode()), "sees_the_future": True}
    assert MetadataPolicy.decode(orjson.dumps(value)) == POLICY


@pytest.mark.parametrize(
    "change",
    [
        {"log_seconds": -1},
        {"log_seconds": True},
        {"log_seconds": 1.5},
        {"log_seconds": "1"},
        {"log_seconds": MAX_SECONDS + 1},
        {"sees_senders": 1},
        {"sees_senders": None},
    ],
)
def test_a_field_of_another_type_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MimiDecodeError):
        MetadataPolicy.decode(orjson.dumps({**orjson.loads(POLICY.encode()), **change}))


@pytest.mark.parametrize("name", sorted(orjson.loads(POLICY.encode())))
def test_a_field_that_is_missing_is_no_promise(name: str) -> None:
    value = orjson.loads(POLICY.encode())
    del value[name]
    with pytest.raises(MimiDecodeError):
        MetadataPolicy.decode(orjson.dumps(value))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b" " * (MAX_DOCUMENT_BYTES + 1)])
def test_what_is_no_policy_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        MetadataPolicy.decode(data)


def test_who_asks_for_nothing_is_content() -> None:
    assert shortfalls(POLICY, RequiredPolicy()) == ()
    assert not RequiredPolicy().of_hub
    assert not RequiredPolicy(no_logging_clients=True).of_hub


def test_what_a_hub_keeps_longer_is_named() -> None:
    required = RequiredPolicy(addresses_seconds=0, log_seconds=86400, replies_seconds=99, history_seconds=10)
    assert required.of_hub
    with pytest.raises(MetadataPolicyError, match=HUB) as raised:
        require_policy(HUB, POLICY, required)
    assert raised.value.reasons == (
        "it keeps history without a bound, at most 10 are accepted",
        "it keeps replies for 100 seconds, at most 99 are accepted",
    )
    require_policy(HUB, replace(POLICY, history_seconds=10, replies_seconds=0), required)


def test_what_a_hub_sees_is_named() -> None:
    required = RequiredPolicy(hidden_participants=True, hidden_senders=True)
    assert required.of_hub
    assert shortfalls(POLICY, required) == ("it sees the participants", "it sees the senders")
    assert shortfalls(replace(POLICY, sees_participants=False, sees_senders=False), required) == ()


def test_clients_that_log_are_refused_where_that_is_required() -> None:
    logger = ("mimi://a.example/d/logger/1",)
    active = LoggingPolicy(logging=Optionality.OPTIONAL, logging_clients=logger)
    with pytest.raises(MetadataPolicyError, match="log its messages"):
        require_no_logging(HUB, active, RequiredPolicy(no_logging_clients=True))
    require_no_logging(HUB, active, RequiredPolicy())
    for quiet in (
        None,
        LoggingPolicy(logging=Optionality.FORBIDDEN),
        LoggingPolicy(logging=Optionality.OPTIONAL),
    ):
        require_no_logging(HUB, quiet, RequiredPolicy(no_logging_clients=True))


def test_a_policy_is_signed_with_the_name_of_its_hub() -> None:
    signed = SignedMetadataPolicy(provider=HUB, policy=b"{}", signature=b"signature")
    assert signed.signed() == b"\x09a.example\x02{}"
    assert SignedMetadataPolicy.decode(signed.encode()) == signed


times = st.none() | st.integers(0, MAX_SECONDS)
policies = st.builds(
    MetadataPolicy,
    addresses_seconds=times,
    log_seconds=times,
    history_seconds=times,
    replies_seconds=times,
    reports_seconds=times,
    sees_participants=st.booleans(),
    sees_senders=st.booleans(),
)


@settings(deadline=None)
@given(policies)
def test_any_policy_round_trips_and_is_content_with_itself(policy: MetadataPolicy) -> None:
    assert MetadataPolicy.decode(policy.encode()) == policy
    required = RequiredPolicy(
        addresses_seconds=policy.addresses_seconds,
        log_seconds=policy.log_seconds,
        history_seconds=policy.history_seconds,
        replies_seconds=policy.replies_seconds,
        reports_seconds=policy.reports_seconds,
        hidden_participants=not policy.sees_participants,
        hidden_senders=not policy.sees_senders,
    )
    assert shortfalls(policy, required) == ()


@settings(deadline=None)
@given(
    st.binary(max_size=40) | policies.map(MetadataPolicy.encode), st.integers(0, 200), st.binary(max_size=2)
)
def test_any_bytes_are_a_policy_or_refused(data: bytes, at: int, more: bytes) -> None:
    damaged = data[:at] + more + data[at + 1 :]
    try:
        found = MetadataPolicy.decode(damaged)
    except MimiDecodeError:
        return
    assert MetadataPolicy.decode(found.encode()) == found
