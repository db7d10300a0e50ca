"""SignWithLabel and EncryptWithLabel, against independent implementations where there are any."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature as CryptographyInvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.signing import SigningKey

import openmls
from forge import vector
from openmls import (
    CannotDecrypt,
    Client,
    HpkeKeyPair,
    InvalidSignature,
    MalformedMessage,
    NotAllowed,
    SignatureKeyPair,
    encrypt_with_label,
    verify_with_label,
)
from support import SUITES


def sign_content(label: str, content: bytes) -> bytes:
    """SignContent of RFC 9420 section 5.1.2."""
    return vector(b"MLS 1.0 " + label.encode()) + vector(content)


def test_a_signature_is_ed25519_over_sign_content() -> None:
    pair = SignatureKeyPair.generate()
    signature = pair.sign_with_label(label="FrankAssertion", content=b"content")
    key = Ed25519PublicKey.from_public_bytes(pair.public_key)
    key.verify(signature, sign_content("FrankAssertion", b"content"))
    with pytest.raises(CryptographyInvalidSignature):
        key.verify(signature, sign_content("FrankAssertion", b"other"))


def test_a_signature_of_another_library_verifies() -> None:
    key = Ed25519PrivateKey.generate()
    signature = key.sign(sign_content("Label", b"c" * 100))
    public = key.public_key().public_bytes_raw()
    verify_with_label(
        ciphersuite=1, public_key=public, label="Label", content=b"c" * 100, signature=signature
    )


def test_the_private_key_is_an_ed25519_seed() -> None:
    seed = bytes(range(32))
    pair = SignatureKeyPair.from_bytes(seed)
    assert pair.to_bytes() == seed
    assert pair.public_key == bytes(SigningKey(seed).verify_key)


@pytest.mark.parametrize("suite", SUITES)
def test_signatures_verify_only_with_the_same_key_label_and_content(suite: int) -> None:
    pair = SignatureKeyPair.generate(ciphersuite=suite)
    again = SignatureKeyPair.from_bytes(pair.to_bytes(), ciphersuite=suite)
    assert again.public_key == pair.public_key
    assert again.ciphersuite == suite
    signature = again.sign_with_label(label="L", content=b"c")
    good = {"public_key": pair.public_key, "content": b"c", "signature": signature}
    verify_with_label(ciphersuite=suite, label="L", **good)
    with pytest.raises(InvalidSignature):
        verify_with_label(ciphersuite=suite, label="M", **good)
    other = SignatureKeyPair.generate(ciphersuite=suite).public_key
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    for change in (
        {"public_key": other},
        {"content": b"d"},
        {"signature": flipped},
        {"signature": b""},
        {"public_key": b""},
    ):
        with pytest.raises(InvalidSignature):
            verify_with_label(ciphersuite=suite, label="L", **{**good, **change})


def test_a_client_signs_with_the_key_it_was_given() -> None:
    pair = SignatureKeyPair.generate()
    client = Client.create(identity=b"x", signature_key=pair)
    assert client.signature_key == pair.public_key
    assert client.sign_with_label(label="L", content=b"c") == pair.sign_with_label(label="L", content=b"c")
    with pytest.raises(NotAllowed):
        Client.create(identity=b"x", ciphersuite=2, signature_key=pair)


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_encrypted_with_a_label_is_decrypted_with_label_and_context(suite: int) -> None:
    pair = HpkeKeyPair.generate(ciphersuite=suite)
    sealed = encrypt_with_label(
        ciphersuite=suite, public_key=pair.public_key, label="L", context=b"c", plaintext=b"secret"
    )
    assert pair.decrypt_with_label(label="L", context=b"c", ciphertext=sealed) == b"secret"
    for label, context in (("M", b"c"), ("L", b"d")):
        with pytest.raises(CannotDecrypt):
            pair.decrypt_with_label(label=label, context=context, ciphertext=sealed)
    with pytest.raises(CannotDecrypt):
        HpkeKeyPair.generate(ciphersuite=suite).decrypt_with_label(label="L", context=b"c", ciphertext=sealed)
    with pytest.raises(CannotDecrypt):
        pair.decrypt_with_label(label="L", context=b"c", ciphertext=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    for damaged in (b"", sealed[:-1], sealed + b"\x00"):
        with pytest.raises(MalformedMessage):
            pair.decrypt_with_label(label="L", context=b"c", ciphertext=damaged)
    with pytest.raises(NotAllowed):
        encrypt_with_label(ciphersuite=suite, public_key=b"", label="L", context=b"", plaintext=b"")


def test_the_hash_is_that_of_the_ciphersuite() -> None:
    for suite in SUITES:
        expected = hashlib.sha384 if suite == 7 else hashlib.sha256
        assert openmls.hash(suite, b"content") == expected(b"content").digest()
