"""Whose leaf is it? The four forms of credential a leaf may carry, read into one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.certificates import is_certified, read_certified
from linearized.mimi.key_material import basic_identity
from linearized.mimi.pseudonyms import PseudonymousCredential
from linearized.mimi.tls import Reader, encode_vector
from linearized.protocol.identifiers import client_from_uri, is_device_id, parse_user_id, user_id_from_uri

_URI_PREFIX = b"mimi://"

KEPT = 16_384
"""Client URIs whose reading is kept: every commit looks at each leaf of its group a few times, and the
largest groups have some ten thousand. About half a kilobyte each; what is refused is not kept."""

KEPT_CERTIFIED = 4_096
"""The same for chains of certificates, which have two kilobytes mostly, and never more than sixteen."""

KEPT_PSEUDONYMS = 4_096
"""The same for pseudonymous credentials, which have about two kilobytes and never more than twelve."""


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client: the user (``@alice:a.example``) and the device (``ABC``) a leaf belongs to."""

    user_id: str
    device_id: str


def client_of(credential: bytes, *, signature_key: bytes | None = None) -> ClientIdentity:
    """Read a leaf's credential.

    A basic one holds a client URI (``mimi://a.example/d/alice/ABC``), the Linearized Matrix draft's structure
    ``{opaque user_id<V>; opaque device_id<V>; opaque signature_key<V>}`` ("Device Credentials"), or the MIMI
    draft's ``PseudonymousCredential``, of which a pseudonymous user's device is read. Which rooms take that
    form is ``pseudonymity``'s to say. One of X.509 certificates has the client URI in the first of them;
    whether they hold is ``certificates``' to say.

    Args:
        credential: the TLS-encoded Credential.
        signature_key: the leaf's own, raw; a structure or certificate that names another key is refused.

    Raises:
        IdentifierError: it is none of them, or names another key.
    """
    if is_certified(credential):
        client, named_key = _certified_client(credential)
    else:
        identity = _content(credential)
        if identity.startswith(_URI_PREFIX):
            return _client_of_uri(identity)
        client, named_key = _named(identity)
    # "signature_key is from MLS." RFC 9420, 5.3: "the public key encoded in the subjectPublicKeyInfo of the
    # end-entity certificate MUST be identical to the signature_key in the LeafNode".
    if signature_key is not None and signature_key != named_key:
        raise IdentifierError("the credential names another signature key than the leaf's")
    return client


def _content(credential: bytes) -> bytes:
    try:
        return basic_identity(credential)
    except MimiDecodeError as error:
        raise IdentifierError(str(error)) from error


def _named(identity: bytes) -> tuple[ClientIdentity, bytes]:
    try:
        user_id, device_id, named_key = decode_credential(identity)
    except IdentifierError:
        pseudonym = _pseudonym_in(identity)
        if pseudonym is None:
            raise
        user_id, device_id = user_id_from_uri(pseudonym.user_pseudonym), pseudonym.device_id
        named_key = pseudonym.signature_public_key
    return ClientIdentity(user_id, device_id), named_key


@lru_cache(KEPT_CERTIFIED)
def _certified_client(credential: bytes) -> tuple[ClientIdentity, bytes]:
    try:
        certified = read_certified(credential)
    except MimiDecodeError as error:
        raise IdentifierError(str(error)) from error
    return ClientIdentity(*client_from_uri(certified.client_uri)), certified.signature_key


def pseudonym_of(credential: bytes) -> PseudonymousCredential | None:
    """The pseudonym in a credential; None if it is another kind.

    Raises:
        IdentifierError: it is no credential of a known type.
    """
    return None if is_certified(credential) else _pseudonym_in(_content(credential))


def _pseudonym_in(identity: bytes) -> PseudonymousCredential | None:
    try:
        return _pseudonym(identity)
    except MimiDecodeError:  # that is the question
        return None


@lru_cache(KEPT_PSEUDONYMS)
def _pseudonym(identity: bytes) -> PseudonymousCredential:
    return PseudonymousCredential.decode(identity)


@lru_cache(KEPT)
def _client_of_uri(identity: bytes) -> ClientIdentity:
    try:
        return ClientIdentity(*client_from_uri(identity.decode("ascii")))
    except UnicodeDecodeError as error:
        raise IdentifierError("the credential's client URI is not ASCII") from error


def encode_credential(user_id: str, device_id: str, signature_key: bytes) -> bytes:
    """The draft's BasicCredential structure, TLS-encoded."""
    return b"".join(encode_vector(part) for part in (user_id.encode(), device_id.encode(), signature_key))


def decode_credential(identity: bytes) -> tuple[str, str, bytes]:
    """The user ID, device ID and raw signature key in the draft's BasicCredential structure.

    Raises:
        IdentifierError: it is none, or does not name a user's device.
    """
    try:
        reader = Reader(identity)
        user_id, device_id = reader.vector().decode(), reader.vector().decode()
        signature_key = bytes(reader.vector())
        reader.finish()
    except (MimiDecodeError, UnicodeDecodeError) as error:
        raise IdentifierError(
            "the credential is neither a client URI nor a Linearized Matrix credential"
        ) from error
    parse_user_id(user_id)
    if not is_device_id(device_id):
        raise IdentifierError("the credential's device ID is malformed")
    return user_id, device_id, signature_key
