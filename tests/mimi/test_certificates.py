"""Reading and verifying the certificates of X.509 credentials."""

from __future__ import annotations

import openmls
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from linearized.exceptions import CertificateError, MimiDecodeError
from linearized.mimi.certificates import (
    MAX_CERTIFICATES,
    MAX_CHAIN_BYTES,
    X509,
    certified_credential,
    encode_oid,
    is_certified,
    read_certified,
    verify_certified,
)
from linearized.mimi.key_material import basic_credential
from linearized.mimi.tls import encode_vector
from tests.certificates import BADGE, DAY, Authority

NOW = 1_790_000_000
CLIENT, USER = "mimi://b.example/d/bob/PHONE", "mimi://b.example/u/bob"
CA = Authority.new(NOW)
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key()
LEAF = CA.certify(KEY, CLIENT)


def test_a_certificate_names_a_client_and_its_key() -> None:
    credential = certified_credential([LEAF])
    found = read_certified(credential)
    assert is_certified(credential)
    assert (found.client_uri, found.signature_key) == (CLIENT, KEY.public_bytes_raw())
    assert len(found.chain) == 1


def test_the_binding_writes_and_reads_the_same_credential() -> None:
    keys = openmls.SignatureKeyPair.generate()
    client = openmls.Client.create(certificates=[LEAF, CA.der], signature_key=keys)
    assert client.credential == certified_credential([LEAF, CA.der])


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_a_point_is_read_uncompressed_as_mls_has_it(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()
    found = read_certified(certified_credential([CA.certify(key, CLIENT)]))
    numbers, size = key.public_numbers(), (curve.key_size + 7) // 8
    assert found.signature_key == b"\x04" + numbers.x.to_bytes(size) + numbers.y.to_bytes(size)


def test_the_user_may_be_named_beside_the_client_and_other_names_mean_nothing() -> None:
    more = [x509.DNSName("b.example"), x509.RFC822Name("bob@b.example")]
    leaf = CA.certify(KEY, USER, CLIENT, "https://b.example/bob", others=more)
    assert read_certified(certified_credential([leaf])).client_uri == CLIENT


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://b.example/d/bob/PHONE"],
        [USER],
        [CLIENT, "mimi://b.example/d/bob/LAPTOP"],
        [CLIENT, "mimi://b.example/u/bea"],
        [CLIENT, "mimi://c.example/u/bob"],
        [CLIENT, "mimi://b.example/r/room"],
    ],
)
def test_a_certificate_that_names_nobody_or_two_is_refused(uris: list[str]) -> None:
    with pytest.raises(MimiDecodeError, match="name"):
        read_certified(certified_credential([CA.certify(KEY, *uris)]))


def test_a_key_that_no_cipher_suite_has_is_refused() -> None:
    for key in (
        rsa.generate_private_key(65537, 2048).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
    ):
        with pytest.raises(MimiDecodeError, match="cipher suite"):
            read_certified(certified_credential([CA.certify(key, CLIENT)]))


def damaged() -> dict[str, bytes]:
    oid = x509.SubjectAlternativeName.oid.dotted_string
    at = LEAF.index(encode_oid(x509.ObjectIdentifier(oid)))
    # Of the name in it, which is an IA5String, the tag of a kind that there is none of.
    name = LEAF.index(b"\x86" + bytes([len(CLIENT)]) + CLIENT.encode())
    return {
        "no DER": b"certificate",
        "cut": LEAF[:-1],
        "trailing": LEAF + b"\0",
        "a name of an unknown kind": LEAF[:name] + b"\x8f" + LEAF[name + 1 :],
        "a name that is no text": LEAF[: name + 2] + b"\xff" + LEAF[name + 3 :],
        "an extension twice": _twice(at),
    }


def _twice(at: int) -> bytes:
    # The AuthorityKeyIdentifier (2.5.29.35) becomes another SubjectAlternativeName (2.5.29.17).
    other = LEAF.index(bytes.fromhex("0603551d23"))
    assert other != at
    return LEAF[:other] + bytes.fromhex("0603551d11") + LEAF[other + 5 :]


@pytest.mark.parametrize("case", damaged())
def test_a_malformed_certificate_is_refused(case: str) -> None:
    with pytest.raises(MimiDecodeError):
        read_certified(certified_credential([damaged()[case]]))


