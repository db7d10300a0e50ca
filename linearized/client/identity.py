"""Whose MLS leaf is it: credentials read into names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.x509 import Certificate

from linearized.exceptions import CertificateError, IdentifierError, MimiDecodeError
from linearized.mimi.certificates import CertifiedKey, is_certified, read_certified, verify_certified
from linearized.mimi.key_material import basic_identity
from linearized.mimi.pseudonyms import PseudonymousCredential, device_id_of, is_pseudonym
from linearized.mimi.tls import Reader
from linearized.protocol.identifiers import (
    client_from_uri,
    client_uri,
    parse_user_id,
    user_id_from_uri,
    user_uri,
)

_URI_PREFIX = b"mimi://"
# An entry of a room that a MIMI hub orders is shown as sent by the hub; the true sender is known to MLS only.
MIMI_HUB_PREFIX = "@_mimi:"


@dataclass(frozen=True, slots=True)
class LeafOwner:
    """The user and device a leaf belongs to, as Matrix identifiers and as MIMI URIs.

    ``pseudonym`` is the credential of a client in a minimal metadata room; the user and device are
    pseudonyms then. ``certified`` is what the certificates of a client with some say; they have not been
    verified (``check_certificates``).
    """

    user_id: str
    device_id: str
    pseudonym: PseudonymousCredential | None = None
    certified: CertifiedKey | None = None

    @property
    def client(self) -> tuple[str, str]:
        """User and device: the same client has them, whatever its credential is today."""
        return self.user_id, self.device_id

    @property
    def user_uri(self) -> str:
        """``mimi://a.example/u/alice``."""
        return user_uri(self.user_id)

    @property
    def client_uri(self) -> str:
        """``mimi://a.example/d/alice/ABC``."""
        if self.pseudonym is not None:
            return self.pseudonym.client_pseudonym
        return client_uri(self.user_id, self.device_id)


def client_named(uri: str) -> tuple[str, str]:
    """The user ID and device ID that a client's URI names; those of a pseudonym, if it is one that names its
    user (``mimi://a.example/d/<user>/<client>``, as ours do).

    Raises:
        IdentifierError: it names none.
    """
    start, slash, client = uri.rpartition("/")
    return client_from_uri(start + slash + (device_id_of(client) if is_pseudonym(client) else client))


def leaf_owner(credential: bytes, *, signature_key: bytes | None = None) -> LeafOwner:
    """Read a credential: certificates, or a basic one with a client URI, Linearized Matrix's structure
    ("Device Credentials"), or a MIMI pseudonym.

    Args:
        credential: the TLS-encoded Credential.
        signature_key: the leaf's own, raw. A pseudonym or certificate that names another is not the leaf's:
            whoever saw the credential could have put it there.

    Raises:
        IdentifierError: it is none of them, or another leaf's.
    """
    try:
        if is_certified(credential):
            return _certified_owner(read_certified(credential), signature_key)
        identity = basic_identity(credential)
    except MimiDecodeError as error:
        raise IdentifierError(str(error)) from error
    try:
        if identity.startswith(_URI_PREFIX):
            return LeafOwner(*client_from_uri(identity.decode("ascii")))
    except UnicodeDecodeError as error:
        raise IdentifierError("the credential names no client") from error
    try:
        pseudonym = PseudonymousCredential.decode(identity)
    except MimiDecodeError:
        return _leaf_owner(identity)
    if signature_key not in (None, pseudonym.signature_public_key):
        raise IdentifierError("the pseudonym is of another signature key than the leaf's")
    return LeafOwner(user_id_from_uri(pseudonym.user_pseudonym), pseudonym.device_id, pseudonym)


def _certified_owner(certified: CertifiedKey, signature_key: bytes | None) -> LeafOwner:
    if signature_key not in (None, certified.signature_key):
        raise IdentifierError("the certificate is of another signature key than the leaf's")
    return LeafOwner(*client_from_uri(certified.client_uri), certified=certified)


def check_certificates(owner: LeafOwner, roots: Sequence[Certificate], *, now: int) -> None:
    """Check that a client has certificates, and that they lead to an authority that the user of this one
    trusts. The hub has done so as well, with authorities of its own choice.

    Args:
        roots: of the authorities for the users of that client's provider.
        now: seconds since the Unix epoch.

    Raises:
        CertificateError: it has none, or they do not hold.
    """
    if owner.certified is None or not roots:
        raise CertificateError(f"nobody trusted has certified {owner.client_uri}")
    verify_certified(owner.certified, roots, now=now)


def _leaf_owner(identity: bytes) -> LeafOwner:
    try:
        reader = Reader(identity)
        user_id, device_id = reader.vector().decode(), reader.vector().decode()
        reader.vector()  # the signature key once more; the leaf's own is the one that is used
        reader.finish()
    except (UnicodeDecodeError, MimiDecodeError) as error:
        raise IdentifierError("the credential names no client") from error
    parse_user_id(user_id)
    return LeafOwner(user_id, device_id)
