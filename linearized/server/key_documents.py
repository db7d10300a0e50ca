"""Key documents: ours, made; other servers', checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from linearized.exceptions import InvalidInput, SignatureError
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_key_id
from linearized.protocol.signing import KEY_BYTES, ServerIdentity, sign_json, verify_json

HOUR_MS = 3_600_000
# The draft: "Servers SHOULD use a timestamp approximately 12 hours into the future when responding with their
# keys."
OWN_VALIDITY_MS = 12 * HOUR_MS
# "valid_until_ts MUST be handled as the lesser of valid_until_ts and 7 days into the future".
LONGEST_VALIDITY_MS = 7 * 24 * HOUR_MS
MAX_KEYS = 50  # keys of one server; a dozen would be many


def own_document(identity: ServerIdentity, now: int) -> JsonObject:
    """Our own key document, signed (draft, ``GET /_matrix/key/v2/server``)."""
    document: JsonObject = {
        "server_name": identity.name,
        "valid_until_ts": now + OWN_VALIDITY_MS,
        "m.linearized": True,
        "verify_keys": {identity.key.key_id: {"key": encode_base64(identity.key.verify_key)}},
        # A rotation that broke off may have left the present key among the retired ones.
        "old_verify_keys": {
            key.key_id: {"key": encode_base64(key.verify_key), "expired_ts": key.expired_ts}
            for key in identity.retired
            if key.key_id != identity.key.key_id
        },
    }
    return sign_json(document, name=identity.name, key=identity.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocument:
    """A checked key document: ``current`` keys all signed it, ``expired`` says when old ones ceased."""

    server: str
    valid_until: int
    current: Mapping[str, bytes]
    old: Mapping[str, bytes]
    expired: Mapping[str, int]
    source: JsonObject


def parse_document(document: JsonObject, server: str, now: int) -> KeyDocument:
    """Check a key document that ``server`` is said to have published.

    Raises:
        InvalidInput: it is malformed, another server's, or not signed by any key it lists.
    """
    # The draft: "server_name MUST be the name of the server which is returning the keys."
    if document.get("server_name") != server:
        raise InvalidInput(f"the key document is not {server}'s")
    until = document.get("valid_until_ts")
    if not isinstance(until, int) or isinstance(until, bool):
        raise InvalidInput("valid_until_ts is not an integer")
    listed = _read_keys(document.get("verify_keys"))
    current: dict[str, bytes] = {}
    for key_id, (key, _) in listed.items():
        try:
            verify_json(document, name=server, keys={key_id: key})
        except SignatureError:
            continue  # a key that did not sign the document may be somebody else's
        current[key_id] = key
    if not current:
        raise SignatureError(f"the key document of {server} is signed by none of its keys")
    old = _read_keys(document.get("old_verify_keys", {}))
    return KeyDocument(
        server=server,
        valid_until=min(until, now + LONGEST_VALIDITY_MS),
        current=current,
        old={key_id: key for key_id, (key, _) in old.items()},
        expired={key_id: expired for key_id, (_, expired) in old.items()},
        source=document,
    )


def _read_keys(value: object) -> dict[str, tuple[bytes, int]]:
    if not isinstance(value, dict) or len(value) > MAX_KEYS:
        raise InvalidInput(f"keys are an object of at most {MAX_KEYS}")
    keys: dict[str, tuple[bytes, int]] = {}
    for key_id, item in value.items():
        if not is_key_id(key_id):
            continue  # another algorithm
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            raise InvalidInput("a key is an object with a base64 key")
        key = decode_base64(item["key"])
        expired = item.get("expired_ts", 0)
        if len(key) != KEY_BYTES or not isinstance(expired, int):
            raise InvalidInput("a key has the wrong length, or expired_ts is not an integer")
        keys[key_id] = (key, expired)
    return keys
