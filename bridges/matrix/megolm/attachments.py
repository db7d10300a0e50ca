"""Files in encrypted rooms (Matrix v1.16, "Sending encrypted attachments"): AES-CTR with a key of
their own, which the event carries.
"""

from __future__ import annotations

from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from linearized.client import UntrustedAnswer

_KEY_BYTES = 32
# The counter block: half of it random, half zero, so that no file's counter overflows into the random part.
_IV_BYTES, _RANDOM_IV_BYTES = 16, 8

JsonObject = dict[str, Any]


def seal_file(data: bytes, *, random: Callable[[int], bytes]) -> tuple[bytes, JsonObject]:
    """The file encrypted, and its ``EncryptedFile`` object, which lacks the ``url`` still."""
    key = random(_KEY_BYTES)
    iv = random(_RANDOM_IV_BYTES) + bytes(_IV_BYTES - _RANDOM_IV_BYTES)
    sealed = _ctr(data, key, iv)
    return sealed, {
        "v": "v2",
        "key": {
            "kty": "oct",
            "key_ops": ["encrypt", "decrypt"],
            "alg": "A256CTR",
            "k": urlsafe_b64encode(key).rstrip(b"=").decode(),
            "ext": True,
        },
        "iv": _unpadded(iv),
        "hashes": {"sha256": _unpadded(sha256(sealed).digest())},
    }


def open_file(data: bytes, file: Mapping[str, Any]) -> bytes:
    """Check and decrypt what stands at the URL of an ``EncryptedFile`` object.

    Raises:
        UntrustedAnswer: it is not the file the message meant, or encrypted in a way we do not know.
    """
    key, hashes = file.get("key"), file.get("hashes")
    if file.get("v") != "v2" or not isinstance(key, dict) or key.get("alg") != "A256CTR":
        raise UntrustedAnswer("the file is encrypted in a way we do not know")
    digest = _bytes(hashes.get("sha256") if isinstance(hashes, dict) else None)
    # AES-CTR authenticates nothing: without this anybody on the way could change what the file says.
    if sha256(data).digest() != digest:
        raise UntrustedAnswer("the file is not the one the message refers to")
    secret, iv = _bytes(key.get("k")), _bytes(file.get("iv"))
    if len(secret) != _KEY_BYTES or len(iv) != _IV_BYTES:
        raise UntrustedAnswer("the file's key is none")
    return _ctr(data, secret, iv)


def _ctr(data: bytes, key: bytes, iv: bytes) -> bytes:
    cipher = Cipher(AES(key), CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _unpadded(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode()


def _bytes(text: object) -> bytes:
    """What unpadded base64, in either alphabet, stands for; nothing for what is none."""
    if not isinstance(text, str):
        return b""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:  # refused by its length
        return b""
