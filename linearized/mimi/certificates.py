"""X.509 credentials: who a chain of certificates says a leaf is, and whether the chain holds (RFC 9420,
sections 5.3 and 5.3.1).

A certificate for an MLS client has its client URI among the URIs of its ``subjectAltName``. Reading and
verifying are apart: whose a leaf is has to be known long after the certificate was good for anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from linearized.exceptions import CertificateError, MimiDecodeError
from linearized.mimi.tls import Reader, encode_vector

X509: Final = b"\x00\x02"
"""CredentialType x509 (RFC 9420, section 17.5), with which a Credential begins."""

MAX_CERTIFICATES: Final = 5
"""In a chain: the client's, and four between it and the authority; public ones have one or two."""
MAX_CHAIN_BYTES: Final = 16_384
"""Of a chain: five certificates with RSA keys and some policies have half of it. Every commit of the client
carries the chain, and every member keeps it."""
KEPT: Final = 1_024
"""Chains whose reading is kept, at some twenty kilobytes each at the most: every commit looks at the leaves
it touches a few times."""

_SCHEME: Final = "mimi://"
_CLIENT: Final = "/d/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """What a chain says, if it holds.

    Attributes:
        chain: the certificates, the client's first.
        client_uri: the client that its ``subjectAltName`` names.
        signature_key: the key in it, as MLS has it: raw Ed25519, or an uncompressed point.
        claims: the attributes of its subject (DER of the attribute's OID, value in UTF-8) and its extensions
            that no standard defines (DER of the OID, the content of ``extnValue``).
    """

    chain: tuple[x509.Certificate, ...]
    client_uri: str
    signature_key: bytes
    claims: frozenset[tuple[bytes, bytes]]


def is_certified(credential: bytes) -> bool:
    """Whether a TLS-encoded Credential is of X.509 certificates."""
    return credential.startswith(X509)


def certified_credential(certificates: Iterable[bytes]) -> bytes:
    """The TLS encoding of a Credential with DER certificates, the client's first."""
    return X509 + encode_vector(b"".join(map(encode_vector, certificates)))


@lru_cache(KEPT)
def read_certified(credential: bytes) -> CertifiedKey:
    """Read an X.509 Credential. Nothing of it is verified.

    Raises:
        MimiDecodeError: it is none, a certificate is malformed or has a key that MLS does not know, or the
            first does not name one client.
    """
    if len(credential) > MAX_CHAIN_BYTES:
        raise MimiDecodeError(f"a certificate chain has more than {MAX_CHAIN_BYTES} bytes")
    try:
        chain = tuple(map(x509.load_der_x509_certificate, _certificates(credential)))
        leaf = chain[0]
        return CertifiedKey(
            chain=chain,
            client_uri=_client_uri(leaf),
            signature_key=_raw_key(leaf),
            claims=frozenset(_claims(leaf)),
        )
    # What the parser of certificates raises for malformed ones, of which some come late.
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise MimiDecodeError(f"a certificate cannot be read: {error}") from error


def _certificates(credential: bytes) -> list[bytes]:
    reader = Reader(credential)
    if reader.take(2) != X509:
        raise MimiDecodeError("a credential with certificates was expected")
    inner = reader.sub()
    reader.finish()
    found: list[bytes] = []
    while inner.remaining:
        found.append(inner.vector())
    if not 1 <= len(found) <= MAX_CERTIFICATES:
        raise MimiDecodeError(f"a chain has one to {MAX_CERTIFICATES} certificates")
    return found


def _client_uri(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise MimiDecodeError("the certificate names nobody") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = {uri for uri in uris if uri.startswith(_SCHEME)}
    clients = [uri for uri in found if _CLIENT in uri]
    # Two names in one certificate could be taken for either. The user's own may stand beside the client's.
    if len(clients) != 1 or found - {clients[0], _user_uri(clients[0])}:
        raise MimiDecodeError("the certificate does not name one client, and no user but its own")
    return clients[0]


def _user_uri(client: str) -> str:
    return client.rpartition("/")[0].replace(_CLIENT, "/u/", 1)


def _raw_key(leaf: x509.Certificate) -> bytes:
    key = leaf.public_key()
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise MimiDecodeError("the key in the certificate is of no cipher suite")


def _claims(leaf: x509.Certificate) -> Iterable[tuple[bytes, bytes]]:
    for attribute in leaf.subject:
        value = attribute.value
        yield encode_oid(attribute.oid), value.encode() if isinstance(value, str) else value
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            yield encode_oid(extension.oid), extension.value.value


_OBJECT_IDENTIFIER: Final = 6
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def encode_oid(oid: x509.ObjectIdentifier) -> bytes:
    """The DER of an object identifier, tag and length first (ITU-T X.690, 8.19); it is one that was read from
    a certificate, so its length takes one byte or the parser would not have taken it.
    """
    first, second, *rest = map(int, oid.dotted_string.split("."))
    content = b"".join(map(_base128, (40 * first + second, *rest)))
    return bytes([_OBJECT_IDENTIFIER, len(content)]) + content


def _base128(number: int) -> bytes:
    digits = [number & _SEVEN_BITS]
    while number := number >> 7:
        digits.append(number & _SEVEN_BITS | _MORE)
    return bytes(reversed(digits))


def verify_certified(certified: CertifiedKey, roots: Sequence[x509.Certificate], *, now: int) -> None:
    """Check that a chain leads to an authority, and that each certificate in it is good at a time.

    "The Authentication Service … Verify … that the credential presented is valid" (RFC 9420, section 5.3.1):
    by RFC 5280, as far as the library has it, in the profile of the public web (CA/Browser Forum), but with
    any key that MLS signs with in the client's own certificate. Revocation is not asked for: that would need
    the network.

    Args:
        roots: the certificates of the authorities, one at least.
        now: seconds since the Unix epoch.

    Raises:
        CertificateError: it does not hold.
    """
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(datetime.fromtimestamp(now, UTC))
        .max_chain_depth(MAX_CERTIFICATES)
        .build_client_verifier()
    )
    leaf, *between = certified.chain
    try:
        verifier.verify(leaf, between)
    except VerificationError as error:
        raise CertificateError(f"the certificate does not hold: {error}") from error
