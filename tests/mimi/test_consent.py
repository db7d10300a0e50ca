"""Consent requests and what providers answer unasked."""

from __future__ import annotations

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.app_data import AppDataDictionary
from linearized.mimi.consent import (
    ConsentEntry,
    ConsentOperation,
    ConsentScope,
    ConsentState,
    KeyPackages,
    consent_after,
    consent_refusal,
)
from linearized.mimi.key_material import KeyMaterialUserCode
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


REQUESTED, GRANTED, REVOKED = ConsentState.REQUESTED, ConsentState.GRANTED, ConsentState.REVOKED


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        (None, ConsentOperation.REQUEST, REQUESTED),
        (REQUESTED, ConsentOperation.REQUEST, REQUESTED),
        (GRANTED, ConsentOperation.REQUEST, GRANTED),
        (REVOKED, ConsentOperation.REQUEST, REVOKED),
        (None, ConsentOperation.CANCEL, None),
        (REQUESTED, ConsentOperation.CANCEL, None),
        (GRANTED, ConsentOperation.CANCEL, GRANTED),
        (REVOKED, ConsentOperation.CANCEL, REVOKED),
        (None, ConsentOperation.GRANT, GRANTED),
        (REQUESTED, ConsentOperation.GRANT, GRANTED),
        (GRANTED, ConsentOperation.GRANT, GRANTED),
        (REVOKED, ConsentOperation.GRANT, GRANTED),
        (None, ConsentOperation.REVOKE, REVOKED),
        (REQUESTED, ConsentOperation.REVOKE, REVOKED),
        (GRANTED, ConsentOperation.REVOKE, REVOKED),
        (REVOKED, ConsentOperation.REVOKE, REVOKED),
    ],
)
def test_what_an_operation_makes_of_a_consent(
    before: ConsentState | None, operation: ConsentOperation, after: ConsentState | None
) -> None:
    assert consent_after(before, operation) is after


NO, NOT_HERE = KeyMaterialUserCode.NO_CONSENT, KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM


@pytest.mark.parametrize(
    ("states", "required", "refusal"),
    [
        ({}, False, None),
        ({}, True, NO),
        ({None: REQUESTED}, True, NO),
        ({None: REQUESTED}, False, None),
        ({None: GRANTED}, True, None),
        ({None: REVOKED}, False, NO),
        ({"r": GRANTED}, True, None),
        ({"r": GRANTED, None: REVOKED}, False, None),
        ({"r": REVOKED}, False, NOT_HERE),
        ({"r": REVOKED, None: GRANTED}, True, NOT_HERE),
        ({"r": REQUESTED, None: GRANTED}, True, None),
        ({"r": REQUESTED}, True, NO),
        ({"other": GRANTED}, True, NOT_HERE),
        ({"other": GRANTED, None: REVOKED}, False, NOT_HERE),
        ({"other": REVOKED}, False, None),
    ],
)
def test_who_may_have_key_packages_for_a_room(
    states: dict[str | None, ConsentState], required: bool, refusal: KeyMaterialUserCode | None
) -> None:
    assert consent_refusal(states, "r", required=required) is refusal


def test_a_request_that_names_no_room_is_held_to_what_was_said_about_any() -> None:
    assert consent_refusal({None: GRANTED}, None, required=True) is None
    assert consent_refusal({"r": GRANTED}, None, required=True) is NOT_HERE
    assert consent_refusal({"r": REVOKED}, None, required=False) is None


def test_kept_key_packages_are_read_back() -> None:
    kept = KeyPackages(packages=(KEY_PACKAGE, KEY_PACKAGE))
    assert KeyPackages.decode(kept.encode()) == kept
    with pytest.raises(MimiDecodeError):
        KeyPackages.decode(kept.encode()[:-1])
