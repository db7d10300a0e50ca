from __future__ import annotations

from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given

from linearized.exceptions import CanonicalJsonError, ConfigError, SignatureError
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.signing import (
    MAX_SIGNATURES_PER_ENTITY,
    RetiredKey,
    ServerIdentity,
    SigningKey,
    add_signature,
    sign_json,
    signatures_of,
    verify_json,
)
from tests.protocol.support import HUB, PARTICIPANT, json_objects, quick

KEYS = {HUB.key.key_id: HUB.key.verify_key}
SIGNED = sign_json({"a": 1}, name=HUB.name, key=HUB.key)


def with_signature(key_id: str, signature: object) -> dict[str, Any]:
    return {"a": 1, "signatures": {HUB.name: {key_id: signature}}}


def verify(obj: dict[str, Any], keys: dict[str, bytes] | None = None) -> None:
    verify_json(obj, name=HUB.name, keys=KEYS if keys is None else keys)


# RFC 8032, section 7.1, TEST 2.
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_KEY = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_keys_and_signatures_are_those_of_rfc_8032() -> None:
    key = SigningKey.generate("a", RFC_SEED)
    assert key.verify_key == RFC_KEY
    assert key.sign(b"\x72") == RFC_SIGNATURE


def test_a_key_file_line_round_trips_and_is_the_one_signedjson_writes() -> None:
    key = SigningKey.parse(HUB.key.to_line() + "\n")
    assert key == HUB.key
    (theirs,) = signedjson.key.read_signing_keys([HUB.key.to_line()])
    assert theirs.verify_key.encode() == HUB.key.verify_key
    assert (theirs.alg, theirs.version) == ("ed25519", HUB.key.version)


def test_the_repr_of_a_key_hides_the_seed() -> None:
    assert repr(HUB.key) == "SigningKey(key_id='ed25519:hub')"
    assert encode_base64(HUB.key.seed) not in repr(HUB)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ed25519 a",
        f"rsa a {encode_base64(b'a' * 32)}",
        f"ed25519 a-b {encode_base64(b'a' * 32)}",
        f"ed25519 a {encode_base64(b'a' * 31)}",
        f"ed25519 a {encode_base64(b'a' * 32)} x",
        "ed25519 a secret!",
    ],
)
def test_a_malformed_key_line_is_refused_without_being_repeated(line: str) -> None:
    with pytest.raises(ConfigError, match="signing key") as caught:
        SigningKey.parse(line)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@quick
@given(json_objects)
def test_signedjson_accepts_our_signatures_and_we_theirs(obj: dict[str, Any]) -> None:
    # signedjson leaves "unsigned" out of what it signs; the draft does not.
    obj = {name: value for name, value in obj.items() if name not in {"signatures", "unsigned"}}
    (theirs,) = signedjson.key.read_signing_keys([HUB.key.to_line()])
    ours = sign_json(obj, name=HUB.name, key=HUB.key)
    signedjson.sign.verify_signed_json(ours, HUB.name, signedjson.key.get_verify_key(theirs))
    verify(signedjson.sign.sign_json(dict(obj), HUB.name, theirs))
    assert ours == signedjson.sign.sign_json(dict(obj), HUB.name, theirs)


def test_signing_keeps_other_signatures_and_leaves_its_argument_alone() -> None:
    other = SigningKey.generate("second", b"d" * 32)
    twice = sign_json(SIGNED, name=HUB.name, key=other)
    both = sign_json(twice, name=PARTICIPANT.name, key=PARTICIPANT.key)
    assert SIGNED["signatures"].keys() == {HUB.name}
    assert SIGNED["signatures"][HUB.name].keys() == {HUB.key.key_id}
    assert twice["signatures"][HUB.name].keys() == {HUB.key.key_id, other.key_id}
    verify(both)
    verify(both, {other.key_id: other.verify_key})
    verify_json(both, name=PARTICIPANT.name, keys={PARTICIPANT.key.key_id: PARTICIPANT.key.verify_key})


def test_everything_but_signatures_is_covered_unsigned_too() -> None:
    obj = sign_json({"a": 1, "unsigned": {"age": 1}}, name=HUB.name, key=HUB.key)
    verify(obj)
    with pytest.raises(SignatureError, match="wrong"):
        verify(obj | {"unsigned": {"age": 2}})


