"""What policy components share: media types, and bounds."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import MAX_ITEMS, MediaType, Optionality, Parameter
from linearized.mimi.policy.status import (
    STATUS_NOTIFICATION_POLICY,
    StatusNotificationPolicy,
    read_receipts,
)
from tests.mimi.support import vec

PARAMETER = Parameter(parameter_name="charset", parameter_value="utf-8")


def test_a_media_type_has_parameters_without_quotes() -> None:
    value = MediaType(media_type="text/plain", parameters=(PARAMETER,))
    encoded = vec(b"text/plain") + vec(vec(b"charset") + vec(b"utf-8"))
    assert value.encode() == encoded
    assert MediaType.decode(encoded) == value


def test_a_list_has_a_bound_both_ways() -> None:
    full = MediaType(media_type="a/b", parameters=(PARAMETER,) * MAX_ITEMS)
    assert MediaType.decode(full.encode()) == full
    with pytest.raises(ValueError, match="at most 256 items"):
        MediaType(media_type="a/b", parameters=(PARAMETER,) * (MAX_ITEMS + 1)).encode()
    with pytest.raises(MimiDecodeError, match="at most 256 items"):
        MediaType.decode(vec(b"a/b") + vec(PARAMETER.encode() * (MAX_ITEMS + 1)))


def test_an_optionality_is_one_of_three() -> None:
    value = StatusNotificationPolicy(
        delivery_notifications=Optionality.FORBIDDEN, read_receipts=Optionality.OPTIONAL
    )
    assert value.encode() == b"\x02\x00"
    assert StatusNotificationPolicy.decode(b"\x02\x00") == value
    with pytest.raises(MimiDecodeError, match="3 is not a Optionality"):
        StatusNotificationPolicy.decode(b"\x03\x00")
    with pytest.raises(MimiDecodeError, match="1 bytes follow"):
        StatusNotificationPolicy.decode(b"\x02\x00\x00")


def test_a_group_says_of_read_receipts_what_its_component_says_and_else_leaves_it_open() -> None:
    assert read_receipts({}) is Optionality.OPTIONAL
    for optionality in Optionality:
        policy = StatusNotificationPolicy(
            delivery_notifications=Optionality.OPTIONAL, read_receipts=optionality
        )
        assert read_receipts({STATUS_NOTIFICATION_POLICY: policy.encode()}) is optionality
    with pytest.raises(MimiDecodeError):
        read_receipts({STATUS_NOTIFICATION_POLICY: b"\x00"})
