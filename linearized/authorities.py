"""``[certificate_authorities]``: who may certify the clients of which provider's users."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    ExtensionNotFound,
    load_pem_x509_certificates,
)

from linearized.exceptions import ConfigError
from linearized.settings import Section, as_server_name, as_text

MAX_AUTHORITIES: Final = 20
"""Of one domain: one in use, one it is replaced by, and some for an organisation of several. Each may be
tried for a chain that leads to none."""


def read_authorities(section: Section) -> Mapping[str, tuple[Certificate, ...]]:
    """The certificates in the PEM files of a table ``domain = file``, by domain.

    Raises:
        ConfigError: a name is no server name, a file cannot be read, or has a certificate of no authority.
    """
    found: dict[str, tuple[Certificate, ...]] = {}
    for name, value in section.rest().items():
        try:
            found[as_server_name(name)] = _read(section.path(as_text(value)))
        except (OSError, ValueError) as error:
            raise ConfigError(f'{section.name}."{name}": {error}') from error
    return found


def _read(path: Path) -> tuple[Certificate, ...]:
    certificates = tuple(load_pem_x509_certificates(path.read_bytes()))
    if len(certificates) > MAX_AUTHORITIES:
        raise ValueError(f"{path} has more than {MAX_AUTHORITIES} certificates")
    for certificate in certificates:
        name = certificate.subject.rfc4514_string()
        if not _is_authority(certificate):
            raise ValueError(f"{name} in {path} is not the certificate of an authority")
        # What the library verifies chains with knows no others.
        if not isinstance(certificate.public_key(), EllipticCurvePublicKey | RSAPublicKey):
            raise ValueError(f"{name} in {path} has neither an ECDSA nor an RSA key")
    return certificates


def _is_authority(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except ExtensionNotFound:  # of version 1, or a client's
        return False
