"""Logging, history and expiry on the wire, and the rules of their text."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.retention import HistoryPolicy, LoggingPolicy, MessageExpiration
from linearized.mimi.tls import Struct
from tests.mimi.support import vec

OPTIONAL, REQUIRED, FORBIDDEN = Optionality
LOGGER = "mimi://a.example/u/logger"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (LoggingPolicy(logging=FORBIDDEN), b"\x02"),
        (LoggingPolicy(logging=OPTIONAL), b"\x00" + vec() + vec() + vec()),
        (
            LoggingPolicy(
                logging=REQUIRED, logging_clients=(LOGGER,), human_readable_policy="https://a.example/log"
            ),
            b"\x01" + vec(vec(LOGGER.encode())) + vec() + vec(b"https://a.example/log"),
        ),
        (HistoryPolicy(history_sharing=FORBIDDEN), b"\x02"),
        (
            HistoryPolicy(
                history_sharing=OPTIONAL,
                roles_that_can_share=(3,),
                automatically_share=True,
                max_time_period=5,
            ),
            b"\x00" + vec(b"\x00\x00\x00\x03") + b"\x01" + b"\x00\x00\x00\x05",
        ),
        (MessageExpiration(expiring_messages=FORBIDDEN), b"\x02"),
        (
            MessageExpiration(
                expiring_messages=REQUIRED,
                min_expiration_duration=1,
                max_expiration_duration=3,
                default_expiration_duration=2,
            ),
            b"\x01" + b"\x00\x00\x00\x01" + b"\x00\x00\x00\x03" + b"\x01\x00\x00\x00\x02",
        ),
    ],
)
def test_the_policy_is_written_as_the_draft_lays_it_out(value: Struct, encoded: bytes) -> None:
    assert value.encode() == encoded
    assert type(value).decode(encoded) == value


def test_history_is_shared_by_the_roles_that_may_for_as_long_as_they_may() -> None:
    policy = HistoryPolicy(history_sharing=OPTIONAL, roles_that_can_share=(3,), max_time_period=5)
    assert [policy.shared_by(role) for role in (3, 4, None)] == [5, 0, 0]
    assert HistoryPolicy(history_sharing=FORBIDDEN).shared_by(3) == 0


def test_required_logging_names_who_logs() -> None:
    with pytest.raises(MimiDecodeError, match="nobody to log"):
        LoggingPolicy.decode(b"\x01" + vec() + vec() + vec())


@pytest.mark.parametrize("index", [0, 1])
def test_history_is_shared_by_participants_who_are_not_banned(index: int) -> None:
    with pytest.raises(MimiDecodeError, match="not banned"):
        HistoryPolicy.decode(b"\x00" + vec(index.to_bytes(4, "big")) + b"\x00" + bytes(4))


@pytest.mark.parametrize(("least", "most", "default"), [(2, 1, None), (2, 3, 1), (2, 3, 4)])
def test_a_duration_has_to_be_both_long_and_short_enough(least: int, most: int, default: int | None) -> None:
    with pytest.raises(ValueError, match="no duration"):
        MessageExpiration(
            expiring_messages=OPTIONAL,
            min_expiration_duration=least,
            max_expiration_duration=most,
            default_expiration_duration=default,
        )


def test_what_is_forbidden_says_nothing_more() -> None:
    with pytest.raises(ValueError, match="no place"):
        LoggingPolicy(logging=FORBIDDEN, logging_clients=(LOGGER,)).encode()


@pytest.mark.parametrize(
    ("kind", "default", "wanted", "lifetime"),
    [
        (OPTIONAL, None, None, None),
        (OPTIONAL, 90, None, 90),
        (REQUIRED, None, None, 600),
        (REQUIRED, 90, None, 90),
        (REQUIRED, 90, 59, 60),
        (OPTIONAL, 90, 100, 100),
        (OPTIONAL, None, 601, 600),
    ],
)
def test_a_message_lives_as_long_as_its_sender_wants_and_the_policy_allows(
    kind: Optionality, default: int | None, wanted: int | None, lifetime: int | None
) -> None:
    policy = MessageExpiration(
        expiring_messages=kind,
        min_expiration_duration=60,
        max_expiration_duration=600,
        default_expiration_duration=default,
    )
    assert policy.lifetime(wanted) == lifetime


def test_where_expiring_is_forbidden_nothing_expires() -> None:
    policy = MessageExpiration(expiring_messages=FORBIDDEN)
    assert policy.lifetime(60) is None
    assert policy.lifetime(None) is None