@pytest.mark.parametrize(
    "credential",
    [
        b"",
        basic_credential(CLIENT.encode()),
        X509,
        X509 + encode_vector(b""),
        X509 + encode_vector(encode_vector(LEAF)) + b"x",
        X509 + encode_vector(encode_vector(LEAF)[:-1]),
        certified_credential([LEAF, b""]),
        certified_credential([LEAF] * (MAX_CERTIFICATES + 1)),
    ],
    ids=[
        "nothing",
        "basic",
        "cut",
        "no certificate",
        "more behind",
        "cut inside",
        "an empty one",
        "too many",
    ],
)
def test_what_is_no_chain_is_refused(credential: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        read_certified(credential)


def test_a_chain_is_bounded() -> None:
    with pytest.raises(MimiDecodeError, match=str(MAX_CHAIN_BYTES)):
        read_certified(certified_credential([LEAF, bytes(MAX_CHAIN_BYTES)]))


def test_the_claims_are_the_subject_and_what_no_standard_defines() -> None:
    leaf = CA.certify(KEY, CLIENT, units=("Gardeners", "Gärtner"), badge=b"\x0c\x04blue")
    unit, badge = bytes.fromhex("060355040b"), bytes.fromhex("060a2b0601040181fd5907")
    assert badge[2:] == encode_oid(BADGE)[2:]
    assert read_certified(certified_credential([leaf])).claims == {
        (unit, b"Gardeners"),
        (unit, "Gärtner".encode()),
        (encode_oid(BADGE), b"\x0c\x04blue"),
    }


@pytest.mark.parametrize(
    ("oid", "der"),
    [("2.5.29.17", "0603551d11"), ("1.2.840.113549", "06062a864886f70d"), ("2.999.3", "0603883703")],
)
def test_object_identifiers_are_written_in_der(oid: str, der: str) -> None:
    assert encode_oid(x509.ObjectIdentifier(oid)).hex() == der


def verify(*chain: bytes, roots: tuple[Authority, ...] = (CA,), now: int = NOW) -> None:
    certified = read_certified(certified_credential(chain))
    verify_certified(certified, [root.certificate for root in roots], now=now)


def test_a_chain_holds_if_it_leads_to_an_authority() -> None:
    verify(LEAF)
    verify(LEAF, CA.der)
    verify(LEAF, roots=(Authority.new(NOW, "another"), CA))
    department = CA.intermediate()
    team = department.intermediate("A team")
    verify(team.certify(KEY, CLIENT), team.der, department.der)


def test_a_chain_that_leads_elsewhere_or_nowhere_does_not_hold() -> None:
    department = CA.intermediate()
    another = Authority.new(NOW)  # of the same name
    for chain in (
        (another.certify(KEY, CLIENT),),
        (another.certify(KEY, CLIENT), another.der),
        (department.certify(KEY, CLIENT),),
        (LEAF[:-1] + bytes([LEAF[-1] ^ 1]),),
    ):
        with pytest.raises(CertificateError, match="does not hold"):
            verify(*chain)


def test_a_client_certifies_nobody() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    client = x509.load_der_x509_certificate(CA.certify(key.public_key(), CLIENT))
    pretender = Authority(NOW, client, key)
    with pytest.raises(CertificateError):
        verify(pretender.certify(KEY, CLIENT), pretender.der)


def test_a_certificate_is_good_for_its_time_and_no_other() -> None:
    seconds = int(DAY.total_seconds())
    verify(LEAF, now=NOW + seconds)
    verify(LEAF, now=NOW - seconds)
    for now in (NOW + seconds + 1, NOW - seconds - 1, 0):
        with pytest.raises(CertificateError):
            verify(LEAF, now=now)


def test_a_critical_extension_that_nobody_knows_is_heeded() -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bob")])
    leaf = x509.load_der_x509_certificate(LEAF)
    made = (
        x509.CertificateBuilder(
            issuer_name=CA.certificate.subject, subject_name=subject, public_key=KEY, serial_number=7
        )
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(CLIENT)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.public_key()), critical=False
        )
        .add_extension(x509.UnrecognizedExtension(BADGE, b"\x05\x00"), critical=True)
        .sign(CA.key, hashes.SHA256())
    )
    with pytest.raises(CertificateError):
        verify(made.public_bytes(Encoding.DER))
