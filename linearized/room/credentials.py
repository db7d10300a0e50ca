"""Whose leaf is it? The two credential forms a leaf may carry, read into one."""

from __future__ import annotations

from dataclasses import dataclass

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.tls import Reader, encode_vector
from linearized.mls import Member
from linearized.protocol.identifiers import client_from_uri, is_device_id, parse_user_id
from linearized.room.submissions import Reason, Rejected

_URI_PREFIX = b"mimi://"


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client: the user (``@alice:a.example``) and the device (``ABC``) a leaf belongs to."""

    user_id: str
    device_id: str


def client_of(identity: bytes, *, signature_key: bytes | None = None) -> ClientIdentity:
    """Read the content of a leaf's basic credential.

    It is either a client URI (``mimi://a.example/d/alice/ABC``) or the Linearized Matrix draft's structure
    ``{opaque user_id<V>; opaque device_id<V>; opaque signature_key<V>}`` ("Device Credentials").

    Args:
        signature_key: the leaf's own, raw; a structure that names another key is refused.

    Raises:
        IdentifierError: it is neither, or names another key.
    """
    if identity.startswith(_URI_PREFIX):
        try:
            return ClientIdentity(*client_from_uri(identity.decode("ascii")))
        except UnicodeDecodeError as error:
            raise IdentifierError("the credential's client URI is not ASCII") from error
    user_id, device_id, named_key = decode_credential(identity)
    # "signature_key is from MLS."
    if signature_key is not None and signature_key != named_key:
        raise IdentifierError("the credential names another signature key than the leaf's")
    return ClientIdentity(user_id, device_id)


def identify(member: Member) -> ClientIdentity:
    """The client a leaf belongs to.

    Raises:
        Rejected: ``INVALID_COMMIT`` if its credential names none.
    """
    try:
        return client_of(member.identity, signature_key=member.signature_key)
    except IdentifierError as error:
        raise Rejected(Reason.INVALID_COMMIT, str(error)) from error


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
