"""Consent requests and what providers answer unasked."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import AppDataDictionary
from linearized.mimi.consent import ConsentEntry, ConsentOperation, ConsentScope
from tests.mimi.support import KEY_PACKAGE, vec


@pytest.mark.parametrize(
    ("entry", "data"),
    [
        (
            ConsentEntry(operation=ConsentOperation.REQUEST, requester_uri="a", target_uri="b", room_id="r"),
            b"\x01\x01a\x01b\x01\x01r\x00",
        ),
        (
            ConsentEntry(operation=ConsentOperation.CANCEL, requester_uri="a", target_uri="b"),
            b"\x00\x01a\x01b\x00\x00",
        ),
        (
            ConsentEntry(
                operation=ConsentOperation.GRANT,
                requester_uri="a",
                target_uri="b",
                client_key_packages=(KEY_PACKAGE,),
                extensions=AppDataDictionary.of({7: b"x"}),
            ),
            b"\x02\x01a\x01b\x00" + vec(KEY_PACKAGE) + b"\x04\x00\x07\x01x",
        ),
        (
            ConsentEntry(operation=ConsentOperation.REVOKE, requester_uri="a", target_uri="b"),
            b"\x03\x01a\x01b\x00\x00",
        ),
    ],
)
def test_only_a_grant_brings_key_packages(entry: ConsentEntry, data: bytes) -> None:
    assert entry.encode() == data
    assert ConsentEntry.decode(data) == entry


def test_a_cancel_has_the_scope_of_its_request() -> None:
    request = ConsentEntry.decode(b"\x01\x01a\x01b\x01\x01r\x00")
    cancel = ConsentEntry.decode(b"\x00\x01a\x01b\x01\x01r\x00")
    assert request.scope == cancel.scope == ConsentScope(requester_uri="a", target_uri="b", room_id="r")
    assert request.scope.encode() == b"\x01a\x01b\x01\x01r"


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(MimiDecodeError, match="4 is not a ConsentOperation"):
        ConsentEntry.decode(b"\x04\x01a\x01b\x00\x00")
