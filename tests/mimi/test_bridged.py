from __future__ import annotations

import pytest

from linearized.mimi.bridged import BRIDGED_CLIENT, MAX_PROTOCOL_BYTES, BridgedClient, bridged_client


def test_a_bridges_client_says_which_protocol_its_user_speaks() -> None:
    data = BridgedClient(protocol="matrix").encode()
    assert data == b"\x06matrix"
    assert bridged_client({BRIDGED_CLIENT: data}) == BridgedClient(protocol="matrix")


def test_a_leaf_that_says_nothing_is_no_bridges() -> None:
    assert bridged_client({}) is None
    assert bridged_client({1: b"\x06matrix"}) is None


@pytest.mark.parametrize(
    "data", [b"", b"\x07matrix", b"\x06matrix ", b"\x01\xff", bytes([MAX_PROTOCOL_BYTES + 1]) + b"x" * 33]
)
def test_what_cannot_be_read_says_nothing(data: bytes) -> None:
    assert bridged_client({BRIDGED_CLIENT: data}) is None