@pytest.mark.parametrize(
    "obj",
    [
        {"a": 1},
        {"a": 1, "signatures": None},
        {"a": 1, "signatures": []},
        {"a": 1, "signatures": {}},
        {"a": 1, "signatures": {HUB.name: []}},
        {"a": 1, "signatures": {HUB.name: [HUB.key.key_id]}},
        {"a": 1, "signatures": {HUB.name: 5}},
        {"a": 1, "signatures": {HUB.name: {}}},
        {"a": 1, "signatures": {PARTICIPANT.name: SIGNED["signatures"][HUB.name]}},
        with_signature(HUB.key.key_id, None),
        with_signature(HUB.key.key_id, "not base64!"),
        with_signature(HUB.key.key_id, ""),
        with_signature(HUB.key.key_id, encode_base64(b"a" * 63)),
        with_signature(HUB.key.key_id, encode_base64(b"a" * 64)),
        with_signature("ed25519:other", SIGNED["signatures"][HUB.name][HUB.key.key_id]),
        {**SIGNED, "a": 2},
        {**SIGNED, "b": 1},
    ],
)
def test_a_missing_malformed_or_wrong_signature_is_refused(obj: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        verify(obj)


def test_each_signature_by_a_known_key_must_be_right() -> None:
    other = SigningKey.generate("second", b"d" * 32)
    good = sign_json(SIGNED, name=HUB.name, key=other)
    both = {**KEYS, other.key_id: other.verify_key}
    verify(good, both)
    bad = add_signature(SIGNED, name=HUB.name, key_id=other.key_id, signature=b"\0" * 64)
    verify(bad)
    with pytest.raises(SignatureError, match="second"):
        verify(bad, both)


def test_a_known_key_of_the_wrong_length_or_kind_is_no_key() -> None:
    with pytest.raises(SignatureError, match="length"):
        verify(SIGNED, {HUB.key.key_id: b"short"})
    odd = with_signature("rsa:1", SIGNED["signatures"][HUB.name][HUB.key.key_id])
    with pytest.raises(SignatureError, match="known key"):
        verify(odd, {"rsa:1": HUB.key.verify_key})


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_degenerate_key_verifies_nothing(key: bytes) -> None:
    # With a key of small order, a signature of zeros passes in verifiers that do not refuse such keys.
    for signature in (bytes(64), key + bytes(32)):
        with pytest.raises(SignatureError, match="wrong"):
            verify(with_signature(HUB.key.key_id, encode_base64(signature)), {HUB.key.key_id: key})


def test_padded_and_url_safe_signatures_are_read() -> None:
    signature = decode_base64(SIGNED["signatures"][HUB.name][HUB.key.key_id])
    padded = encode_base64(signature).replace("+", "-").replace("/", "_") + "=="
    verify(with_signature(HUB.key.key_id, padded))


def test_more_signatures_of_one_entity_than_anyone_needs_are_refused() -> None:
    signature = SIGNED["signatures"][HUB.name][HUB.key.key_id]
    many = {f"ed25519:{n}": signature for n in range(MAX_SIGNATURES_PER_ENTITY)}
    assert len(signatures_of({"signatures": {HUB.name: many}}, HUB.name)) == MAX_SIGNATURES_PER_ENTITY
    with pytest.raises(SignatureError, match="too many"):
        verify({"a": 1, "signatures": {HUB.name: many | {"ed25519:x": signature}}})


def test_an_object_without_a_canonical_form_can_be_neither_signed_nor_verified() -> None:
    with pytest.raises(CanonicalJsonError):
        sign_json({"a": 1.5}, name=HUB.name, key=HUB.key)
    with pytest.raises(CanonicalJsonError):
        verify({**SIGNED, "a": 1.5})


def test_every_key_a_server_ever_signed_with_verifies() -> None:
    old = SigningKey.generate("old", b"o" * 32)
    retired = RetiredKey(key_id=old.key_id, verify_key=old.verify_key, expired_ts=1)
    identity = ServerIdentity(HUB.name, HUB.key, (retired,))
    assert identity.verify_keys == {old.key_id: old.verify_key, HUB.key.key_id: HUB.key.verify_key}
    for key in (old, HUB.key):
        verify_json(sign_json({}, name=HUB.name, key=key), name=HUB.name, keys=identity.verify_keys)
