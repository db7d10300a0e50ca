"""Keys, signatures and HPKE of every ciphersuite, against other libraries and published test vectors."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import openmls
from forge import Reader, read_leaf, vector
from openmls import HpkeKeyPair, SignatureKeyPair, encrypt_with_label, verify_with_label
from support import SUITES

VECTORS = Path(__file__).parent / "vectors"
KEY_PACKAGES: list[dict[str, str | int]] = json.loads((VECTORS / "key-packages.json").read_text())["cases"]
X_WING: list[dict[str, str]] = json.loads((VECTORS / "x-wing.json").read_text())["cases"]

CURVES: dict[int, ec.EllipticCurve] = {2: ec.SECP256R1(), 7: ec.SECP384R1()}
HASHES: dict[int, hashes.HashAlgorithm] = {2: hashes.SHA256(), 7: hashes.SHA384()}
HPKE_SUITES = {
    1: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM),
    2: hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM),
    3: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    7: hpke.Suite(hpke.KEM.P384, hpke.KDF.HKDF_SHA384, hpke.AEAD.AES_256_GCM),
    0x4D: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
}
ENCAPSULATED = {1: 32, 2: 65, 3: 32, 7: 97, 0x4D: 1120}
ML_KEM_PUBLIC = 1184

PrivateKey = X25519PrivateKey | ec.EllipticCurvePrivateKey | MLKEM768X25519PrivateKey
PublicKey = X25519PublicKey | ec.EllipticCurvePublicKey | MLKEM768X25519PublicKey


def label_and_content(label: str, content: bytes) -> bytes:
    """SignContent and EncryptContext of RFC 9420 sections 5.1.2 and 5.1.3."""
    return vector(b"MLS 1.0 " + label.encode()) + vector(content)


def their_private(suite: int, private: bytes) -> PrivateKey:
    if suite in CURVES:
        return ec.derive_private_key(int.from_bytes(private, "big"), CURVES[suite])
    if suite == 0x4D:
        # expandDecapsulationKey, draft-connolly-cfrg-xwing-kem-06 section 5.2
        seed = hashlib.shake_256(private).digest(96)
        ml_kem = MLKEM768PrivateKey.from_seed_bytes(seed[:64])
        return MLKEM768X25519PrivateKey(ml_kem, X25519PrivateKey.from_private_bytes(seed[64:]))
    return X25519PrivateKey.from_private_bytes(private)


def their_public(suite: int, public: bytes) -> PublicKey:
    if suite in CURVES:
        return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[suite], public)
    if suite == 0x4D:
        ml_kem = MLKEM768PublicKey.from_public_bytes(public[:ML_KEM_PUBLIC])
        return MLKEM768X25519PublicKey(ml_kem, X25519PublicKey.from_public_bytes(public[ML_KEM_PUBLIC:]))
    return X25519PublicKey.from_public_bytes(public)


@pytest.mark.parametrize("suite", SUITES, ids=hex)
def test_another_library_decrypts_what_we_encrypt(suite: int) -> None:
    pair = HpkeKeyPair.generate(ciphersuite=suite)
    sealed = Reader(
        encrypt_with_label(
            ciphersuite=suite, public_key=pair.public_key, label="L", context=b"context", plaintext=b"to them"
        )
    )
    encapsulated, ciphertext = sealed.vector(), sealed.vector()
    assert (len(encapsulated), sealed.data) == (ENCAPSULATED[suite], b"")
    private = their_private(suite, pair.to_bytes())
    info = label_and_content("L", b"context")
    assert HPKE_SUITES[suite].decrypt(encapsulated + ciphertext, private, info) == b"to them"


@pytest.mark.parametrize("suite", SUITES, ids=hex)
def test_we_decrypt_what_another_library_encrypts(suite: int) -> None:
    pair = HpkeKeyPair.generate(ciphersuite=suite)
    public = their_public(suite, pair.public_key)
    sealed = HPKE_SUITES[suite].encrypt(b"to us", public, label_and_content("L", b"context"))
    length = ENCAPSULATED[suite]
    ciphertext = vector(sealed[:length]) + vector(sealed[length:])
    assert pair.decrypt_with_label(label="L", context=b"context", ciphertext=ciphertext) == b"to us"


@pytest.mark.parametrize("suite", SUITES, ids=hex)
def test_another_library_verifies_our_signatures_and_we_verify_its(suite: int) -> None:
    content = label_and_content("L", b"content")
    ours = SignatureKeyPair.generate(ciphersuite=suite)
    signature = ours.sign_with_label(label="L", content=b"content")
    if suite in CURVES:
        algorithm = ec.ECDSA(HASHES[suite])
        point = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[suite], ours.public_key)
        point.verify(signature, content, algorithm)
        theirs = ec.generate_private_key(CURVES[suite])
        public = theirs.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        signature = theirs.sign(content, algorithm)
    else:
        Ed25519PublicKey.from_public_bytes(ours.public_key).verify(signature, content)
        key = Ed25519PrivateKey.generate()
        public, signature = key.public_key().public_bytes_raw(), key.sign(content)
    verify_with_label(
        ciphersuite=suite, public_key=public, label="L", content=b"content", signature=signature
    )


def name(case: dict[str, str | int]) -> str:
    return f"suite {case['cipher_suite']}"


@pytest.mark.parametrize("case", KEY_PACKAGES, ids=name)
def test_official_key_packages_have_the_public_keys_of_their_private_keys_and_good_signatures(
    case: dict[str, str | int],
) -> None:
    suite = int(case["cipher_suite"])
    private = {key: bytes.fromhex(str(value)) for key, value in case.items() if key.endswith("_priv")}
    key_package = bytes.fromhex(str(case["key_package"]))[4:]
    reader = Reader(key_package)
    reader.take(4)
    init_key = reader.vector()
    leaf = read_leaf(reader)
    reader.vector()
    signed = key_package[: len(key_package) - len(reader.data)]
    signature = reader.vector()
    fields = Reader(leaf)
    encryption_key, signature_key = fields.vector(), fields.vector()

    assert HpkeKeyPair.from_bytes(private["init_priv"], ciphersuite=suite).public_key == init_key
    assert HpkeKeyPair.from_bytes(private["encryption_priv"], ciphersuite=suite).public_key == encryption_key
    pair = SignatureKeyPair.from_bytes(private["signature_priv"], ciphersuite=suite)
    assert pair.public_key == signature_key
    verify_with_label(
        ciphersuite=suite,
        public_key=signature_key,
        label="KeyPackageTBS",
        content=signed,
        signature=signature,
    )


@pytest.mark.parametrize("case", KEY_PACKAGES, ids=name)
def test_official_welcomes_name_their_key_package_and_their_group_secrets_are_decrypted(
    case: dict[str, str | int],
) -> None:
    # RFC 9420 section 12.4.3.1: encrypted to the init_key with the label "Welcome" and, as context, the
    # encrypted_group_info.
    suite = int(case["cipher_suite"])
    welcome = Reader(bytes.fromhex(str(case["welcome"])))
    assert welcome.take(6) == b"\x00\x01\x00\x03" + suite.to_bytes(2, "big")
    secrets, group_info = Reader(welcome.vector()), welcome.vector()
    # MakeKeyPackageRef, RFC 9420 section 5.2
    key_package = bytes.fromhex(str(case["key_package"]))[4:]
    reference = openmls.hash(suite, vector(b"MLS 1.0 KeyPackage Reference") + vector(key_package))
    assert secrets.vector() == reference
    pair = HpkeKeyPair.from_bytes(bytes.fromhex(str(case["init_priv"])), ciphersuite=suite)
    encrypted = vector(secrets.vector()) + vector(secrets.vector())
    plain = Reader(pair.decrypt_with_label(label="Welcome", context=group_info, ciphertext=encrypted))
    length = 48 if suite == 7 else 32
    assert len(plain.vector()) == length  # joiner_secret
    if plain.take(1) == b"\x01":
        assert len(plain.vector()) == length  # path_secret
    assert plain.vector() == b""  # psks
    assert plain.data == b""


def extract(salt: bytes, label: bytes, secret: bytes, suite_id: bytes) -> bytes:
    """LabeledExtract of RFC 9180 section 4 with HKDF-SHA256."""
    return hmac.digest(salt, b"HPKE-v1" + suite_id + label + secret, "sha256")


def expand(key: bytes, label: bytes, context: bytes, suite_id: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180 section 4 with HKDF-SHA256, of up to one block."""
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + context
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


@pytest.mark.parametrize("case", X_WING, ids=lambda case: str(case["sk"][:8]))
def test_published_keys_and_shared_secrets_of_x_wing_are_ours(case: dict[str, str]) -> None:
    private, public, encapsulated, shared = (bytes.fromhex(case[key]) for key in ("sk", "pk", "ct", "ss"))
    pair = HpkeKeyPair.from_bytes(private, ciphersuite=0x4D)
    assert pair.public_key == public
    # KeySchedule and Seal of RFC 9180 in mode_base; KEM 0x647A is X-Wing.
    suite_id = b"HPKE" + bytes.fromhex("647a 0001 0003")
    context = b"\x00" + extract(b"", b"psk_id_hash", b"", suite_id)
    context += extract(b"", b"info_hash", label_and_content("L", b"context"), suite_id)
    secret = extract(shared, b"secret", b"", suite_id)
    cipher = ChaCha20Poly1305(expand(secret, b"key", context, suite_id, 32))
    sealed = cipher.encrypt(expand(secret, b"base_nonce", context, suite_id, 12), b"to us", b"")
    ciphertext = vector(encapsulated) + vector(sealed)
    assert pair.decrypt_with_label(label="L", context=b"context", ciphertext=ciphertext) == b"to us"
