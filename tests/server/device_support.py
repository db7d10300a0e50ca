"""Devices that sign what they say of themselves, as the draft has it."""

from __future__ import annotations

from typing import Any

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.signing import SigningKey
from linearized.room.devices import CREDENTIAL_KEY as CREDENTIAL


def vector(data: bytes) -> bytes:
    """An MLS variable-size vector of fewer than 16384 bytes (RFC 9420, 2.1.2)."""
    size = len(data)
    return (bytes([size]) if size < 64 else (0x4000 | size).to_bytes(2, "big")) + data


def signer(seed: str = "device") -> SigningKey:
    return SigningKey.generate("device", seed.encode().ljust(32, b"d")[:32])


def credential(user_id: str, device_id: str, key: bytes) -> str:
    return encode_base64(vector(user_id.encode()) + vector(device_id.encode()) + vector(key))


def device_object(
    user_id: str, device_id: str = "PHONE", *, key: SigningKey | None = None, **changes: Any
) -> JsonObject:
    """A signed device object; ``changes`` are made before it is signed."""
    own = key or signer()
    key_id = f"{CREDENTIAL}:{device_id}"
    said: JsonObject = {
        "device_id": device_id,
        "user_id": user_id,
        "algorithms": ["m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"],
        "keys": {key_id: credential(user_id, device_id, own.verify_key)},
        **changes,
    }
    signature = encode_base64(own.sign(canonical_json(said)))
    return {**said, "signatures": {user_id: {key_id: signature}}}
