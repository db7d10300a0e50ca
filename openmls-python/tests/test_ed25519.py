"""Ed25519 on plain messages: RFC 8032 vectors, another implementation, and what only some take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from openmls import Ed25519Key, MalformedMessage, ed25519_verify, ed25519_verify_all

# RFC 8032, section 7.1: seed, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = (1).to_bytes(32, "little")
SEED, OTHER_SEED = bytes(32), bytes([1]) * 32
MESSAGE = b"in plain sight"


def both(key: bytes, message: bytes, signature: bytes) -> bool:
    alone = ed25519_verify(key, message, signature)
    assert ed25519_verify_all([(key, message, signature)]) == [alone]
    return alone


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = Ed25519Key.from_seed(bytes.fromhex(seed))
    assert key.public_key.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert both(key.public_key, bytes.fromhex(message), bytes.fromhex(signature))


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_libsodium_makes_and_takes_the_same_signatures(seed: bytes, message: bytes) -> None:
    ours, theirs = Ed25519Key.from_seed(seed), SigningKey(seed)
    signature = ours.sign(message)
    assert signature == theirs.sign(message).signature
    assert ours.public_key == bytes(theirs.verify_key)
    assert both(ours.public_key, message, signature)


@given(place=st.integers(0, 32 + 64 + len(MESSAGE) - 1), bit=st.integers(0, 7))
def test_one_bit_makes_a_signature_wrong_as_it_does_for_libsodium(place: int, bit: int) -> None:
    key = Ed25519Key.from_seed(SEED)
    parts = bytearray(key.public_key + key.sign(MESSAGE) + MESSAGE)
    parts[place] ^= 1 << bit
    public, signature, message = bytes(parts[:32]), bytes(parts[32:96]), bytes(parts[96:])
    assert not both(public, message, signature)
    with pytest.raises(BadSignatureError):
        VerifyKey(public).verify(message, signature)


def test_many_signatures_are_judged_each_for_itself_and_in_order() -> None:
    keys = [Ed25519Key.from_seed(SEED), Ed25519Key.from_seed(OTHER_SEED)]
    checks = [
        (key.public_key, bytes([number]), key.sign(bytes([number if number % 7 else 0])))
        for number, key in enumerate(keys * 25)
    ]
    assert ed25519_verify_all(checks) == [number == 0 or number % 7 != 0 for number in range(50)]
    assert ed25519_verify_all([]) == []


def test_a_second_form_of_a_signature_is_refused() -> None:
    key = Ed25519Key.from_seed(SEED)
    signature = key.sign(MESSAGE)
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not both(key.public_key, MESSAGE, signature[:32] + scalar.to_bytes(32, "little"))


def test_a_key_of_small_order_signs_nothing() -> None:
    # With this key and point, and zero for the scalar, the equation of RFC 8032 holds for every message.
    assert not both(IDENTITY, MESSAGE, IDENTITY + bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_have_32_bytes(length: int) -> None:
    signature = Ed25519Key.from_seed(SEED).sign(MESSAGE)
    assert not both(bytes(length), MESSAGE, signature)
    with pytest.raises(MalformedMessage):
        Ed25519Key.from_seed(bytes(length))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_signatures_have_64_bytes(length: int) -> None:
    key = Ed25519Key.from_seed(SEED)
    assert not both(key.public_key, MESSAGE, (key.sign(MESSAGE) + bytes(1))[:length])


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(Ed25519Key.from_seed(SEED)) == "<Ed25519Key>"


def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError):
        ed25519_verify_all([(bytes(32), "text", bytes(64))])  # type: ignore[list-item]
