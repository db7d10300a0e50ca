"""A certificate authority for development: a directory, and certificates for peers who trust it.

Providers authenticate to each other with certificates on both sides (MIMI protocol: "mutually authenticated
TLS"), so each certificate is valid for server and for client authentication, with the server name as its DNS
name.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from linearized.exceptions import ConfigError

CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
# Clocks of machines that develop together may differ a little.
_BACKDATE = datetime.timedelta(hours=1)
# Long enough to forget about, short enough that nobody runs a real server on it for ever.
_LIFETIME = datetime.timedelta(days=397)
_LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentCa:
    """The authority's certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def open_ca(directory: Path, *, now: datetime.datetime) -> DevelopmentCa:
    """Load the authority in ``directory``, or make it when there is none.

    Raises:
        ConfigError: the files are there and cannot be used.
    """
    certificate_file, key_file = directory / CA_CERTIFICATE, directory / CA_KEY
    if not certificate_file.exists() and not key_file.exists():
        ca = _new_ca(now)
        directory.mkdir(parents=True, exist_ok=True)
        certificate_file.write_bytes(ca.certificate.public_bytes(serialization.Encoding.PEM))
        write_private(key_file, _pem(ca.key))
        return ca
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the development CA in {directory} cannot be used: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise ConfigError(
            f"the development CA in {directory} cannot be used: {CA_KEY} does not match {CA_CERTIFICATE}"
        )
    return DevelopmentCa(certificate=certificate, key=key)


def issue(ca: DevelopmentCa, server_name: str, *, now: datetime.datetime) -> tuple[bytes, bytes]:
    """A certificate (PEM) and private key (PEM) for ``server_name``, valid for the loopback addresses too."""
    host = server_name if server_name.endswith("]") else server_name.rpartition(":")[0] or server_name
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(host), ca.certificate.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
        .sign(ca.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def write_private(path: Path, data: bytes) -> None:
    """Write a file only its owner may read; it must not exist."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)


def _new_ca(now: datetime.datetime) -> DevelopmentCa:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("linearized development CA")
    certificate = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return DevelopmentCa(certificate=certificate, key=key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _names(host: str) -> list[x509.GeneralName]:
    addresses: list[x509.GeneralName] = [x509.IPAddress(address) for address in _LOOPBACK]
    try:
        return [x509.IPAddress(ipaddress.ip_address(host.strip("[]"))), *addresses]
    except ValueError:
        return [x509.DNSName(host), *addresses]


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
