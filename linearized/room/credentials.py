"""Whose leaf is it? The two credential forms a leaf may carry, read into one."""

from __future__ import annotations

from dataclasses import dataclass

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.tls import Reader
from linearized.protocol.identifiers import client_from_uri, is_device_id, parse_user_id

_URI_PREFIX = b"mimi://"


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A client: the user (``@alice:a.example``) and the device (``ABC``) a leaf belongs to."""

    user_id: str
    device_id: str


def client_of(identity: bytes) -> ClientIdentity:
    """Read the content of a leaf's basic credential.

    It is either a client URI (``mimi://a.example/d/alice/ABC``) or the Linearized Matrix draft's structure
    ``{opaque user_id<V>; opaque device_id<V>; opaque signature_key<V>}`` ("Device Credentials").

    Raises:
        IdentifierError: it is neither.
    """
    if identity.startswith(_URI_PREFIX):
        try:
            return ClientIdentity(*client_from_uri(identity.decode("ascii")))
        except UnicodeDecodeError as error:
            raise IdentifierError("the credential's client URI is not ASCII") from error
    try:
        reader = Reader(identity)
        user_id, device_id = reader.vector().decode(), reader.vector().decode()
        reader.vector()  # the signature key; the leaf's own is the one that counts
        reader.finish()
    except (MimiDecodeError, UnicodeDecodeError) as error:
        raise IdentifierError(
            "the credential is neither a client URI nor a Linearized Matrix credential"
        ) from error
    parse_user_id(user_id)
    if not is_device_id(device_id):
        raise IdentifierError("the credential's device ID is malformed")
    return ClientIdentity(user_id, device_id)
