"""Signed device objects: which key a device signs MLS messages with, in its own words (draft, Device
Credentials).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import EventFormatError, InvalidInput, SignatureError
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.signing import KEY_BYTES, add_signature, signatures_of, verify_message
from linearized.room.credentials import ClientIdentity, decode_credential, encode_credential

CREDENTIAL_KEY: Final = "m.mls.v1.credential.ed25519"
"""Draft: a device "MUST specify its basic credential with the m.mls.v1.credential.ed25519 key algorithm"."""

Published = Callable[[ClientIdentity], bytes | None]
"""What a hub knows of devices: the raw Ed25519 key in a device's valid object, None if it has none."""

FIELDS: Final = ("device_id", "user_id", "algorithms", "keys", "signatures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device whose object was verified.

    ``credential`` is the TLS-encoded BasicCredential that its leaf in an MLS group carries, and
    ``signature_key`` the raw Ed25519 key in it.
    """

    user_id: str
    device_id: str
    algorithms: tuple[str, ...]
    credential: bytes
    signature_key: bytes


def unsigned_device(
    *, user_id: str, device_id: str, algorithms: tuple[str, ...], signature_key: bytes
) -> JsonObject:
    """The object whose canonical JSON a device has to sign with the key in its credential.

    Args:
        signature_key: raw Ed25519 public key.
    """
    credential = encode_credential(user_id, device_id, signature_key)
    return {
        "device_id": device_id,
        "user_id": user_id,
        "algorithms": list(algorithms),
        "keys": {f"{CREDENTIAL_KEY}:{device_id}": encode_base64(credential)},
    }


def signed_device(device: JsonObject, signature: bytes) -> JsonObject:
    """The object of ``unsigned_device`` with the device's 64-byte signature."""
    key_id = f"{CREDENTIAL_KEY}:{device['device_id']}"
    return add_signature(device, name=device["user_id"], key_id=key_id, signature=signature)


def verify_device(obj: JsonObject, *, user_id: str, device_id: str) -> Device:
    """Check the object that a user's server publishes for a device.

    Raises:
        EventFormatError: a field is missing or malformed, or the object is about another device.
        SignatureError: a key's signature is missing or wrong, or there is a key that cannot be checked.
        CanonicalJsonError: it has no canonical form.
    """
    # "All top-level fields in the object above MUST be supplied."
    if not obj.keys() >= set(FIELDS):
        raise EventFormatError("a field of the device is missing")
    if (obj["user_id"], obj["device_id"]) != (user_id, device_id):
        raise EventFormatError("the object is about another device")
    algorithms = obj["algorithms"]
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise EventFormatError("algorithms is not a list of strings")
    # "For each of the device's keys, a valid signature MUST be produced. If there is a missing signature from
    # any of the keys, or from the user_id, the device information is considered invalid." How a signature of
    # another algorithm would be checked the draft does not say, so a key of one is a signature missing.
    key_id = f"{CREDENTIAL_KEY}:{device_id}"
    if not isinstance(obj["keys"], dict) or obj["keys"].keys() != {key_id}:
        raise SignatureError(f"the device's one key is not {key_id}")
    credential = _credential(obj["keys"][key_id])
    named_user, named_device, signature_key = decode_credential(credential)
    if (named_user, named_device, len(signature_key)) != (user_id, device_id, KEY_BYTES):
        raise EventFormatError("the credential is another device's, or its key is none of Ed25519")
    signature = signatures_of(obj, user_id).get(key_id)
    if signature is None:
        raise SignatureError(f"there is no signature with {key_id}")
    message = canonical_json({name: value for name, value in obj.items() if name != "signatures"})
    # The verifier knows Ed25519 keys by the IDs that servers' keys have.
    ed25519 = f"ed25519:{device_id}"
    verify_message(message, {ed25519: signature}, name=user_id, keys={ed25519: signature_key})
    return Device(
        user_id=user_id,
        device_id=device_id,
        algorithms=tuple(algorithms),
        credential=credential,
        signature_key=signature_key,
    )


def published_key(obj: JsonObject) -> bytes:
    """The raw Ed25519 key in an object that ``verify_device`` took once."""
    return decode_credential(_credential(obj["keys"][f"{CREDENTIAL_KEY}:{obj['device_id']}"]))[2]


def nothing_published(_client: ClientIdentity) -> None:
    """A ``Published`` of who knows no device."""


def _credential(value: object) -> bytes:
    if not isinstance(value, str):
        raise EventFormatError("the credential is not a string")
    try:
        credential = decode_base64(value)
        decode_credential(credential)
    except InvalidInput as error:
        raise EventFormatError(str(error)) from error
    return credential
