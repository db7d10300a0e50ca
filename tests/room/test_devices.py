"""Device objects: what a device signs, and what makes one invalid."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from linearized.exceptions import CanonicalJsonError, EventFormatError, InvalidInput, SignatureError
from linearized.mimi.key_material import basic_credential
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.signing import SigningKey
from linearized.room.algorithms import DEFAULT_ALGORITHM
from linearized.room.credentials import client_of, encode_credential
from linearized.room.devices import (
    CREDENTIAL_KEY,
    Device,
    published_key,
    signed_device,
    unsigned_device,
    verify_device,
)

ALICE = "@alice:example.org"
KEY = SigningKey.generate("x", b"d" * 32)
KEY_ID = "m.mls.v1.credential.ed25519:ABCDEF"


def device(**changes: Any) -> JsonObject:
    """The draft's example, signed after the changes."""
    unsigned = unsigned_device(
        user_id=ALICE, device_id="ABCDEF", algorithms=(DEFAULT_ALGORITHM,), signature_key=KEY.verify_key
    )
    unsigned |= changes
    return signed_device(unsigned, KEY.sign(canonical_json(unsigned)))


def verified(obj: JsonObject) -> Device:
    return verify_device(obj, user_id=ALICE, device_id="ABCDEF")


def test_a_device_says_what_the_draft_shows() -> None:
    obj = device()
    assert CREDENTIAL_KEY == "m.mls.v1.credential.ed25519"
    assert obj.keys() == {"device_id", "user_id", "algorithms", "keys", "signatures"}
    assert obj["keys"].keys() == {KEY_ID}
    assert obj["signatures"][ALICE].keys() == {KEY_ID}
    found = verified(obj)
    assert (found.user_id, found.device_id, found.algorithms) == (ALICE, "ABCDEF", (DEFAULT_ALGORITHM,))
    assert found.signature_key == published_key(obj) == KEY.verify_key
    assert found.credential == encode_credential(ALICE, "ABCDEF", KEY.verify_key)
    assert client_of(basic_credential(found.credential), signature_key=KEY.verify_key).user_id == ALICE


def test_fields_the_draft_does_not_name_are_signed_along() -> None:
    assert verified(device(display_name="Phone"))
    with pytest.raises(SignatureError):
        verified(device(display_name="Phone") | {"display_name": "Tablet"})


@pytest.mark.parametrize("field", ["device_id", "user_id", "algorithms", "keys", "signatures"])
def test_all_top_level_fields_must_be_supplied(field: str) -> None:
    obj = device()
    del obj[field]
    with pytest.raises(EventFormatError, match="missing"):
        verified(obj)


def keys(value: object, key_id: str = KEY_ID) -> JsonObject:
    return {"keys": {key_id: value}}


def credential(user_id: str = ALICE, device_id: str = "ABCDEF", key: bytes = KEY.verify_key) -> str:
    return encode_base64(encode_credential(user_id, device_id, key))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"user_id": "@eve:example.org"}, EventFormatError),
        ({"device_id": "OTHER"}, EventFormatError),
        ({"algorithms": "m.mls.v1"}, EventFormatError),
        ({"algorithms": [1]}, EventFormatError),
        ({"keys": []}, SignatureError),
        ({"keys": {}}, SignatureError),
        (keys(credential(), "m.mls.v1.credential.ed25519:OTHER"), SignatureError),
        ({"keys": {KEY_ID: credential(), "curve25519:ABCDEF": "AA"}}, SignatureError),
        (keys(5), EventFormatError),
        (keys("*"), EventFormatError),
        (keys("AAAA"), EventFormatError),
        (keys(credential(user_id="@eve:example.org")), EventFormatError),
        (keys(credential(device_id="OTHER")), EventFormatError),
        (keys(credential(key=b"short")), EventFormatError),
        (keys(credential(key=b"k" * 32)), SignatureError),
        ({"weight": 1.5}, CanonicalJsonError),
    ],
)
def test_an_object_that_does_not_hold_together_is_refused(
    changes: JsonObject, kind: type[InvalidInput]
) -> None:
    obj = device() | changes
    with pytest.raises(kind):
        verified(obj)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda signatures: signatures.clear(),
        lambda signatures: signatures[ALICE].clear(),
        lambda signatures: signatures[ALICE].update({KEY_ID: "AAAA"}),
        lambda signatures: signatures[ALICE].update({KEY_ID: signatures[ALICE][KEY_ID][::-1]}),
        lambda signatures: signatures.update({ALICE: {"ed25519:ABCDEF": signatures[ALICE][KEY_ID]}}),
        lambda signatures: signatures.update({"example.org": signatures.pop(ALICE)}),
    ],
)
def test_a_missing_or_wrong_signature_makes_the_device_invalid(spoil: Callable[[JsonObject], Any]) -> None:
    obj = deepcopy(device())
    spoil(obj["signatures"])
    with pytest.raises(SignatureError):
        verified(obj)
