"""The settings that say who may certify clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from linearized.authorities import MAX_AUTHORITIES
from linearized.config import Config
from linearized.config_file import parse_config
from linearized.exceptions import ConfigError
from tests.certificates import DAY, Authority, at

NOW = 1_790_000_000
CA = Authority.new(NOW)
SETTINGS = """
server_name = "a.example"
[listen]
tls = "127.0.0.1:8448"
[tls]
certificate = "a.pem"
key = "a.key"
[certificate_authorities]
"""


def parsed(directory: Path, content: bytes, line: str = '"b.example" = "b.pem"') -> Config:
    (directory / "b.pem").write_bytes(content)
    return parse_config(SETTINGS + line, base=directory)


def test_the_authorities_of_a_domain_are_in_a_file(tmp_path: Path) -> None:
    other = Authority.new(NOW, "the next")
    config = parsed(tmp_path, CA.pem + other.pem)
    assert config.authorities_of("b.example") == (CA.certificate, other.certificate)
    assert config.authorities_of("c.example") == ()


def of_a_client() -> bytes:
    leaf = CA.certify(ec.generate_private_key(ec.SECP256R1()).public_key(), "mimi://b.example/d/bob/PHONE")
    return x509.load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)


def with_basic_constraints(*, ca: bool) -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    made = x509.CertificateBuilder(
        issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1
    )
    made = made.not_valid_before(at(NOW)).not_valid_after(at(NOW) + DAY)
    made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return made.sign(key, None).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "PEM"),
        (CA.pem * (MAX_AUTHORITIES + 1), "more than"),
        (of_a_client(), "not the certificate of an authority"),
        (with_basic_constraints(ca=False), "not the certificate of an authority"),
        (with_basic_constraints(ca=True), "neither an ECDSA nor an RSA key"),
    ],
    ids=["nothing", "too many", "a client's", "no authority's", "Ed25519"],
)
def test_a_file_without_authorities_is_an_error_that_names_the_setting(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        parsed(tmp_path, content)
    assert 'certificate_authorities."b.example"' in str(raised.value)


@pytest.mark.parametrize("line", ['"b.example" = 1', '"b.example" = "missing.pem"', '"no name!" = "b.pem"'])
def test_a_setting_that_names_no_domain_or_file_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="certificate_authorities"):
        parsed(tmp_path, CA.pem, line)
