"""SignWithLabel and EncryptWithLabel, against independent implementations where there are any."""

import pytest
from cryptography.exceptions import InvalidSignature as CryptographyInvalidSignature
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.signing import SigningKey

import openmls
from forge import Reader, vector
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

SUITES = (1, 2, 3)


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


def test_unknown_ciphersuites_are_refused_everywhere() -> None:
    for suite in (0, 4, 7, 0xF000):
        with pytest.raises(NotAllowed):
            SignatureKeyPair.generate(ciphersuite=suite)
        with pytest.raises(NotAllowed):
            HpkeKeyPair.generate(ciphersuite=suite)
        with pytest.raises(NotAllowed):
            Client.create(identity=b"x", ciphersuite=suite)
        with pytest.raises(NotAllowed):
            openmls.hash(suite, b"")


def test_hash_is_sha256_for_all_supported_ciphersuites() -> None:
    empty = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert [openmls.hash(suite, b"") for suite in SUITES] == [empty] * 3


def test_hpke_agrees_with_another_library() -> None:
    """EncryptContext is the HPKE info; HPKECiphertext are encapsulated key and ciphertext as vectors."""
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
    info = sign_content("L", b"context")
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    sealed = Reader(
        encrypt_with_label(
            ciphersuite=1, public_key=public, label="L", context=b"context", plaintext=b"to them"
        )
    )
    assert suite.decrypt(sealed.vector() + sealed.vector(), private, info) == b"to them"
    ours = HpkeKeyPair.generate()
    theirs = suite.encrypt(b"to us", X25519PublicKey.from_public_bytes(ours.public_key), info)
    ciphertext = vector(theirs[:32]) + vector(theirs[32:])
    assert ours.decrypt_with_label(label="L", context=b"context", ciphertext=ciphertext) == b"to us"


def test_a_short_private_key_is_malformed() -> None:
    for suite in SUITES:
        with pytest.raises(MalformedMessage):
            SignatureKeyPair.from_bytes(b"short", ciphersuite=suite)


@pytest.mark.parametrize("suite", [2, 3])
def test_groups_work_with_the_other_ciphersuites(suite: int, now: int) -> None:
    alice = Client.create(identity=b"alice", ciphersuite=suite)
    bob = Client.create(identity=b"bob", ciphersuite=suite)
    group = alice.create_group(group_id=b"g")
    bundle = group.commit(add=[bob.key_package(now=now, lifetime=1000)])
    assert bundle.welcome is not None
    group.merge_pending_commit()
    joined = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert joined.process(group.encrypt(b"x")).plaintext == b"x"
    hub = openmls.PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
    again = Client.create(identity=b"bob", ciphersuite=suite)
    rejoined, bundle = again.join_external(
        group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree, replace_leaf=1
    )
    staged = hub.stage_commit(bundle.commit)
    hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    group.process(bundle.commit)
    rejoined.merge_pending_commit()
    assert group.process(rejoined.encrypt(b"back")).plaintext == b"back"
