"""What a device says of itself, signed: the draft's device object (Device Credentials), checked.

::

    {"device_id", "user_id", "algorithms", "keys": {"m.mls.v1.credential.ed25519:<device>": BasicCredential},
     "signatures": {<user>: {<key ID>: signature}}}
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import InvalidInput, MimiDecodeError, SignatureError
from linearized.mimi.tls import Reader
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import is_device_id
from linearized.protocol.signing import KEY_BYTES, signatures_of, verify_message

CREDENTIAL: Final = "m.mls.v1.credential.ed25519"
MAX_OBJECT_BYTES: Final = 16_384  # a credential and a signature take one; a device may list more algorithms
# The fields of the object; anything else (a display name, say) is not the device's to sign, and is dropped.
_FIELDS: Final = ("device_id", "user_id", "algorithms", "keys", "signatures")
_VERIFIER: Final = "ed25519:device"  # how the one key is called while it is checked


def checked(value: object, *, user_id: str, device_id: str | None = None) -> JsonObject:
    """The device object in ``value``, if it is ``user_id``'s (and ``device_id``'s) and signed by the device.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, dict):
        raise InvalidInput("a device object is an object")
    # "All top-level fields in the object above MUST be supplied."
    missing = [name for name in _FIELDS if name not in value]
    if missing:
        raise InvalidInput(f"the device object lacks {missing[0]}")
    found = {name: value[name] for name in _FIELDS}
    name = found["device_id"]
    if found["user_id"] != user_id or not is_device_id(name) or (device_id is not None and name != device_id):
        raise InvalidInput("the device object is another device's")
    algorithms = found["algorithms"]
    if not isinstance(algorithms, list) or not all(isinstance(item, str) for item in algorithms):
        raise InvalidInput("algorithms is a list of names")
    keys = found["keys"]
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise InvalidInput("keys maps key IDs to keys")
    message = canonical_json({field: item for field, item in found.items() if field != "signatures"})
    if len(message) > MAX_OBJECT_BYTES:
        raise InvalidInput(f"the device object exceeds {MAX_OBJECT_BYTES} bytes")
    _verify(found, message, user_id, str(name))
    return found


def _verify(found: JsonObject, message: bytes, user_id: str, device_id: str) -> None:
    key_id = f"{CREDENTIAL}:{device_id}"
    if key_id not in found["keys"]:
        raise InvalidInput(f"the device has no key {key_id}")
    signatures = signatures_of(found, user_id)
    # "If there is a missing signature from any of the keys, or from the user_id, the device information is
    # considered invalid."
    unsigned = found["keys"].keys() - signatures.keys()
    if unsigned:
        raise SignatureError(f"the device object lacks the signature of {min(unsigned)}")
    public = _signature_key(found["keys"][key_id], user_id, device_id)
    verify_message(message, {_VERIFIER: signatures[key_id]}, name=user_id, keys={_VERIFIER: public})


def _signature_key(credential: str, user_id: str, device_id: str) -> bytes:
    """The Ed25519 key in a BasicCredential ``{user_id<V>, device_id<V>, signature_key<V>}``."""
    try:
        reader = Reader(decode_base64(credential))
        named = reader.vector(), reader.vector()
        key = reader.vector()
        reader.finish()
    except MimiDecodeError as error:
        raise InvalidInput("the device's credential cannot be read") from error
    if named != (user_id.encode(), device_id.encode()):
        raise InvalidInput("the device's credential names another device")
    if len(key) != KEY_BYTES:
        raise InvalidInput("the device's signature key is not an Ed25519 key")
    return key
