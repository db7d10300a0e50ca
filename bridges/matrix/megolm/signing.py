"""Signed JSON (Matrix v1.16, Appendices, "Signing JSON") with the keys of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canonicaljson import encode_canonical_json
from vodozemac import Account, Ed25519PublicKey, Ed25519Signature

from bridges.matrix.megolm.errors import BadSignature

JsonObject = dict[str, Any]
# "The signatures and unsigned keys are not covered by the signature."
_NOT_COVERED = frozenset({"signatures", "unsigned"})


def signed(value: Mapping[str, Any], *, account: Account, user_id: str, key_id: str) -> JsonObject:
    """The object with one more signature: of ``user_id`` with the account's Ed25519 key, which is called
    ``key_id`` (without the algorithm).
    """
    signatures = {user: dict(keys) for user, keys in value.get("signatures", {}).items()}
    signature = account.sign(_covered(value)).to_base64()
    signatures.setdefault(user_id, {})[f"ed25519:{key_id}"] = signature
    return {**value, "signatures": signatures}


def check_signed(value: Mapping[str, Any], *, user_id: str, key_id: str, key: str) -> None:
    """Check the signature of ``user_id`` with the Ed25519 public key ``key`` (unpadded base64).

    Raises:
        BadSignature: it is missing or does not match.
    """
    signatures = value.get("signatures")
    own = signatures.get(user_id) if isinstance(signatures, dict) else None
    signature = own.get(f"ed25519:{key_id}") if isinstance(own, dict) else None
    if not isinstance(signature, str):
        raise BadSignature("there is no signature of the key that has to sign it")
    try:
        Ed25519PublicKey.from_base64(key).verify_signature(
            _covered(value), Ed25519Signature.from_base64(signature)
        )
    except ValueError as error:  # every error of the library is one; canonical JSON's, too
        raise BadSignature("the signature does not match") from error


def _covered(value: Mapping[str, Any]) -> bytes:
    covered: bytes = encode_canonical_json({k: v for k, v in value.items() if k not in _NOT_COVERED})
    return covered
