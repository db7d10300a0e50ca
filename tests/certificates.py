"""Authorities and certificates for clients, made in tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import openmls
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

DAY = dt.timedelta(days=1)
DEFAULT_OUS = ("Gardeners",)
BADGE = x509.ObjectIdentifier("1.3.6.1.4.1.32473.7")
"""Of a claim that no standard defines; the arc is for examples (RFC 5612)."""


def at(now: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)


@dataclass
class Authority:
    """A certificate of an authority and its key; ``now`` in seconds is in the middle of its time."""

    now: int
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, now: int, name: str = "Clients of b.example") -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        return cls(now, _authority(now, subject, key, subject, key), key)

    def intermediate(self, name: str = "A department") -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _authority(self.now, _name(name), key, self.certificate.subject, self.key)
        return Authority(self.now, made, key)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def certify(
        self,
        key: CertificatePublicKeyTypes,
        *uris: str,
        until: dt.timedelta = DAY,
        since: dt.timedelta = DAY,
        units: Sequence[str] = DEFAULT_OUS,
        others: Sequence[x509.GeneralName] = (),
        badge: bytes | None = None,
    ) -> bytes:
        """The DER of a client's certificate with these URIs as its names."""
        attributes = [x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
        names = [*map(x509.UniformResourceIdentifier, uris), *others]
        builder = _builder(self.now, x509.Name(attributes), key, self.certificate.subject)
        builder = (
            builder.not_valid_before(at(self.now) - since)
            .not_valid_after(at(self.now) + until)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not units)
        if badge is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(BADGE, badge), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def client(self, uri: str, *, ciphersuite: int = 1, until: dt.timedelta = DAY) -> openmls.Client:
        """An MLS client whose key this authority has certified."""
        keys = openmls.SignatureKeyPair.generate(ciphersuite=ciphersuite)
        certificate = self.certify(public_key(keys.public_key), uri, until=until)
        return openmls.Client.create(certificates=[certificate], signature_key=keys, ciphersuite=ciphersuite)


def public_key(raw: bytes) -> CertificatePublicKeyTypes:
    """A raw signature key of MLS as the library has it."""
    if len(raw) == 32:
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    curve = ec.SECP256R1() if len(raw) == 65 else ec.SECP384R1()
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, raw)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(
    now: int, subject: x509.Name, key: CertificatePublicKeyTypes, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
    )


def _authority(
    now: int,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(now, subject, key.public_key(), issuer)
        .not_valid_before(at(now) - 10 * DAY)
        .not_valid_after(at(now) + 10 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
