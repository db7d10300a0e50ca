"""What a device says of itself, signed: the draft's device object (Device Credentials), as it arrives.

::

    {"device_id", "user_id", "algorithms", "keys": {"m.mls.v1.credential.ed25519:<device>": BasicCredential},
     "signatures": {<user>: {<key ID>: signature}}}
"""

from __future__ import annotations

from typing import Final

import orjson

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import is_device_id
from linearized.room.credentials import ClientIdentity
from linearized.room.devices import FIELDS, published_key, verify_device
from linearized.store.base import Store

MAX_OBJECT_BYTES: Final = 16_384  # a credential and a signature take one; a device may list more algorithms


def checked(value: object, *, user_id: str, device_id: str | None = None) -> JsonObject:
    """The device object in ``value``, if it is ``user_id``'s (and ``device_id``'s) and signed by the device.

    Anything else in it (a display name, say) is not the device's to sign, and is dropped.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(value, dict):
        raise InvalidInput("a device object is an object")
    found = {name: value[name] for name in FIELDS if name in value}
    name = found.get("device_id")
    if not isinstance(name, str) or not is_device_id(name) or name != (device_id or name):
        raise InvalidInput("the device object is another device's")
    if len(canonical_json(found)) > MAX_OBJECT_BYTES:
        raise InvalidInput(f"the device object exceeds {MAX_OBJECT_BYTES} bytes")
    verify_device(found, user_id=user_id, device_id=name)
    return found


def published(store: Store, client: ClientIdentity) -> bytes | None:
    """The signature key that a device has published, as far as this server knows (``devices.Published``)."""
    found = store.device_objects(client.user_id).get(client.device_id)
    return published_key(orjson.loads(found)) if found is not None else None
